"""`dtpf fuse`: which files belong together, what fuses them, and what is said about it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath

import torch
from pyarrow.fs import FileType
from tqdm import tqdm

from dtpf.cameras.batch import Job, fuse_folder, fuse_one
from dtpf.cameras.calibration import load_calibration
from dtpf.cameras.checks import Checks
from dtpf.cameras.engines import EndpointEngine, LocalEngine
from dtpf.cameras.frames import is_video, open_frames
from dtpf.cameras.prepare import CameraConfig, Color, Resolution, Rig
from dtpf.cameras.scaling import Policy, ScalingConfig
from dtpf.cameras.video import fuse_video
from dtpf.cameras.writing import OUT_SUFFIXES as VIDEO_OUT
from dtpf.cli.networks import network_source
from dtpf.core.errors import UserError
from dtpf.core.storage.uri import join_uri, normalise_uri, resolve, storage_errors
from dtpf.data.layouts import ImageFile, list_images

OUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Plan:
    """Pairs of files to fuse; `alone` are images without a partner of the same name."""

    jobs: tuple[Job, ...]
    folder: str | None = None
    alone: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class EngineOptions:
    """What fuses: a network here, or an endpoint."""

    model: str | None = None
    device: str = "auto"
    workers: int = 1
    endpoint: str | None = None

    def open(self) -> LocalEngine | EndpointEngine:
        """Load the network, or ask the endpoint.

        Raises:
            UserError: no such network, GPU or endpoint.
        """
        if self.workers < 1:
            raise UserError(f"--workers {self.workers}: give one or more")
        if self.endpoint is not None:
            if self.model is not None:
                raise UserError("--endpoint and --model: the endpoint has its own network")
            return EndpointEngine(self.endpoint, max(2, self.workers))
        return LocalEngine(network_source(self.model), _pick_device(self.device), self.workers)


def camera_config(
    scaling: Policy | None,
    span: str | None,
    resolution: Resolution,
    calibration: str | None,
    palette: str | None,
    color: Color = "network",
    gray: bool = False,
    moving: bool = False,
) -> CameraConfig:
    """Return what options of the command line say of the cameras.

    Args:
        scaling: infrared policy; None means per image, or of `moving` pictures the sequence.
        span: LOW:HIGH of raw values.
        resolution: as in `CameraConfig`.
        calibration: file that `dtpf calibrate` wrote.
        palette: false colours to undo.
        color: the network's, or the visible image's.
        gray: luminance alone.
        moving: the frames follow each other.

    Raises:
        UserError: a span that is none, or of another policy; no such calibration.
    """
    policy = scaling or ("fixed" if span else "sequence" if moving else "percentile")
    low = high = None
    if span is not None:
        try:
            low, high = (float(part) for part in span.split(":"))
        except ValueError:
            raise UserError(f"--infrared-range {span}: expected LOW:HIGH, such as 20:40") from None
    settings = {"policy": policy, "low": low, "high": high}
    return CameraConfig(
        scaling=ScalingConfig.parse(settings, "--infrared-scaling, --infrared-range"),
        resolution=resolution,
        calibration=load_calibration(calibration) if calibration else None,
        palette=palette,
        color=color,
        gray=gray,
    )


def moving(visible: str, out: str) -> bool:
    """Say whether a video is read or written."""
    return is_video(visible) or PurePosixPath(out).suffix.lower() in VIDEO_OUT


def fuse_recordings(
    sides: tuple[str, str],
    out: str,
    rig: Rig,
    options: EngineOptions,
    rate: float | None = None,
    fresh: bool = False,
) -> int:
    """Fuse two videos, or folders of frames, into a video; return how many frames had faults."""
    told = Fraction(rate).limit_denominator(1001) if rate else None
    visible, infrared = (
        open_frames(sides[0], "visible", told),
        open_frames(sides[1], "infrared", told),
    )
    with options.open() as engine, tqdm(total=visible.count, unit="frame", disable=None) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.update(done - bar.n)

        report = fuse_video(visible, infrared, Path(out), rig, engine, progress, fresh)
    _say("warning", report["checks"]["warnings"])
    _say("warning", report["faults"]["examples"])
    sound = "with its audio" if report["audio"] else "no audio"
    line = f"fused {report['frames']} frames at {float(visible.rate):.4g} per second, {sound}"
    print(f"{line}; {out}.json says how", file=sys.stderr)
    return int(report["faults"]["count"])


def fuse_plan(
    plan: Plan, rig: Rig, options: EngineOptions, fresh: bool = False, checked: bool = True
) -> int:
    """Fuse and write all pairs; return how many could not be fused, and lacked a partner.

    A single pair that fails raises; of several, those that fail are reported at the end and
    the others are written.

    Raises:
        UserError: no such network, or the only pair cannot be fused.
    """
    with options.open() as engine:
        if plan.folder is None:
            checks = Checks() if checked else None
            prepared = fuse_one(plan.jobs[0], rig, engine, checks)
            if prepared.changed:
                print(f"infrared {prepared.scaling}; {prepared.geometry}", file=sys.stderr)
            _say("warning", checks.lines if checks else [])
            return 0
        with tqdm(total=len(plan.jobs), unit="pair", disable=None) as bar:
            result = fuse_folder(
                plan.jobs,
                f"{plan.folder.rstrip('/')}.fusion.json",
                rig,
                engine,
                fresh,
                checked,
                lambda done: _advance(bar, done),
            )
    _say("warning", result.checks.lines)
    _say("error", [f"{uri}: no partner of the same name" for uri in plan.alone])
    _say("error", [str(failure) for failure in result.failures])
    kept = f" ({result.skipped} before)" if result.skipped else ""
    print(f"fused {result.fused + result.skipped} of {len(plan.jobs)} pairs{kept}", file=sys.stderr)
    return len(result.failures) + len(plan.alone)


def plan_files(visible: str, infrared: str, out: str) -> Plan:
    """Return what is to be fused: one pair of files, or all pairs of two folders.

    Raises:
        UserError: missing inputs, a file and a folder, no two images of one name, an output of
            unknown suffix, or one that would replace an input.
    """
    seen, heat, target = (normalise_uri(path) for path in (visible, infrared, out))
    folders = [_is_folder(uri) for uri in (seen, heat)]
    if folders[0] != folders[1]:
        raise UserError(f"{visible} and {infrared}: give two files or two folders")
    suffix = PurePosixPath(target).suffix.lower()
    if folders[0] == (suffix in OUT_SUFFIXES):
        wanted = "a folder" if folders[0] else f"a file ending in {', '.join(OUT_SUFFIXES)}"
        raise UserError(f"--out {out}: must be {wanted}")
    if target in (seen, heat):
        raise UserError(f"--out {out}: would replace an input; choose another place")
    return _folder_plan(seen, heat, target) if folders[0] else Plan((Job(seen, heat, target),))


def _folder_plan(visible: str, infrared: str, out: str) -> Plan:
    seen, heat = _by_stem(visible), _by_stem(infrared)
    alone = sorted(
        file.uri for stem, file in (seen | heat).items() if (stem in seen) != (stem in heat)
    )
    jobs = tuple(
        Job(
            file.uri,
            heat[stem].uri,
            join_uri(out, f"{PurePosixPath(file.path).with_suffix('')}.png"),
            f"{file.size}-{file.modified}-{heat[stem].size}-{heat[stem].modified}",
        )
        for stem, file in seen.items()
        if stem in heat
    )
    if not jobs:
        raise UserError(f"{visible} and {infrared}: no two images of the same name")
    return Plan(jobs, out, tuple(alone))


def _by_stem(folder: str) -> dict[str, ImageFile]:
    """Return images by path below the folder, without suffix, in lower case."""
    files: dict[str, ImageFile] = {}
    for image in list_images(folder):
        stem = str(PurePosixPath(image.path).with_suffix("")).lower()
        if stem in files:
            raise UserError(
                f"{image.uri}: same name as {files[stem].uri}; names must differ without suffix"
            )
        files[stem] = image
    return files


def _is_folder(uri: str) -> bool:
    filesystem, path = resolve(uri)
    with storage_errors(uri):
        kind = filesystem.get_file_info(path).type
    if kind == FileType.NotFound:
        raise UserError(f"{uri}: no such file or folder")
    return bool(kind == FileType.Directory)


def _say(kind: str, lines: Sequence[str]) -> None:
    for line in lines:
        print(f"{kind}: {line}", file=sys.stderr)


def _advance(bar: tqdm, done: int) -> None:
    bar.update(done - bar.n)


def _pick_device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("--device cuda: no CUDA GPU is available here; use --device cpu")
    return "cuda" if available and name != "cpu" else "cpu"
