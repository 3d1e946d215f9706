"""`invcodec export`: frames in the formats of other programs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invcodec import names
from invcodec.errors import DamagedError, InvError, UsageError

from .frames import FRAMES, select
from .options import DEVICE, FORCE, THREADS, Command, exclusive, group
from .terminal import note, say
from .values import Count, bytes_text, count_text

if TYPE_CHECKING:
    from invcodec.decoding.video import Frame, Video
    from invcodec.exporting.scene import Field

_KINDS = ("html", "site", "ply", "mesh")
"""Parameters of the kinds of output."""


@click.command(
    "export",
    short_help="Write a page that plays a file; or splats or meshes, for other programs.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec export out.inv --html clip.html     a page that plays it
  invcodec export out.inv --site public/       the same for a web server
  invcodec export out.inv --ply splats/        a sequence for SuperSplat
  invcodec export out.inv --ply splats/ --frames 0:24 --splats 100000
  invcodec export out.inv --frame 42 --mesh frame.glb""",
)
@click.argument("file", type=click.Path(path_type=Path))
@FRAMES
@group(
    "Output, one of",
    click.option(
        "--html",
        type=click.Path(path_type=Path),
        metavar="FILE.html",
        help="One page that plays all of FILE in a browser, from disk and with no network: it holds player and FILE.",
    ),
    click.option(
        "--site",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The page, the player and FILE apart, for any web server; browsers then load what they show.",
    ),
    click.option(
        "--ply",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="3D Gaussian splats of each frame, in files frame_0000.ply and so on by the frame's number.",
    ),
    click.option(
        "--mesh",
        type=click.Path(path_type=Path),
        metavar="FILE.glb",
        help="The surfaces of one frame as triangles with vertex colours, as binary glTF with y up.",
    ),
)
@click.option(
    "--splats",
    type=Count(*names.SPLATS_RANGE),
    help=f"With --ply: at most so many in each frame, of 56 bytes each.  [default: {names.DEFAULT_SPLATS}]",
)
@FORCE
@DEVICE
@THREADS
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    frame: str | None,
    time: Fraction | None,
    frames: tuple[int | None, int | None] | None,
    html: Path | None,
    site: Path | None,
    ply: Path | None,
    mesh: Path | None,
    splats: int | None,
    force: bool,
    device: str,
    threads: int | None,
) -> int:
    """Write FILE, or frames of it, in a form that other programs show, and print the names of the files written.

    Splats and meshes hold what the cameras of the file see, in the scene's own colours and without their dependence on
    the direction. They lose quality and are many times as large as FILE; the manual has numbers. What is upright in
    FILE is upright in them.
    """
    exclusive(ctx, "frame", "time", "frames")
    exclusive(ctx, *_KINDS)
    if all(ctx.params[kind] is None for kind in _KINDS):
        raise click.UsageError(f"choose an output: {', '.join(f'--{kind}' for kind in _KINDS)}", ctx)
    if splats is not None and ply is None:
        raise click.UsageError("--splats is for --ply", ctx)
    if html is not None or site is not None:
        if frame is not None or time is not None or frames is not None:
            raise click.UsageError("pages play the whole file; 'invcodec cut' makes a file of some frames", ctx)
        return _write_player(file, html, site, force)
    from invcodec.decoding.video import Video
    from invcodec.exporting.scene import Field

    with Video(file, device=device, threads=threads) as video:
        chosen = select(video, frame, time, frames)
        field = Field(video, device=device, threads=threads)
        lost: list[DamagedError] = []
        if ply is not None:
            lost = _write_splats(video, chosen, field, ply, splats or names.DEFAULT_SPLATS, force)
        if mesh is not None:
            _write_mesh(video, chosen, field, mesh, force)
        for problem in [*video.problems, *map(str, lost)]:
            note(f"warning: {problem}")
        return 3 if lost or video.status in ("damaged", "truncated") else 0


def _write_player(file: Path, html: Path | None, site: Path | None, force: bool) -> int:
    """Writes a page that plays a file, or a folder with one; returns the exit code."""
    import shutil

    from invcodec.container.reader import Reader
    from invcodec.exporting.page import CLIP, page, site_files
    from invcodec.output import check_output, make_directory, written

    with Reader(file) as reader:
        problems, status = reader.problems, reader.status
    if html is not None:
        check_output(html, force)
        with written(html, force) as out:
            out.file.write(page(file, file.stem).encode())
        say(f"{html}  ({bytes_text(html.stat().st_size)})")
    elif site is not None:
        texts = site_files(file.stem)
        make_directory(site)
        for name in (*texts, CLIP):
            check_output(site / name, force)
        for name, text in texts.items():
            with written(site / name, force) as out:
                out.file.write(text.encode())
        with written(site / CLIP, force) as out, file.open("rb") as clip:
            shutil.copyfileobj(clip, out.file)
        say(f"{site}  ({', '.join((*texts, CLIP))})")
    for problem in problems:
        note(f"warning: {problem}")
    return 3 if status in ("damaged", "truncated") else 0


def _write_splats(
    video: Video, frames: list[Frame], field: Field, folder: Path, most: int, force: bool
) -> list[DamagedError]:
    """Writes a file for each frame; returns an error for each that is lost to damage in the file.

    Raises:
        DamagedError: all are lost.
    """
    from invcodec.exporting.ply import ply_bytes, require_plyfile
    from invcodec.exporting.scene import sights
    from invcodec.exporting.splats import Splatter
    from invcodec.geometry.rig import quarter_turn_upright
    from invcodec.output import check_output, make_directory, written

    from .progress import counted

    require_plyfile()
    make_directory(folder)
    paths = [folder / f"frame_{frame.number:04d}.ply" for frame in frames]
    for path in paths:
        check_output(path, force)
    splatter = Splatter(video.networks.space, most)
    lost: list[DamagedError] = []
    made: list[Path] = []
    with counted("exporting", len(frames)) as done:
        for frame, path in zip(frames, paths, strict=True):
            try:
                field.load(frame)
                splats = splatter.splats(field, sights(frame))
            except DamagedError as error:
                lost.append(error)
            else:
                if not len(splats):
                    raise _nothing(video, frame)
                data = ply_bytes(splats.turned(quarter_turn_upright(frame.cameras)))
                with written(path, force) as out:
                    out.file.write(data)
                made.append(path)
            done()
    if not made:
        raise lost[0]
    names = str(made[0]) if len(made) == 1 else f"{made[0]} to {made[-1]}"
    say(f"{names}  (of {len(frames)}; the last: {count_text(len(splats), 'splat')}, {bytes_text(len(data))})")
    return lost


def _write_mesh(video: Video, frames: list[Frame], field: Field, path: Path, force: bool) -> None:
    from invcodec.exporting.glb import glb_bytes, require_trimesh
    from invcodec.exporting.scene import sights
    from invcodec.exporting.surface import require_marching_cubes, surface
    from invcodec.geometry.rig import quarter_turn_upright
    from invcodec.output import check_output, written

    if path.suffix != ".glb":
        raise UsageError(f"{path}: unsupported format for meshes; use .glb")
    if len(frames) > 1:
        raise UsageError(f"--mesh needs a single frame, but {len(frames)} are selected; choose one with --frame")
    require_trimesh()
    require_marching_cubes()
    check_output(path, force)
    (frame,) = frames
    field.load(frame)
    mesh = surface(video.networks.space, video.networks.samples, field, sights(frame))
    if not len(mesh.triangles):
        raise _nothing(video, frame)
    data = glb_bytes(mesh.turned(quarter_turn_upright(frame.cameras)))
    with written(path, force) as out:
        out.file.write(data)
    say(f"{path}  ({count_text(len(mesh.triangles), 'triangle')}, {bytes_text(len(data))})")


def _nothing(video: Video, frame: Frame) -> InvError:
    return InvError(f"{video.name}: in frame {frame.number}, the cameras see nothing that could be exported")
