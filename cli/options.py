"""Options that several commands share, and help that lists options under headings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invcodec import names

from .values import BitRate, ByteSize, Count, Duration, FrameRange, Real, Segments

if TYPE_CHECKING:
    from invcodec.encoding.presets import Settings
    from invcodec.encoding.rate import Target

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose help lists the options of each `group` under its heading, and all others last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                heading = getattr(parameter, "heading", None)
                (headings.setdefault(heading, []) if heading else others).append(record)
        for heading, records in (*headings.items(), ("Other options", others)):
            with formatter.section(heading):
                formatter.write_dl(records)


def group(heading: str, *options: Decorator) -> Decorator:
    """Options that help lists together, in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
            command.__click_params__[-1].heading = heading  # type: ignore[attr-defined]
        return command

    return decorate


def exclusive(ctx: click.Context, *parameters: str) -> None:
    """Refuse more than one of some options, given by their parameters' names.

    Raises:
        click.UsageError
    """
    chosen = [name for name in parameters if ctx.params[name] is not None]
    given = [each.opts[0] for each in ctx.command.params if each.name in chosen]
    if len(given) > 1:
        raise click.UsageError(f"{', '.join(given[:-1])} and {given[-1]} are mutually exclusive", ctx)


FORCE = click.option("-f", "--force", is_flag=True, help="Overwrite existing files.")
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Output file, or - for standard output.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
DEVICE = click.option("--device", default="auto", metavar="DEVICE", show_default=True, help="auto, cpu or cuda.")
HOST = click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Also answer browsers that know this machine by this name, such as a proxy's. Repeatable. Default: addresses, "
    "localhost and this machine's own name.",
)
THREADS = click.option("--threads", type=Count(1, 1024), help="CPU threads. Default: all cores.")
PLOT = click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw the rig: cameras, what they see, and points of the scene.",
)
OUTSIDE = click.option(
    "--outside", is_flag=True, help="Allow the capture to name files outside its folder, also by symbolic links."
)

PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "json", "none"]),
    default="auto",
    show_default=True,
    help="Progress on standard error: a bar, one JSON object per frame, or nothing; auto shows a bar on a terminal.",
)
SEGMENTS = click.option(
    "--segments",
    type=Segments(),
    help="Encode segments of N frames, or one for each scene (cuts), each from a keyframe on, and join them.",
)

capture_options = group(
    "Capture",
    click.option("--frames", type=FrameRange(), help="Frames to read, e.g. 0:24 for frames 0 to 23. Default: all."),
    click.option(
        "--downscale", type=click.IntRange(1), default=1, metavar="N", help="Shrink images N times (area filter)."
    ),
    click.option(
        "--holdout",
        multiple=True,
        metavar="CAMERA",
        help="Hold this camera out of training, for evaluation. Repeatable. Default: cameras that the capture marks "
        "as test.",
    ),
    click.option(
        "--layout",
        type=click.Choice(names.layouts()),
        metavar="LAYOUT",
        help=f"Layout of the capture: {', '.join(names.layouts())}. Default: detected.",
    ),
    click.option(
        "--source",
        type=click.Choice(names.SOURCES),
        help=f"Which to use if both exist. Default: {names.SOURCES[0]}.",
    ),
    click.option(
        "--alpha",
        type=click.Choice(names.ALPHAS),
        help="What pixels mean that alpha leaves empty, or masks if there is no alpha: mask: they are not trained on; "
        "matte: the background is transparent; ignore: nothing. Default: alpha is a mask if it leaves no more empty "
        "than a border, else a matte; masks are masks.",
    ),
    OUTSIDE,
)
"""How a capture is read; for `encode`, `segments plan` and `inspect`."""


def read_reading(given: dict[str, Any]) -> dict[str, Any]:
    """Takes what `capture_options` say out of `given`, as arguments of `invcodec.open_capture`."""
    reading = {
        name: given.pop(name) for name in ("frames", "downscale", "holdout", "layout", "source", "alpha", "outside")
    }
    return reading | {"holdout": reading["holdout"] or None}


target_options = group(
    "Rate control",
    click.option(
        "--quality",
        type=Real(*names.QUALITY_RANGE),
        metavar="Q",
        help=f"Constant quality. Default: {names.DEFAULT_QUALITY:g}.",
    ),
    click.option(
        "--target-psnr",
        type=Real(*names.PSNR_RANGE),
        metavar="DB",
        help="Mean PSNR in dB, on training-camera pixels that are reserved for validation, where moving ones have at "
        "least a quarter of the weight; when transcoding, against the input file.",
    ),
    click.option("--target-size", type=ByteSize(), metavar="SIZE", help="Size of the whole file, e.g. 500k or 2MB."),
    click.option(
        "--bitrate",
        type=BitRate(),
        metavar="RATE",
        help="Bits per second, e.g. 300k or 1.5M, through a 2-second buffer that starts full.",
    ),
    click.option(
        "--max-frame-bytes",
        type=ByteSize(),
        metavar="SIZE",
        help="Upper limit for every frame except keyframes, e.g. 4k. Combines with any of the above, which are "
        "mutually exclusive.",
    ),
)
"""Quality or size of a file; for `encode`, `inspect` and `transcode`."""


def read_target(ctx: click.Context, given: dict[str, Any]) -> Target:
    """Takes the target of `target_options` out of `given`; the quality stays.

    Raises:
        click.UsageError: options that are mutually exclusive.
    """
    from invcodec.encoding.rate import Target

    exclusive(ctx, "quality", "target_psnr", "target_size", "bitrate")
    return Target(
        given.pop("target_psnr"), given.pop("target_size"), given.pop("bitrate"), given.pop("max_frame_bytes")
    )


_training = group(
    "Training",
    click.option(
        "--preset",
        type=click.Choice(list(names.PRESETS)),
        default=names.DEFAULT_PRESET,
        help="Training steps, the same on every machine; 'inspect' says how long they take. Default: "
        f"{names.DEFAULT_PRESET}.\n\n\b\n" + "\n".join(f"{name:7} {about}" for name, about in names.PRESETS.items()),
    ),
    click.option(
        "--profile",
        type=click.Choice(names.profiles()),
        help="Kind of network. Default: image for a single video, otherwise the preset's.",
    ),
    click.option("--seconds-per-frame", type=Duration(), help="Limit on the training time of every later frame."),
    click.option(
        "--key-seconds", type=Duration(), help="Limit on the training time of the first frame, e.g. 90, 90s or 500ms."
    ),
    click.option("--steps", type=Count(1, 2**31), help="Training steps of every frame, in place of the preset's."),
    click.option(
        "--key-every",
        type=Count(0, 2**31),
        default=names.DEFAULT_KEY_EVERY,
        show_default=True,
        help="Most frames from one keyframe to the next; 0: keyframes at cuts alone.",
    ),
    click.option(
        "--warmup",
        type=Count(0, 2**31),
        help="Frames after the first, and after a cut, in which all weights are trained; later ones train structure "
        "alone. Default: grid and image: all frames; nerf: 1; paper: 30.",
    ),
    click.option("--seed", type=Count(0, 2**63 - 1), default=0, show_default=True, help="Random seed."),
    THREADS,
    DEVICE,
    click.option(
        "--colour-correction/--no-colour-correction",
        default=True,
        help="Learn each camera's exposure and white balance.  [default: on]",
    ),
    click.option(
        "--motion/--no-motion",
        default=True,
        help="grid: code parts that move as a whole by their motion.  [default: on]",
    ),
)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How an encode trains, and its quality or size; for `encode` and `inspect`."""
    return _training(target_options(command))


def resolve_settings(ctx: click.Context, given: Mapping[str, Any], *, flat: bool = False) -> Settings:
    """The library's settings for `training_options`.

    Args:
        flat: whether they are for the pictures of one camera.
    """
    from invcodec.encoding.presets import resolve

    rest = dict(given)
    if flat and rest["profile"] is None:
        rest["profile"] = "image"
    target = read_target(ctx, rest)
    durations = {key: None if rest[key] is None else float(rest[key]) for key in ("key_seconds", "seconds_per_frame")}
    return resolve(target=target, **{**rest, **durations})
