"""`invcodec encode --batch`: many captures, each by a command line of its own."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from invcodec.errors import Interrupted, InvError, UsageError
from invcodec.places import located

from .terminal import note, say, say_json

_MOST_BYTES = 1 << 26
"""Of a list."""


def read_list(command: click.Command, path: Path, threads: int) -> list[list[str]]:
    """The arguments of `encode` for each line of a list, which is a JSON object.

    Args:
        command: `encode`, which checks them.
        threads: of each, unless its line says otherwise.

    Raises:
        UsageError: names the line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path}: is too large for a list of captures")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            arguments = _arguments(json.loads(line), threads)
            params = command.make_context("encode", list(arguments)).params
            if unfit := [name for name in ("batch", "live", "cluster", "serve") if params[name]]:
                raise ValueError(f"--{unfit[0]} cannot be in a list")
            if arguments[-1] in found:
                raise ValueError(f"{arguments[-1]} is the output of another line")
        except click.ClickException as error:
            raise UsageError(f"{path}: line {number}: {error.format_message().rstrip('.')}") from None
        except (InvError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: line {number}: {error}") from None
        found[arguments[-1]] = arguments
    return list(found.values())


def _arguments(item: Any, threads: int) -> list[str]:
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("capture", "output")):
        raise ValueError('is not an object with "capture" and "output"')
    given = ["--threads", str(threads), "--progress", "none"]
    for name, value in item.items():
        if name in ("capture", "output"):
            continue
        option = name.replace("_", "-")
        if option == "pieces":
            value = _absolute(value)
        if isinstance(value, bool):
            given.append(f"--{option}" if value else f"--no-{option}")
        else:
            for each in value if isinstance(value, list) else [value]:
                given += [f"--{option}", str(each)]
    return [*given, "--", _absolute(item["capture"]), _absolute(item["output"])]


def _absolute(place: object) -> str:
    """A path or URL for workers of a cluster, which are in other folders."""
    return str(located(str(place)).absolute())


def encode(listed: Sequence[Sequence[str]], index: int) -> dict[str, Any]:
    """Encode one item of a list, unless its output is complete; what a run before left is continued.

    Raises:
        InvError: that may pass, such as a full disk.
    """
    from invcodec.container.reader import Reader

    from . import _commands

    command = _commands.get_command(click.Context(_commands), "encode")
    assert command is not None
    arguments = list(listed[index])
    output = Path(arguments[-1])
    status = {"output": str(output), "status": "done"}
    try:
        if output.exists() and not command.make_context("encode", list(arguments)).params["force"]:
            with Reader(output) as reader:
                if reader.status == "complete":
                    return status | {"status": "there"}
            outside = [each for each in arguments if each == "--outside"]
            arguments = ["--resume", "--progress", "none", *outside, *arguments[-3:]]
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *rest: note(f"{output}: {message}")
            command.main(arguments, prog_name="invcodec encode", standalone_mode=False)
        with Reader(output) as reader:
            return status | {"frames": len(reader.frames), "bytes": reader.size}
    except Interrupted:
        raise
    except (InvError, click.ClickException) as error:
        if isinstance(error, InvError) and error.exit_code == 1:
            raise
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        return status | {"status": "failed", "error": message, "exit_code": error.exit_code}


def run(
    listed: Sequence[Sequence[str]],
    schedule: Callable[[Callable[..., Any], tuple[Any, ...], int, Callable[[int, Any], None]], dict[int, InvError]],
    *,
    as_json: bool,
) -> int:
    """Encode all items, and say of each how that ended; returns the exit code, that of the first failure.

    Args:
        schedule: has a function called, with the given arguments and each number up to a count, and another one with
            the number and the result of each; returns the errors of the others.
    """
    codes: dict[int, int] = {}
    counts = {"done": 0, "there": 0, "failed": 0}

    def ended(index: int, status: dict[str, Any]) -> None:
        counts[status["status"]] += 1
        if status["status"] == "failed":
            codes[index] = status["exit_code"]
        if as_json:
            say_json(status, indent=None)
        else:
            why = f": {status['error']}" if status["status"] == "failed" else ""
            say(f"{status['output']}: {status['status']}{why}")

    failures = schedule(encode, (listed,), len(listed), ended)
    for index, error in failures.items():
        ended(
            index,
            {"output": listed[index][-1], "status": "failed", "error": str(error), "exit_code": error.exit_code},
        )
    say(", ".join(f"{count} {name}" for name, count in counts.items()), err=True)
    return codes[min(codes)] if codes else os.EX_OK


def one_after_another(
    work: Callable[..., Any], given: tuple[Any, ...], count: int, ended: Callable[[int, Any], None]
) -> dict[int, InvError]:
    """In this process."""
    failures: dict[int, InvError] = {}
    for index in range(count):
        try:
            ended(index, work(*given, index))
        except Interrupted:
            raise Interrupted(f"interrupted; {index} of {count} are done, and the same command continues") from None
        except InvError as error:
            failures[index] = error
    return failures
