"""Where a `Video` gets its frames from: a file, a pipe, or a file that is still being written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from invcodec.coding.state import State
from invcodec.container.frame import Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, FrameList
from invcodec.geometry.camera import Camera


class StateSource(Protocol):
    """Random access to the decoded state of each frame.

    `invcodec.coding.chain.StateReader` reads files, `invcodec.decoding.stream.PipedFrame` takes one frame from a pipe,
    and `invcodec.streaming.followed.FollowedFile` follows a file that is being written. Methods that take a frame
    number raise `FrameNotFoundError` if there is no such frame, and `DamagedError` if its record is unsound.

    Attributes:
        name: of the file, for messages.
        path: of the file, for the names of outputs.
        head: the file's header.
        frames: the frames that can be read, in presentation order.
        status: see `invcodec.container.reader.Reader`.
        problems: one line for each defect of the file.
        size: of the file, in bytes.
    """

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def head(self) -> Head: ...
    @property
    def frames(self) -> FrameList: ...
    @property
    def status(self) -> str: ...
    @property
    def problems(self) -> Sequence[str]: ...
    @property
    def size(self) -> int: ...
    def entry(self, number: int) -> FrameEntry:
        """Where the frame is, and what its record says."""
        ...

    def state_at(self, number: int) -> State:
        """The networks' decoded weights."""
        ...

    def stats_at(self, number: int) -> Stats:
        """The encoder's statistics of the frame."""
        ...

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        """The rig at the frame."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...
