"""The command line: parses arguments, calls the library and prints. Each command's module is imported on use."""

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

from .terminal import note

_COMMANDS = {
    "Encode": {
        "sync": ("sync", "command"),
        "calibrate": ("calibrate", "command"),
        "inspect": ("inspect", "command"),
        "encode": ("encode", "command"),
        "segments": ("segments", "command"),
        "transcode": ("transcode", "command"),
    },
    "Decode and view": {
        "decode": ("decode", "command"),
        "export": ("export", "command"),
        "view": ("view", "command"),
        "serve": ("serve", "command"),
        "eval": ("evaluate", "command"),
        "report": ("report", "command"),
        "analyze": ("analyze", "command"),
    },
    "Change": {
        "mix": ("mix", "command"),
        "recolour": ("recolour", "command"),
    },
    "Files": {
        "info": ("info", "command"),
        "verify": ("verify", "command"),
        "repair": ("edit", "repair"),
        "cut": ("edit", "cut"),
        "concat": ("edit", "concat"),
    },
    "Test data": {
        "synth": ("synth", "command"),
    },
}
"""The commands under each heading of `--help`, with the module and the name of each."""


class _Commands(click.Group):
    """Imports a command only when it is used, so that `info` does not load what `encode` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in _COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for commands in _COMMANDS.values():
            if cmd_name in commands:
                module, name = commands[cmd_name]
                return getattr(import_module(f".{module}", __package__), name)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for heading, commands in _COMMANDS.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name.ljust(width), command.get_short_help_str(limit=formatter.width)))
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""Run 'invcodec COMMAND --help' for the options of a command.

\b
Exit codes:
  0    success
  1    failure
  2    usage error, such as a missing file, frame or pose
  3    damaged or truncated file, even if partly recovered
  4    unsupported format version or feature
  5    a limit was exceeded
  130  interrupted; 'encode --resume' continues""",
)
@click.version_option(__version__, prog_name="invcodec", message="%(prog)s %(version)s", help="Print the version.")
def _commands() -> None:
    """A video codec for radiance fields.

    Encodes a multi-view video into one file that can be rendered at any time from any viewpoint:

    \b
      invcodec encode capture/ out.inv
      invcodec decode out.inv --frame 42 --pose cam00 -o view.png
      invcodec view out.inv
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; every error is one line on standard error."""
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
        # The reader is gone. Python must not fail again when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # Reads and writes, those of standard output among them, do not say of which file.
        return _fail(f"{error.filename or 'reading or writing failed'}: {error.strerror or error}", 1)
    except MemoryError:
        return _fail("out of memory; try a smaller --size, or --downscale when encoding", 1)
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(what, 1, " (this is a bug, please report it; INVCODEC_DEBUG=1 prints a traceback)")


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    text = str(message) if issubclass(category, InvWarning) else f"{category.__name__}: {message}"
    note(" ".join(text.split()))


def _fail(message: str, code: int, hint: str = "") -> int:
    if os.environ.get("INVCODEC_DEBUG"):
        traceback.print_exc()
    note(f"{' '.join(message.split())}{hint}")
    return code
