"""Commands and their options. What they need is imported when they run: `dtpf --help` is quick."""

import sys
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from dtpf.cli import cameras
from dtpf.cli.tuning import models_app, tune_app
from dtpf.core.errors import UserError

Split = Literal["train", "val", "test"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _Commands(TyperGroup):
    """Turns a UserError of any command into one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Visible and infrared image fusion by a small network that needs no text.",
)

app.add_typer(tune_app, name="tune")
app.add_typer(models_app, name="models")


def main() -> None:
    """Run the command line; ends the process with 0, 1 (some pairs failed) or 2 (mend input)."""
    app()


@app.command()
def info(
    network: Annotated[str, typer.Argument(metavar="PRESET|BUNDLE", show_default=False)],
    size: Annotated[str, typer.Option(metavar="HxW", help="Image size FLOPs count for.")] = (
        "480x640"
    ),
    as_json: AsJson = False,
) -> None:
    """Show a network's parameters, FLOPs, stride and config; of a bundle also its papers."""
    from dtpf.cli.describing import describe, to_json, to_text

    facts = describe(network, size)
    print(to_json(facts) if as_json else to_text(facts))


@app.command()
def fuse(
    visible: Annotated[str, typer.Argument(metavar="VIS", show_default=False)],
    infrared: Annotated[str, typer.Argument(metavar="IR", show_default=False)],
    out: Annotated[str, typer.Option("--out", "-o", help="Image or video to write, or a folder.")],
    model: cameras.Network = None,
    gray: cameras.Gray = False,
    color: cameras.Colored = "network",
    device: cameras.RunsOn = "auto",
    scaling: cameras.Scaling = None,
    span: cameras.Range = None,
    resolution: cameras.Resolved = "keep",
    calibration: cameras.CalibrationFile = None,
    palette: cameras.Palette = None,
    endpoint: cameras.Endpoint = None,
    workers: cameras.Workers = 1,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second, of folders that become a video.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Fuse all again, also what lies there already.")
    ] = False,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Warn of pairs and results that are off.")
    ] = True,
) -> None:
    """Fuse two images, two folders whose images pair by name without suffix, or two videos.

    The suffix of OUT chooses the format (png, jpg, tif, webp, 8 bits; mp4, mov, mkv); folders get
    PNG files. The same command again goes on where it ended. See docs/cameras.md.
    """
    from dtpf.cameras.prepare import Rig
    from dtpf.cli import fusing

    moving = fusing.moving(visible, out)
    options = fusing.EngineOptions(model, device, workers, endpoint)
    rig = Rig(
        fusing.camera_config(scaling, span, resolution, calibration, palette, color, gray, moving)
    )
    if moving:
        failures = fusing.fuse_recordings((visible, infrared), out, rig, options, fps, fresh)
    else:
        plan = fusing.plan_files(visible, infrared, out)
        failures = fusing.fuse_plan(plan, rig, options, fresh, checks)
    if failures:
        raise typer.Exit(1)


app.command()(cameras.calibrate)
app.command()(cameras.register)
app.command()(cameras.live)


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or s3:// prefix of pairs.")],
    method: Annotated[
        list[str],
        typer.Option(
            metavar="M",
            help="A baseline (mean, max, laplacian), a shipped network, or NAME=BUNDLE, "
            "or NAME=FOLDER of fused images. Repeat it.",
        ),
    ],
    split: Annotated[Split, typer.Option(help="Which pairs.")] = "test",
    convention: Annotated[
        str | None, typer.Option(help="Rounding and variants of the metrics; see docs/metrics.md.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Metrics, in the order of the table.")
    ] = None,
    limit: Annotated[
        bool, typer.Option("--limit", help="Add the upper bound: pixels optimised on VIF+Qabf.")
    ] = False,
    mix: Annotated[
        list[str] | None,
        typer.Option(metavar="MIX", help="Another upper bound, such as VIF+3*Qabf. Repeat it."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Such as data.visible_folder=left."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out",
            "-o",
            help="Report (.html) or table (.md .tex .csv .json .txt) to write; without suffix a "
            "folder that gets all of them. Repeat it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score methods on the same pairs: a table, and a report that opens offline."""
    from dtpf.cli.evaluating import DEFAULT_MIX, evaluate_and_print, make_spec

    mixes = [*([DEFAULT_MIX] if limit else []), *(mix or [])]
    spec = make_spec(data, method, split, convention, metrics, mixes, settings or [])
    evaluate_and_print(spec, out or [], as_json)


@app.command()
def export(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", show_default=False, help="Path, URI, current.json.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="File to write, such as student.onnx.")],
    file_format: Annotated[
        str, typer.Option("--format", metavar="onnx", help="What to write.")
    ] = "onnx",
    precision: Annotated[
        str, typer.Option(metavar="float32|float16|int8", help="Of weights; see docs/models.md.")
    ] = "float32",
) -> None:
    """Write a network as one file that runs without torch and without this package."""
    from dtpf.cli.exporting import export_bundle

    print(export_bundle(bundle, out, file_format, precision), file=sys.stderr)


@app.command()
def serve(
    bundle: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE...",
            show_default=False,
            help="Path or URI; or NAME=URI of several models. A current.json is followed.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    tokens: Annotated[
        str | None, typer.Option(help="File of bearer tokens (see `dtpf token`); without: open.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, such as max_batch_size=4.")
    ] = None,
    calibration: cameras.CalibrationFile = None,
) -> None:
    """Serve bundles over HTTP in this process, with the web page, until interrupted."""
    from dtpf.cli.serving import make_config, sources
    from dtpf.serving.local import serve_local

    config = make_config(host, port, tokens, calibration, settings or [])
    models = sources(bundle, config.name)
    print(f"serving {' '.join(bundle)} at http://{host}:{port} (Ctrl+C ends it)", file=sys.stderr)
    serve_local(models, config)


@app.command()
def token(
    file: Annotated[str, typer.Argument(help="Tokens file; made if missing.")],
    name: Annotated[str, typer.Argument(help="Who uses the token; shown in the log.")],
    max_body_bytes: Annotated[int | None, typer.Option(help="Largest body.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Rate limit.")] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Take the older tokens of that name out.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take all tokens of that name out; make none.")
    ] = False,
) -> None:
    """Make a bearer token for the endpoint: its digest goes into FILE, it itself is printed."""
    from dtpf.cli.serving import change_tokens

    limits = {"max_body_bytes": max_body_bytes, "requests_per_minute": requests_per_minute}
    secret = change_tokens(file, name, limits, rotate, remove)
    if secret is not None:
        print(secret)


@app.command()
def doctor(
    store: Annotated[
        str | None,
        typer.Option(help="Root of results, path or s3://...; without: not looked at."),
    ] = None,
    temp: Annotated[
        str | None, typer.Option(help="Folder of Ray's --temp-dir; default: where Ray puts it.")
    ] = None,
    exchange: Annotated[
        bool, typer.Option("--exchange/--no-exchange", help="Compare copies between all devices.")
    ] = True,
    seconds: Annotated[float, typer.Option(min=1, help="A copy may take at most.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Look whether this machine is fit for a run; exit code 1 if something is not.

    For all nodes of a cluster: ray job submit -- python jobs/doctor.py. See docs/doctor.md.
    """
    from dtpf.cli.diagnosing import look

    if look(store, temp, exchange, seconds, as_json):
        raise typer.Exit(1)
