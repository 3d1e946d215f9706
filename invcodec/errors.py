"""Every error the codec raises on purpose, and the exit code each one gives the command line.

A message is one line that says what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class InvError(Exception):
    """Base of all deliberate errors; `exit_code` is what a command exits with (FORMAT.md, "Exit codes")."""

    exit_code = 1


class UsageError(InvError):
    """The request cannot be met as asked: a path, frame, pose or option is wrong."""

    exit_code = 2


class FrameNotFoundError(UsageError, KeyError):
    """No frame has the number that was asked for; the message names its neighbours."""

    # KeyError shows its message in quotes.
    __str__ = Exception.__str__


class CaptureError(UsageError):
    """The input capture is missing, inconsistent or unreadable."""


class DamagedError(InvError):
    """Bytes are missing or fail their checksum.

    Attributes:
        offset: byte offset in the file where the damage begins, if known.
        frame: number of the frame that is lost, if known.
    """

    exit_code = 3

    def __init__(self, message: str, *, offset: int | None = None, frame: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.frame = frame


class UnsupportedError(InvError):
    """The file is sound but needs a version, profile or coder that this decoder lacks."""

    exit_code = 4


class LimitError(InvError):
    """A size in the file exceeds a documented limit (`invcodec.limits`)."""

    exit_code = 5


class Interrupted(InvError):
    """Stopped by the user; the file written so far is valid and can be resumed."""

    exit_code = 130


class InvWarning(UserWarning):
    """A fallback was taken; the command line prints it on one line."""
