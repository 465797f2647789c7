"""`dtpf calibrate` and `dtpf register`: pairs from files, what is said about them, pictures."""

import sys
from pathlib import PurePosixPath

import cv2
import numpy as np
from tqdm import tqdm

from dtpf.cameras.alignment import check_alignment
from dtpf.cameras.batch import Job
from dtpf.cameras.calibration import (
    Calibration,
    Model,
    calibrate,
    calibrate_points,
    load_calibration,
)
from dtpf.cameras.homography import warp
from dtpf.cameras.prepare import CameraConfig, Rig
from dtpf.cli.fusing import plan_files
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, luma, visible_to_unit
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import join_uri, normalise_uri, read_bytes
from dtpf.data.images import SUFFIXES, decode_array, encode_png

_OFF, _UNSURE = 1, 3  # exit codes of a check


def estimate(
    visible: str,
    infrared: str,
    points: str | None,
    model: Model | None,
    ratio: float,
    limit: int,
) -> Calibration:
    """Return the mapping from pairs, or from the points that were marked in one of them.

    Raises:
        UserError: pairs of several sizes, or a file that holds no points.
    """
    jobs = _spread(visible, infrared, limit)
    loaded = [_gray_pair(job) for job in (jobs[:1] if points else jobs)]
    if points is None:
        return calibrate(loaded, model, ratio)
    text = read_bytes(normalise_uri(points)).decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        marked = np.array([[float(part) for part in line.split(",")] for line in lines])
        infrared_points, visible_points = marked[:, :2], marked[:, 2:4]
    except (ValueError, IndexError):
        raise UserError(f"{points}: expected lines x_ir,y_ir,x_vis,y_vis of numbers") from None
    seen, heat = loaded[0]
    return calibrate_points(infrared_points, visible_points, heat.shape, seen.shape)


def store(found: Calibration, out: str | None) -> None:
    """Write a calibration, or print it."""
    text = found.model_dump_json(indent=2)
    if out is None:
        print(text)
        return
    folder, _, name = normalise_uri(out).rpartition("/")
    Store(folder).write_bytes(name, text.encode())


def described(found: Calibration) -> str:
    """Return one line on a calibration."""
    if found.method == "points":
        line = f"{found.model} of {found.pairs} points, {found.spread:.2f} pixels off them"
    else:
        line = (
            f"{found.model} of {found.pairs} pairs: edges correlate {found.score:.2f}, "
            f"estimates lie {found.spread:.1f} pixels apart"
        )
    remedy = "look at it with --picture FILE, give more pairs with edges, or mark points (--points)"
    return line if found.sure else f"warning: not sure: {line}; {remedy}"


def check_pairs(visible: str, infrared: str, calibration: str, limit: int) -> int:
    """Print how each pair lies with a calibration; return the exit code."""
    rig = Rig(CameraConfig(calibration=load_calibration(calibration)))
    found = []
    for job in _spread(visible, infrared, limit):
        arrays = [decode_array(read_bytes(uri), uri) for uri in (job.visible, job.infrared)]
        prepared = rig.prepare(arrays[0], arrays[1], (job.visible, job.infrared))
        found.append(check_alignment(prepared.visible, prepared.infrared))
        print(f"{job.visible}: {found[-1]}")
    if any(one.off for one in found):
        return _OFF
    return 0 if any(one.sure for one in found) else _UNSURE


def draw(visible: str, infrared: str, found: Calibration, out: str) -> None:
    """Write a picture: edges of the infrared in red on the visible image, before and after."""
    seen, heat = _gray_pair(_spread(visible, infrared, 1)[0])
    matrix = found.for_sizes(heat.shape, seen.shape)
    plain = cv2.resize(heat, seen.shape[::-1], interpolation=cv2.INTER_AREA)
    before = np.asarray(plain, np.float32)
    shown = np.hstack([_overlaid(seen, before), _overlaid(seen, warp(heat, matrix, seen.shape))])
    folder, _, name = normalise_uri(out).rpartition("/")
    Store(folder).write_bytes(name, encode_png(shown))


def register_pairs(visible: str, infrared: str, out: str, config: CameraConfig) -> int:
    """Write registered pairs as PNG below `out`/vi and `out`/ir; return how many failed."""
    plan = plan_files(visible, infrared, out)
    if plan.folder is None:
        raise UserError(f"{visible}: register takes two folders")
    rig, failed = Rig(config), list(plan.alone)
    for job in tqdm(plan.jobs, unit="pair", disable=None):
        name = job.out.removeprefix(f"{plan.folder}/")
        try:
            arrays = [decode_array(read_bytes(uri), uri) for uri in (job.visible, job.infrared)]
            prepared = rig.prepare(arrays[0], arrays[1], (job.visible, job.infrared))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed.append(job.visible)
            continue
        for side, image in (("vi", prepared.visible), ("ir", prepared.infrared)):
            target = PurePosixPath(side) / name
            Store(plan.folder).write_bytes(str(target), encode_png(image))
    Store(plan.folder).write_json("camera.json", config.as_dict())
    print(
        f"registered {len(plan.jobs) - len(failed)} pairs in {join_uri(out, '')}", file=sys.stderr
    )
    return len(failed)


def _spread(visible: str, infrared: str, limit: int) -> list[Job]:
    """Return at most `limit` pairs spread over two folders, or the one of two files."""
    one = visible.lower().endswith(SUFFIXES)
    plan = plan_files(visible, infrared, "calibration.png" if one else "calibration")
    return list(plan.jobs[:: max(1, len(plan.jobs) // max(1, limit))][: max(1, limit)])


def _gray_pair(job: Job) -> tuple[FloatImage, FloatImage]:
    seen = luma(visible_to_unit(decode_array(read_bytes(job.visible), job.visible), job.visible))
    heat, _ = Rig().scaler(decode_array(read_bytes(job.infrared), job.infrared), job.infrared)
    return seen, heat


def _overlaid(seen: FloatImage, heat: FloatImage) -> FloatImage:
    edges = cv2.morphologyEx(
        cv2.GaussianBlur(heat, (0, 0), 1.0), cv2.MORPH_GRADIENT, np.ones((3, 3))
    )
    weight = np.clip(edges / (np.percentile(edges, 97) + 1e-6), 0, 1)[..., None]
    gray = np.repeat(seen[..., None], 3, axis=2)
    red = np.array([1.0, 0.1, 0.1], np.float32)
    return np.asarray(gray * (1 - weight) + red * weight, np.float32)
