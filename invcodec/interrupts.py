"""Ctrl-C at safe points only: it can stop training or reading, and never falls between a step and its bookkeeping.

Inside `deferred` a SIGINT is remembered and becomes a KeyboardInterrupt where the block ends, or at once where
`interruptible` is open within it. Whatever must happen as a whole (write a record, rename a file, close a recording)
goes into the first, whatever may be abandoned at any point (a training step, a blocking read) into the second.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class _Shield:
    """The one SIGINT handler of the outermost `deferred` block."""

    def __init__(self) -> None:
        self.depth = 0
        self.open = False
        self.pending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.pending = True
        if self.open:
            self.raise_pending()

    def raise_pending(self) -> None:
        if self.pending:
            # What handles the interrupt must not be interrupted itself.
            self.pending = self.open = False
            raise KeyboardInterrupt


_shield = _Shield()


def _applies() -> bool:
    """Signals reach Python code in the main thread alone."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends, or the one that it is nested in.

    Raises:
        KeyboardInterrupt: when the block ends, if SIGINT arrived meanwhile.
    """
    if not _applies():
        yield
        return
    if _shield.depth:
        was_open, _shield.open = _shield.open, False
        try:
            yield
        finally:
            _shield.open = was_open
            if was_open:
                _shield.raise_pending()
        return
    _shield.pending, _shield.depth = False, 1
    before: Any = signal.signal(signal.SIGINT, _shield.handle)
    try:
        yield
    finally:
        _shield.depth = 0
        signal.signal(signal.SIGINT, before)
        if _shield.pending:
            _shield.pending = False
            # Whoever handled SIGINT before decides what it means.
            signal.raise_signal(signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within `deferred`, let Ctrl-C through: a block whose work can be abandoned at any point.

    Raises:
        KeyboardInterrupt: SIGINT arrived in the block, or before it in the deferred one.
    """
    with plain_interrupts():
        if not _applies() or not _shield.depth or _shield.open:
            yield
            return
        try:
            _shield.open = True
            _shield.raise_pending()
            yield
        finally:
            _shield.open = False


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Turn the SystemError that Ctrl-C in the call of a compiled function causes into a KeyboardInterrupt.

    There Python sees functions that return although an exception is pending, and each time raises SystemError from it.
    """
    try:
        yield
    except SystemError as error:
        cause: BaseException | None = error
        while isinstance(cause, SystemError):
            cause = cause.__cause__
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise
