"""Commands for the owner of two cameras: calibrate them, register folders, fuse live streams."""

import json
import sys
from typing import Annotated, Literal

import typer

Model = Literal["shift", "similarity", "affine", "homography"]
Policy = Literal["full", "percentile", "fixed", "sequence", "histogram"]
Resolution = Literal["keep", "visible", "infrared"]
Device = Literal["auto", "cpu", "cuda"]

Scaling = Annotated[
    Policy | None,
    typer.Option(
        "--infrared-scaling",
        help="Raw infrared to [0, 1]; default: percentile of each image, of videos sequence.",
    ),
]
Range = Annotated[
    str | None,
    typer.Option("--infrared-range", metavar="LOW:HIGH", help="Raw values that become 0 and 1."),
]
Resolved = Annotated[
    Resolution, typer.Option(help="Whose pixels the result has, where sizes differ.")
]
CalibrationFile = Annotated[
    str | None, typer.Option("--calibration", metavar="FILE", help="From dtpf calibrate.")
]
Palette = Annotated[
    str | None, typer.Option(metavar="NAME", help="False colours of the infrared to undo.")
]
Colored = Annotated[
    Literal["network", "visible"],
    typer.Option("--color", help="Colours of the network, or of the visible image."),
]
Gray = Annotated[bool, typer.Option("--gray", help="Write the luminance alone.")]
Network = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="BUNDLE|NAME",
        help="Network; default: the trained one that comes with dtpf.",
    ),
]
RunsOn = Annotated[Device, typer.Option("--device", help="Where the network runs.")]
Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="Fuse at a served endpoint instead of here.")
]
Workers = Annotated[int, typer.Option(help="Processes that fuse, or requests at a time.")]


def calibrate(
    visible: Annotated[str, typer.Argument(metavar="VIS", show_default=False)],
    infrared: Annotated[str, typer.Argument(metavar="IR", show_default=False)],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="JSON file to write; none: print it.")
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Marked points: lines x_ir,y_ir,x_vis,y_vis in pixels."),
    ] = None,
    model: Annotated[
        Model | None,
        typer.Option(help="Kind of mapping; default: homography from three pairs on."),
    ] = None,
    ratio: Annotated[
        float, typer.Option(help="Field of view of the infrared over that of the visible camera.")
    ] = 1.0,
    limit: Annotated[int, typer.Option(help="Use so many pairs of two folders.")] = 8,
    check: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Measure the pairs with this calibration instead."),
    ] = None,
    picture: Annotated[
        str | None, typer.Option(metavar="FILE", help="PNG that shows before and after.")
    ] = None,
) -> None:
    """Estimate how the cameras see each other, from pairs (files or folders) or marked points."""
    from dtpf.cli import calibrating

    if check is not None:
        raise typer.Exit(calibrating.check_pairs(visible, infrared, check, limit))
    found = calibrating.estimate(visible, infrared, points, model, ratio, limit)
    if picture is not None:
        calibrating.draw(visible, infrared, found, picture)
    calibrating.store(found, out)
    print(calibrating.described(found), file=sys.stderr)


def register(
    visible: Annotated[str, typer.Argument(metavar="VIS", show_default=False)],
    infrared: Annotated[str, typer.Argument(metavar="IR", show_default=False)],
    calibration: Annotated[str, typer.Option(metavar="FILE", help="From dtpf calibrate.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder that gets vi/ and ir/.")],
    scaling: Scaling = None,
    span: Range = None,
    resolution: Resolved = "visible",
    palette: Palette = None,
) -> None:
    """Write two folders of raw pairs as registered 8-bit pairs, which training takes as --data."""
    from dtpf.cli.calibrating import register_pairs
    from dtpf.cli.fusing import camera_config

    config = camera_config(scaling, span, resolution, calibration, palette, moving=False)
    if register_pairs(visible, infrared, out, config):
        raise typer.Exit(1)


def live(
    visible: Annotated[str, typer.Argument(metavar="VIS", show_default=False)],
    infrared: Annotated[str, typer.Argument(metavar="IR", show_default=False)],
    out: Annotated[str, typer.Option("--out", "-o", help="File, or udp:// or rtsp:// address.")],
    max_delay: Annotated[float, typer.Option(help="Seconds; older frames are dropped.")] = 0.5,
    paced: Annotated[bool, typer.Option("--paced", help="Play files at their own rate.")] = False,
    model: Network = None,
    device: RunsOn = "auto",
    endpoint: Endpoint = None,
    scaling: Scaling = None,
    span: Range = None,
    resolution: Resolved = "keep",
    calibration: CalibrationFile = None,
    palette: Palette = None,
    gray: Gray = False,
    color: Colored = "network",
) -> None:
    """Fuse two streams (rtsp://, udp://, devices, files) as they come; late frames are dropped."""
    from dtpf.cameras.frames import open_frames
    from dtpf.cameras.live import fuse_live
    from dtpf.cameras.prepare import Rig
    from dtpf.cli.fusing import EngineOptions, camera_config

    rig = Rig(camera_config(scaling, span, resolution, calibration, palette, color, gray, True))
    sides = open_frames(visible, "visible"), open_frames(infrared, "infrared")
    with EngineOptions(model, device, 1, endpoint).open() as engine:
        count = fuse_live(*sides, out, rig, engine, max_delay, paced)
    print(json.dumps(vars(count)))
    if not count.fused:
        raise typer.Exit(1)
