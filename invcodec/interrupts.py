"""Ctrl-C at safe points only: it stops training or reading, but never separates a write from its bookkeeping.

Inside `deferred` a SIGINT is held back until the block ends, or until an `interruptible` block within it. Whatever
must happen as a whole (write a record, rename a file, close a recording) goes into the first, whatever may be abandoned
at any point (a training step, a blocking read) into the second. Both apply where Python's own handler of SIGINT is in
place: a program that handles or ignores the signal keeps doing so.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class _Shield:
    """The one SIGINT handler while any `deferred` block is open.

    Attributes:
        depth: how many such blocks are open.
        open: whether an `interruptible` block is open within the innermost one.
        pending: whether SIGINT arrived and was not let through yet.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.open = False
        self.pending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.pending = True
        if self.open:
            self.let_through()

    def let_through(self) -> None:
        if self.pending:
            # Cleanup must not be interrupted in turn.
            self.pending = self.open = False
            raise KeyboardInterrupt


_shield = _Shield()


# Classes rather than generators: an interrupt between a generator and its caller would leave it suspended.
class deferred:
    """Hold Ctrl-C back until the block ends, or the one that it is nested in; a context manager.

    Raises:
        KeyboardInterrupt: when the block ends, if SIGINT arrived meanwhile.
    """

    def __enter__(self) -> None:
        # Python runs signal handlers in the main thread only.
        main = threading.current_thread() is threading.main_thread()
        ours = _shield.depth > 0 or signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._applies = main and ours
        if not self._applies:
            return
        self._was_open, _shield.open = _shield.open, False
        if not _shield.depth:
            _shield.pending = self._was_open = False
            signal.signal(signal.SIGINT, _shield.handle)
        _shield.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._applies:
            return
        _shield.depth -= 1
        if _shield.depth:
            _shield.open = self._was_open
        else:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # An exception that is already on its way says more than the interrupt.
        if value is None and (_shield.open or not _shield.depth):
            _shield.let_through()


class interruptible:
    """Within `deferred`, let Ctrl-C through: a block whose work can be abandoned at any point; a context manager.

    Raises:
        KeyboardInterrupt: SIGINT arrived in the block, or before it in the deferred one.
    """

    def __enter__(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        self._opens = main and _shield.depth > 0 and not _shield.open
        if self._opens:
            _shield.open = True
            _shield.let_through()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opens:
            _shield.open = False
        if isinstance(value, SystemError) and (interrupt := _interrupt_behind(value)):
            raise interrupt from None


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The Ctrl-C that a SystemError stands for, if any.

    Where one comes in the call of a compiled function, Python sees functions that return although an exception is
    pending, and each time raises SystemError from it.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    return cause if isinstance(cause, KeyboardInterrupt) else None


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Turn the SystemError that Ctrl-C in the call of a compiled function causes into a KeyboardInterrupt."""
    try:
        yield
    except SystemError as error:
        if interrupt := _interrupt_behind(error):
            raise interrupt from None
        raise
