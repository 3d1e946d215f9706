"""Segments on a Ray cluster (extra `cluster`): here, or any that people have.

Ray places tasks, finds lost workers and starts their tasks again. What it does not know is decided here: a segment that
failed for lack of memory is tried with more of it to itself, one whose piece could not be written is tried on another
machine, and one whose input is bad is not tried again.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from invcodec.capture.capture import Capture
from invcodec.encoding.report import FrameReport, Progress
from invcodec.encoding.settings import Settings
from invcodec.errors import Interrupted, InvError, UsageError
from invcodec.segments.encode import WithinProgress, interrupted
from invcodec.segments.piece import encode_piece, measure
from invcodec.segments.plan import Plan, make_plan
from invcodec.segments.store import Store

_TRIES = 3
"""Of a segment that fails for a reason that may pass."""
_LOST = 4
"""How often Ray starts a task again whose worker, or machine, was lost; preemptible machines are lost often."""
_WAITING = 64
"""Tasks handed to Ray beyond those that can run at once: it sees that there is more, and its queue stays short."""
_LEAST_MEMORY, _PIXEL_MEMORY = 600_000_000, 160
"""Bytes that an encode takes: of libraries and a small network, and for each training pixel."""
_STORE_BYTES = 80 << 20
"""Of the object store of a cluster that is started here: only reports go through it."""
_STOPPING = 10.0
"""Seconds in which tasks that are cancelled can remove what they have begun."""


@dataclass(frozen=True)
class Resources:
    """What a task reserves on a machine.

    Attributes:
        cpus, gpus: how many; a fraction of a GPU shares it.
        memory: bytes.
    """

    cpus: float
    gpus: float
    memory: int


def resources(capture: Capture, settings: Settings, gpus: float) -> Resources:
    """What encoding a segment of a capture takes: its threads, and memory by the size of its pictures."""
    pixels = sum(capture.cameras[index].width * capture.cameras[index].height for index in capture.training)
    return Resources(settings.threads, gpus, _LEAST_MEMORY + _PIXEL_MEMORY * pixels)


@dataclass(frozen=True)
class _Failed:
    """Why a task failed, on which machine, and whether to try again; `error` is None for lack of memory."""

    error: InvError | None
    node: str
    retry: bool = True


@dataclass(order=True)
class _Task:
    """Something to do for a segment; those that take longest come first."""

    rank: float
    index: int
    memory: int = field(compare=False)
    tries: int = field(default=0, compare=False)
    avoid: frozenset[str] = field(default=frozenset(), compare=False)


def _attempt(work: Callable[..., Any], *given: Any) -> Any:
    """The result of a call on a worker, or why there is none."""
    node = ray.get_runtime_context().get_node_id()
    try:
        return work(*given)
    except InvError as error:
        # A disk may be full here alone; what is wrong with the input is wrong everywhere.
        return _Failed(error, node, retry=error.exit_code == InvError.exit_code)
    except OSError as error:
        return _Failed(InvError(f"{error.filename or 'reading or writing failed'}: {error.strerror or error}"), node)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        return _Failed(None, node)


class RayCluster:
    """Encodes on a cluster; a context manager. See `invcodec.segments.encode.Scheduler`.

    Args:
        address: "local" to start one on this machine, which ends with the context; or one to join, such as
            "ray://host:10001", "host:6379" or "auto".
        gpus: of each segment, also a fraction; if None, one where the settings' device allows it and there are any.

    Raises:
        UsageError: it cannot be reached.
    """

    def __init__(self, address: str, *, gpus: float | None = None) -> None:
        self._address = address
        self._gpus = gpus

    def __enter__(self) -> RayCluster:
        # What this process has joined already is used.
        self._joined = not ray.is_initialized()
        if not self._joined:
            return self
        # Nothing of what is encoded is anybody else's business.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self._address == "local":
            options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        try:
            ray.init(self._address, **options)
        except (ConnectionError, ValueError, RuntimeError, RayError, TimeoutError) as error:
            raise UsageError(f"no cluster of Ray at '{self._address}': {_line(error)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined:
            ray.shutdown()

    def plan(
        self,
        place: str,
        capture: Capture,
        settings: Settings,
        segments: Sequence[range],
        *,
        progress: Progress,
    ) -> Plan:
        """As of `Scheduler`, on one of the machines."""
        found: list[Plan] = []
        given = (Store(place).place, capture.absolute(), settings, segments)
        failures = run(_plan, given, [0.0], self._needs(capture, settings), lambda _, plan: found.append(plan))
        if failures:
            raise failures[0]
        return found[0]

    def encode(self, plan: Plan, capture: Capture, progress: WithinProgress) -> None:
        """As of `Scheduler`; segments that fail do not stop the others."""
        needs = self._needs(capture, plan.settings)
        # Once for all tasks.
        shared = ray.put(plan), ray.put(capture.absolute())
        lengths = [float(len(numbers)) for numbers in plan.segments]
        finished = 0

        def encoded(index: int, reports: list[FrameReport]) -> None:
            nonlocal finished
            finished += 1
            progress.segment_done(plan.segments[index], reports)

        try:
            if plan.shares_size:
                measured = [0.0] * len(lengths)
                _check(run(measure, shared, lengths, needs, measured.__setitem__), plan)
                lengths = measured
            _check(run(encode_piece, shared, lengths, needs, encoded), plan)
        except (KeyboardInterrupt, Interrupted):
            raise interrupted(finished, plan) from None

    def each(
        self,
        work: Callable[..., Any],
        given: Sequence[Any],
        count: int,
        done: Callable[[int, Any], None],
        *,
        threads: int,
    ) -> dict[int, InvError]:
        """Have a number of tasks done, of which nothing is known but the threads of each; as `run`."""
        needs = self._possible(Resources(threads, self._share(True), _LEAST_MEMORY))
        return run(work, given, [0.0] * count, needs, done)

    def _share(self, wanted: bool) -> float:
        """The GPUs of a task: as many as were given; otherwise one if it wants any and there are any."""
        if self._gpus is not None:
            return self._gpus
        return float(wanted and any(machine.get("GPU") for machine in _machines()))

    def _needs(self, capture: Capture, settings: Settings) -> Resources:
        """What a segment reserves.

        Raises:
            UsageError: no machine has it.
        """
        return self._possible(resources(capture, settings, self._share(settings.device != "cpu")))

    @staticmethod
    def _possible(needs: Resources) -> Resources:
        """These resources, if a machine has them.

        Raises:
            UsageError: none has.
        """
        machines = list(_machines())

        def most(name: str) -> float:
            return max((machine.get(name, 0.0) for machine in machines), default=0.0)

        for name, needed, option in (("CPU", needs.cpus, "--threads"), ("GPU", needs.gpus, "--gpus")):
            if needed > most(name):
                raise UsageError(
                    f"a task takes {needed:g} {name}s, and no machine of the cluster has more than {most(name):g}; "
                    f"give fewer with {option}"
                )
        # That is an estimate: one task at a time may do.
        return replace(needs, memory=min(needs.memory, int(most("memory"))))


def _plan(place: str, capture: Capture, settings: Settings, segments: Sequence[range], _: int) -> Plan:
    return make_plan(place, capture, settings, segments)


def _machines() -> Iterable[dict[str, float]]:
    """The resources of each machine that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _others(avoid: frozenset[str]) -> bool:
    """Whether there is any machine but these."""
    return any(node["NodeID"] not in avoid for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))


def _at_once(needs: Resources) -> int:
    """How many tasks can run at once."""
    return int(sum(machine.get("CPU", 0.0) for machine in _machines()) / needs.cpus)


def run(
    work: Callable[..., Any],
    given: Sequence[Any],
    lengths: Sequence[float],
    needs: Resources,
    done: Callable[[int, Any], None],
) -> dict[int, InvError]:
    """Have tasks done, those that take longest first.

    Args:
        work: called with `given` and the number of a task.
        lengths: how long each task takes, in any unit.
        needs: of each.
        done: called with the number and the result of each, in any order.

    Returns:
        Why some could not be done, by their numbers; all others are.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was running is stopped.
    """
    waiting = [_Task(-length, index, needs.memory) for index, length in enumerate(lengths)]
    heapq.heapify(waiting)
    running: dict[ray.ObjectRef, _Task] = {}
    failures: dict[int, InvError] = {}
    remote = ray.remote(_attempt)
    at_once = _WAITING + _at_once(needs)

    def start(task: _Task) -> None:
        reference = remote.options(
            # Ray keeps what it counts of each name: one for each task would take 2 kB of the driver's memory for ever.
            name=work.__name__,
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=task.memory,
            max_retries=_LOST,
            # Ray would try again in the same place and with the same memory.
            retry_exceptions=False,
            label_selector={"ray.io/node-id": f"!in({','.join(sorted(task.avoid))})"} if task.avoid else None,
        ).remote(work, *given, task.index)
        running[reference] = task

    def again(task: _Task, failed: _Failed) -> bool:
        """Try a task again if that may help."""
        task.tries += 1
        if task.tries >= _TRIES or not failed.retry:
            return False
        if failed.error is None:
            most = max(int(machine.get("memory", 0.0)) for machine in _machines())
            if task.memory >= most:
                return False
            task.memory = min(2 * task.memory, most)
        elif _others(task.avoid | {failed.node}):
            task.avoid |= {failed.node}
        heapq.heappush(waiting, task)
        return True

    def release() -> None:
        """Let tasks that wait for a machine which is no longer there go where they failed."""
        for reference, task in list(running.items()):
            if task.avoid and not _others(task.avoid):
                ray.cancel(reference)
                del running[reference]
                task.avoid = frozenset()
                heapq.heappush(waiting, task)

    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                start(heapq.heappop(waiting))
            ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            if not ready:
                # Machines come and go.
                at_once = _WAITING + _at_once(needs)
                release()
            for reference in ready:
                task = running.pop(reference)
                result = _result(reference)
                if not isinstance(result, _Failed):
                    done(task.index, result)
                elif not again(task, result):
                    failures[task.index] = result.error or InvError("out of memory; try a larger --downscale")
    except BaseException:
        _stop(running)
        raise
    return failures


def _result(reference: ray.ObjectRef) -> Any:
    """The result of a task that has ended; what is no error of the codec is not tried again."""
    try:
        return ray.get(reference)
    except OutOfMemoryError:
        return _Failed(None, "")
    except RayTaskError as error:
        return _Failed(InvError(f"{type(error.cause).__name__}: {_line(error.cause)}"), "", retry=False)
    except RayError as error:
        return _Failed(InvError(f"its worker was lost {_LOST + 1} times ({_line(error)})"), "", retry=False)


def _line(error: Exception) -> str:
    """The first line of a message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _stop(running: Iterable[ray.ObjectRef]) -> None:
    """Interrupt tasks, and give them time to remove what they have begun."""
    left = list(running)
    with suppress(RayError, KeyboardInterrupt):
        for reference in left:
            ray.cancel(reference)
        if left:
            ray.wait(left, num_returns=len(left), timeout=_STOPPING)


def _check(failures: dict[int, InvError], plan: Plan) -> None:
    """Raise one error for those of some segments; its kind is that of the first."""
    if failures:
        index, count = min(failures), len(plan.segments)
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise type(failures[index])(
            f"segment {index}: {failures[index]}{more}; {count - len(failures)} of {count} segments are done, and the "
            "same command tries again what is left"
        )
