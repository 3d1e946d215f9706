"""`invcodec verify`: checks every checksum and digest of a file."""

from __future__ import annotations

from pathlib import Path

import click

from .options import JSON
from .progress import measured
from .terminal import note, say, say_json


@click.command(
    "verify",
    short_help="Check every checksum and digest.",
    epilog="""\b
Examples:
  invcodec verify out.inv
  invcodec verify - < out.inv
  invcodec verify out.inv --json""",
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@JSON
def command(file: Path, as_json: bool) -> int:
    """Check that FILE (- for standard input) is complete and that every frame decodes to its digest.

    Exits with code 3 if anything is wrong, and lists the frames that are lost.
    """
    from invcodec.editing.verify import verify

    from .values import opened

    with opened(file) as (stream, name, size), measured("verifying", size) as done:
        verdict = verify(stream, name, done)
    if as_json:
        say_json(verdict.describe(name))
    else:
        count = len(verdict.frames)
        good = f"{count} frame{'' if count == 1 else 's'} with valid checksums and digests"
        say(f"{name}: {verdict.status}, {good}" + (f", {len(verdict.lost)} lost" if verdict.lost else ""))
        for problem in verdict.problems:
            note(problem)
    return 0 if verdict.sound else 3
