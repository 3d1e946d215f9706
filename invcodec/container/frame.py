"""The structured part of KEY and DELTA records (FORMAT.md, "KEY and DELTA")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from invcodec.container.canonical import pack, packed_size, unpack
from invcodec.container.fields import INTEGER, Codec, ListStructure, binary, integer, list_of, nested, optional, within
from invcodec.container.head import CAMERAS, Head
from invcodec.container.records import RecordHeader, RecordType
from invcodec.errors import DamagedError, InvError
from invcodec.geometry.camera import Camera
from invcodec.limits import MAX_QP, MAX_TICKS, MIN_QP
from invcodec.metrics import Fidelity

DIGEST_BYTES = 8
"""Enough to detect mistakes: a wrong state passes once in 2^64 times. It is no defence against forgery."""

FRAME_NUMBER = integer(-(2**63), 2**63 - 1)
TICKS = integer(-MAX_TICKS, MAX_TICKS)

Stage = Literal["key", "all", "lead", "refresh"]
STAGES: tuple[Stage, ...] = get_args(Stage)


def _read_stage(value: Any) -> Stage | None:
    """Other stages may occur, and mean nothing in this draft."""
    stage = optional(INTEGER).read(value)
    return STAGES[stage] if stage is not None and 0 <= stage < len(STAGES) else None


def _read_captured(value: Any) -> int | None:
    """Other values may occur, and mean nothing in this draft."""
    return value if type(value) is int else None


STAGE = Codec(_read_stage, lambda stage: None if stage is None else STAGES.index(stage))
CAPTURED = Codec(_read_captured)


@dataclass(frozen=True)
class Stats(ListStructure):
    """Per-frame encoder statistics; each is None if it is not known.

    Attributes:
        stage: one of `STAGES`.
        steps: training steps.
        centidecibels: quality, as PSNR in hundredths of a decibel.
        centidecibels_moving: that of pixels that changed since the frame before.
        permille_moving: share of the pixels that did, in thousandths.
        captured: when a live frame was captured, in milliseconds since 1970 (UTC).
    """

    extensible: ClassVar[bool] = True

    stage: Annotated[Stage | None, STAGE] = None
    steps: Annotated[int | None, optional(INTEGER)] = None
    centidecibels: Annotated[int | None, optional(INTEGER)] = None
    centidecibels_moving: Annotated[int | None, optional(INTEGER)] = None
    permille_moving: Annotated[int | None, optional(INTEGER)] = None
    captured: Annotated[int | None, CAPTURED] = None

    @classmethod
    def of(cls, stage: Stage, steps: int, fidelity: Fidelity, captured: int | None = None) -> Self:
        """The statistics of a frame whose pixels have this fidelity."""

        def whole(value: float | None, parts: int) -> int | None:
            return None if value is None else round(parts * value)

        return cls(
            stage,
            steps,
            whole(fidelity.psnr, 100),
            whole(fidelity.psnr_moving, 100),
            whole(fidelity.moving_share, 1000),
            captured,
        )

    @property
    def fidelity(self) -> Fidelity | None:
        """PSNR in dB as the encoder measured it, or None."""
        if self.centidecibels is None:
            return None
        moving, share = self.centidecibels_moving, self.permille_moving
        return Fidelity(
            self.centidecibels / 100,
            None if moving is None else moving / 100,
            None if share is None else share / 1000,
        )

    def to_plain(self) -> list[Any]:
        """Unknown values at the end are left out."""
        values = super().to_plain()
        while values and values[-1] is None:
            values.pop()
        return values

    @classmethod
    def from_plain(cls, value: Any) -> Self:
        return super().from_plain([*value, *[None] * len(cls.fields())] if isinstance(value, list) else value)


NO_STATS = Stats()


@dataclass(frozen=True)
class FrameHead(ListStructure):
    """The header of a frame: the structured part of a KEY or DELTA record.

    Attributes:
        time: presentation time in ticks of HEAD's time base.
        reference: number of the frame that a DELTA changes; None in a KEY.
        digest: of the integer state after this record.
        coder: id of the coder of the values that follow.
        qps: quantisation parameter of every tensor, in table order, in a KEY; None in a DELTA.
        stats: encoder statistics.
        cameras: a complete camera list that applies from this frame on, or None.
    """

    extensible: ClassVar[bool] = True

    time: Annotated[int, TICKS]
    reference: Annotated[int | None, optional(FRAME_NUMBER)]
    digest: Annotated[bytes, binary(DIGEST_BYTES)]
    coder: Annotated[int, integer(0, 255)]
    qps: Annotated[tuple[int, ...] | None, optional(list_of(integer(MIN_QP, MAX_QP)))]
    stats: Annotated[Stats, nested(Stats)] = NO_STATS
    cameras: Annotated[tuple[Camera, ...] | None, optional(CAMERAS)] = None

    @property
    def is_key(self) -> bool:
        return self.reference is None

    def check_fits(self, header: RecordHeader, head: Head) -> None:
        """Compare with the record that it is in, and with the tensors and cameras that the file declares.

        Raises:
            DamagedError
        """
        if self.is_key != (header.type == RecordType.KEY):
            raise DamagedError("its record's type does not fit its reference")
        if self.qps is not None and len(self.qps) != sum(len(network.tensors) for network in head.networks):
            raise DamagedError("it does not give the qp of every tensor")
        if self.cameras is not None and [c.name for c in self.cameras] != [c.name for c in head.cameras]:
            raise DamagedError("its cameras are not those of the header")

    def to_bytes(self) -> bytes:
        return pack(self.to_plain())

    @classmethod
    def split(cls, payload: bytes) -> tuple[FrameHead, bytes]:
        """The frame header at the beginning of a frame's payload, and the coded values that follow it.

        Raises:
            DamagedError, LimitError
        """
        size = packed_size(payload, "frame header")
        value = unpack(payload[:size], "frame header")
        try:
            frame = cls.from_plain(value)
            if frame.is_key != (frame.qps is not None):
                raise DamagedError("a keyframe has qps, a delta has none")
        except InvError as error:
            raise within("frame header", error) from None
        return frame, payload[size:]
