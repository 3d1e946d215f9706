"""The command line: parse, call the library, print. One module per command, imported when it is used."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from invcodec.errors import InvError, InvWarning
from invcodec.interrupts import plain_interrupts
from invcodec.version import __version__

_COMMANDS = {
    "encode": ("encode", "command"),
    "decode": ("decode", "command"),
    "info": ("info", "command"),
    "view": ("view", "command"),
    "serve": ("serve", "command"),
    "eval": ("evaluate", "command"),
    "inspect": ("inspect", "command"),
    "transcode": ("transcode", "command"),
    "verify": ("verify", "command"),
    "repair": ("edit", "repair"),
    "cut": ("edit", "cut"),
    "concat": ("edit", "concat"),
    "synth": ("synth", "command"),
}
"""Module of each command and its name there, in the order of `--help`."""


class _Commands(click.Group):
    """Imports a command when it is asked for, so that `info` need not wait for what `encode` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        return getattr(import_module(f".{module}", __package__), name)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done; 1 failure; 2 usage, including a bad path, frame or pose; 3 the file is damaged or "
        "truncated, also when partly recovered; 4 it needs something that this version lacks; 5 it exceeds a limit; "
        "130 interrupted, an encode can be resumed."
    ),
)
@click.version_option(__version__, prog_name="invcodec", message="%(prog)s %(version)s")
def _commands() -> None:
    """A video codec for radiance fields.

    Encode a multi-view video into one file, and view any moment of it from anywhere:

    \b
      invcodec encode capture/ out.inv
      invcodec decode out.inv --frame 42 --pose
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; whatever goes wrong is one line on standard error."""
    try:
        with plain_interrupts(), warnings.catch_warnings():
            warnings.showwarning = _warn
            code = _commands.main(arguments, prog_name="invcodec", standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        ctx = getattr(error, "ctx", None)
        hint = f" (see '{ctx.command_path} -h')" if ctx else ""
        return _fail(error.format_message().rstrip("."), error.exit_code, hint)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)
    except InvError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough. Whatever is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'standard output'}: {error.strerror or error}", 1)
    except MemoryError:
        return _fail("out of memory; try a smaller --size, or --downscale when encoding", 1)
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(what, 1, " (a defect; INVCODEC_DEBUG=1 shows where, please report it)")


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    text = str(message) if issubclass(category, InvWarning) else f"{category.__name__}: {message}"
    print(f"invcodec: {' '.join(text.split())}", file=sys.stderr)


def _fail(message: str, code: int, hint: str = "") -> int:
    if os.environ.get("INVCODEC_DEBUG"):
        traceback.print_exc()
    print(f"invcodec: {' '.join(message.split())}{hint}", file=sys.stderr)
    return code
