"""The plan of a file that is encoded in segments: all that has to be the same in every piece, decided once.

A plan is a folder. `plan.json` says what is encoded and how, and lists the segments. `base.inv` is the first frame: all
segments start from it, so that each is spared learning the scene from nothing, and all look alike. `pieces/` has a file
for each segment once it is done, and `measured/` how hard each is, if a size is to be shared out among them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from invcodec.capture.capture import Capture, open_capture
from invcodec.coding.chain import StateReader
from invcodec.container.fields import read_map
from invcodec.container.head import Head
from invcodec.encoding.encode import ORIGIN, encode_first, origin_of
from invcodec.encoding.plan import check_numbers
from invcodec.encoding.rate import NO_TARGET, Costs, account
from invcodec.encoding.report import Progress
from invcodec.encoding.segment import Segment
from invcodec.encoding.settings import Settings
from invcodec.errors import InvError, UsageError
from invcodec.output import is_unfinished
from invcodec.segments.store import Store

SCHEMA = 1
"""Version of `plan.json`."""
_PLAN, _BASE = "plan.json", "base.inv"
_PARTS = (_PLAN, _BASE, "pieces", "measured")
"""All that a plan's folder holds."""
_MOST_BYTES = 1 << 26
"""Of `plan.json`; a million segments take less."""


@dataclass(frozen=True)
class Plan:
    """A plan as it is stored.

    Attributes:
        store: its folder.
        capture: where the capture was when the plan was made.
        outside: whether the capture may name files outside its folder.
        origin: what identifies the capture, as of `invcodec.encoding.encode.origin_of`.
        inventory: of the capture's files.
        settings: of the encode.
        base: SHA-256 of `base.inv`, in hexadecimal.
        segments: the frame numbers of each.
    """

    store: Store
    capture: str
    outside: bool
    origin: dict[str, Any]
    inventory: bytes
    settings: Settings
    base: str
    segments: tuple[range, ...]

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that tell whether pieces are of one plan: of all that is in it but for where things are."""
        content = self._content()
        for place in ("capture", "outside"):
            del content[place]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()[:16]

    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "capture": self.capture,
            "outside": self.outside,
            "origin": self.origin | {"fingerprint": self.origin["fingerprint"].hex()},
            "inventory": self.inventory.hex(),
            "settings": self.settings.to_dict(),
            "base": self.base,
            "segments": [[numbers.start, numbers.stop] for numbers in self.segments],
        }

    def save(self) -> None:
        """Write `plan.json`."""
        with self.store.writing(_PLAN) as file:
            file.write(json.dumps(self._content(), indent=1).encode() + b"\n")

    @classmethod
    def load(cls, place: str) -> Plan:
        """Read a plan.

        Raises:
            UsageError: there is none, or it is not one of this version.
        """
        store = Store(place)
        if not store.has(_PLAN):
            raise UsageError(f"{store.name(_PLAN)}: no such file; 'invcodec segments plan' makes it")
        try:
            with store.opened(_PLAN) as path:
                if path.stat().st_size > _MOST_BYTES:
                    raise ValueError("it is too large")
                content = json.loads(path.read_bytes())
            if content["schema"] != SCHEMA:
                raise ValueError(f"its version is {content['schema']}")
            origin = content["origin"]
            origin = read_map(origin | {"fingerprint": bytes.fromhex(origin["fingerprint"])}, ORIGIN)
            segments = tuple(range(int(first), int(stop)) for first, stop in content["segments"])
            _check(segments, *origin["frames"])
            return cls(
                store,
                str(content["capture"]),
                bool(content["outside"]),
                origin,
                bytes.fromhex(content["inventory"]),
                Settings.from_dict(content["settings"]),
                str(content["base"]),
                segments,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OSError, InvError) as error:
            raise UsageError(f"{store.name(_PLAN)}: is not a plan of this version ({error}); make it anew") from None

    def open_capture(self, place: str | None = None) -> Capture:
        """The capture that the plan is for.

        Args:
            place: where it is now, if that is not where it was.

        Raises:
            CaptureError: as `invcodec.open_capture`.
            UsageError: it has changed, or is another one.
        """
        place = self.capture if place is None else place
        names = ("layout", "source", "downscale", "holdout", "alpha")
        first, stop = self.origin["frames"]
        options = {name: self.origin[name] for name in names}
        capture = open_capture(place, frames=(first, stop), outside=self.outside, **options)
        if (
            capture.fingerprint() != self.origin["fingerprint"]
            or capture.inventory() != self.inventory
            or capture.numbers.stop != stop
        ):
            raise UsageError(
                f"{place}: is not the capture that {self.store.place} was planned for (its cameras, pixels or files "
                "differ); make another plan"
            )
        return capture

    @contextmanager
    def opened_base(self) -> Iterator[StateReader]:
        """The file with the frame that segments start from.

        Raises:
            UsageError: it is missing, or not the one that the plan was made with.
        """
        with self.store.opened(_BASE) as path:
            try:
                found = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise UsageError(f"{self.store.name(_BASE)}: cannot be read ({error.strerror})") from None
            if found != self.base:
                raise UsageError(f"{self.store.name(_BASE)}: is not the one that the plan was made with")
            with StateReader(path) as reader:
                yield reader

    def numbers(self, index: int) -> range:
        """The frames of a segment.

        Raises:
            UsageError: there is no such segment.
        """
        if not 0 <= index < len(self.segments):
            raise UsageError(f"{self.store.place}: has segments 0 to {len(self.segments) - 1}, and none {index}")
        return self.segments[index]

    @property
    def shares_size(self) -> bool:
        """Whether segments have to be measured before they are encoded, to share out a target size."""
        return self.settings.target.size is not None

    def segment(self, index: int, head: Head, hardness: Sequence[float] = ()) -> Segment:
        """A segment with its share of the bytes.

        Args:
            head: of `base.inv`.
            hardness: bytes that each segment takes at the same quality, if `shares_size`.
        """
        target, numbers = self.settings.target, self.numbers(index)
        costs, budget = _costs(head), None
        if target.bitrate is not None:
            flow = Fraction(target.bitrate, 8) * len(numbers) / head.frame_rate
            budget = int(flow) - len(numbers) * costs.row - (costs.fixed if index == 0 else 0)
        elif target.size is not None:
            frames = sum(len(each) for each in self.segments)
            # Each frame has room for a record that changes nothing; what is left is shared out.
            left = target.size - costs.fixed - frames * (costs.row + costs.empty)
            budget = len(numbers) * costs.empty + int(left * hardness[index] / sum(hardness))
        return Segment(self.digest, numbers, budget)


def _check(segments: Sequence[range], first: int, stop: int) -> None:
    """Check that segments make up the frames of a file.

    Raises:
        ValueError
    """
    ends = [first, *(numbers.stop for numbers in segments)]
    follow = all(numbers.start == end < numbers.stop for numbers, end in zip(segments, ends, strict=False))
    if not (segments and follow and ends[-1] == stop and 0 <= first < stop < 2**63):
        raise ValueError("its segments do not make up its frames")


def _costs(head: Head) -> Costs:
    """What is known of a file's bytes before any of it is measured."""
    return Costs.of(head, 0.0, 0.0)


def check_place(folder: Path) -> None:
    """Refuse a folder that holds anything but a plan and its pieces, before one is made there to be removed later.

    Raises:
        UsageError: names what else it holds.
    """
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in found if name not in _PARTS and not is_unfinished(name)]:
        raise UsageError(f"{folder}: holds '{others[0]}', which no encode put there; move it, or give --pieces")


def make_plan(
    place: str,
    capture: Capture,
    settings: Settings,
    segments: Sequence[range],
    *,
    progress: Progress | None = None,
) -> Plan:
    """Make a plan, which takes as long as training the first frame; or find it there.

    Args:
        place: folder of the plan, or a URL.
        segments: ranges that make up the capture's frames.

    Raises:
        UsageError: there is another plan, or a target that no encode can reach.
        Interrupted: stopped by Ctrl-C.
    """
    check_numbers(capture.numbers, capture.fps)
    store = Store(place)
    # Quality and bytes of a target are those of pieces: the base is only where they start.
    base_settings = replace(settings, target=NO_TARGET)
    origin = read_map(origin_of(capture), ORIGIN)
    folder, inventory = str(capture.folder.absolute()), capture.inventory()
    plan = Plan(store, folder, capture.outside, origin, inventory, settings, "", tuple(segments))
    if store.has(_PLAN):
        there = Plan.load(place)
        if differing := _difference(there, plan):
            raise UsageError(f"{store.place}: holds another plan (its {differing}); choose another place, or remove it")
        return there
    with store.writing(_BASE) as file:
        encode_first(capture, file, base_settings, progress=progress)
    with store.opened(_BASE) as path:
        plan = replace(plan, base=hashlib.sha256(path.read_bytes()).hexdigest())
    with plan.opened_base() as base:
        account(settings.target, _costs(base.head), capture.fps, len(capture.numbers), settings.key_every)
    plan.save()
    return plan


def _difference(one: Plan, other: Plan) -> str | None:
    """How two plans differ, in words; None if they do not."""
    if one.origin != other.origin or one.inventory != other.inventory:
        names = [name for name in one.origin if one.origin[name] != other.origin.get(name)]
        return f"capture differs in {', '.join(names) or 'its files'}"
    mine, yours = one.settings.to_dict(), other.settings.to_dict()
    if names := [name for name in mine if mine[name] != yours[name]]:
        return f"settings differ in {', '.join(names)}"
    return None if one.segments == other.segments else "segments differ"
