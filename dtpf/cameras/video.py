"""Two recordings to one fused video: order, times and audio kept, faults named, kills survived.

Frames are read once and in order, fused by an engine several at a time, and written in parts.
A part that is whole is never fused again: the same command goes on behind the last of them.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtpf.cameras.checks import Checks
from dtpf.cameras.engines import Engine, in_order
from dtpf.cameras.flicker import Flicker
from dtpf.cameras.frames import Frame, FrameFaults, FrameSource, VideoFrames, paired
from dtpf.cameras.prepare import Prepared, Rig
from dtpf.cameras.writing import PartWriter, check_out, join
from dtpf.core.config import fingerprint
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, unit_to_dtype

PART = 64  # frames
_LEARNED = 32  # frames that a sequence's range is taken from
_CHECKED = 10  # every so many frames the result is checked

Progress = Callable[[int, int | None], None]  # frames done, about how many there are


@dataclass(frozen=True)
class _Item:
    seen: Frame
    prepared: Prepared


@dataclass
class _Run:
    """What one run of one video holds."""

    rig: Rig
    engine: Engine
    out: Path
    checks: Checks
    faults: FrameFaults
    size: tuple[int, int] | None = None
    written: int = 0
    end: Fraction = Fraction(0)


def fuse_video(
    visible: FrameSource,
    infrared: FrameSource,
    out: Path,
    rig: Rig,
    engine: Engine,
    progress: Progress = lambda done, total: None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Fuse two recordings into a video file and write what was done beside it, as `out`.json.

    Returns:
        What was done, as JSON types: frames, scaling, geometry, flicker, warnings, faults.

    Raises:
        UserError: an unknown suffix, or not one pair of frames can be fused.
    """
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if rig.scaler.wants_frames or rig.config.scaling.policy == "histogram":
        rig.scaler.learn(rig.raw_infrared(array) for array in infrared.sample(_LEARNED))
    folder = out.with_name(f"{out.name}.parts")
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    ready = _open_parts(folder, _identity(visible, infrared, rig, engine))
    run = _Run(rig, engine, out, Checks(), FrameFaults())
    pairs = islice(
        paired(visible.frames(), infrared.frames(), run.faults), sum(p["read"] for p in ready), None
    )
    total, parts = visible.count, list(ready)
    if ready:
        run.size = tuple(ready[0]["size"])
    while True:
        part = _fuse_part(run, pairs, folder / f"{len(parts):06d}.nut", visible, progress, parts)
        if part is None:
            break
        parts.append(part)
    if not any(part["written"] for part in parts):
        shown = "; ".join(
            [*visible.faults.examples, *infrared.faults.examples, *run.faults.examples]
        )
        raise UserError(f"{visible.name}: no frame could be fused ({shown or 'no frames'})")
    progress(sum(part["read"] for part in parts), total)
    report = _finish(run, folder, parts, visible, infrared)
    shutil.rmtree(folder)
    return report


def _fuse_part(
    run: _Run,
    pairs: Iterator[tuple[Frame, Frame]],
    path: Path,
    visible: FrameSource,
    progress: Progress,
    before: list[dict[str, Any]],
) -> dict[str, Any] | None:
    """Fuse the next frames into one part; None where there are none left."""
    base = getattr(visible, "time_base", 1 / visible.rate)
    done, read, written = sum(part["read"] for part in before), [0], 0
    faults, flicker, end, writer = FrameFaults(), Flicker(), Fraction(0), None
    shown: dict[str, Any] = {}
    items = _prepared(run, islice(pairs, PART), faults, read)
    for item, result in in_order(
        run.engine, items, lambda i: (i.prepared.visible, i.prepared.infrared)
    ):
        if isinstance(result, UserError):
            faults.add(f"{item.seen.name}: {result}")
            continue
        picture = run.rig.finish(result, item.prepared)
        flicker.add(picture, item.prepared.visible, item.prepared.infrared)
        if (done + written) % _CHECKED == 0:
            run.checks.result(picture, item.prepared, item.seen.name)
        if done + written == 0:
            run.checks.alignment(item.prepared, item.seen.name)
        shown = shown or item.prepared.as_dict()
        run.size = run.size or (picture.shape[0], picture.shape[1])
        if writer is None:
            writer = PartWriter(path, run.out.suffix, run.size, visible.rate, base)
        writer.write(as_rgb(picture, run.size), item.seen.time)
        written, end = written + 1, item.seen.time
        progress(done + read[0], visible.count)
    if writer is not None:
        writer.close()
    if not read[0]:
        return None
    part = {
        "read": read[0],
        "written": written,
        "size": list(run.size or ()),
        "end": str(end),
        "flicker": flicker.sums(),
        "faults": faults.examples,
        "fault_count": faults.count,
        "prepared": shown,
        "checks": run.checks.as_dict(),
    }
    _write_json(path.with_suffix(".json"), part)  # only now does the part count
    return part


def _prepared(
    run: _Run, pairs: Iterator[tuple[Frame, Frame]], faults: FrameFaults, read: list[int]
) -> Iterator[_Item]:
    """Make pairs fit for the network; those that cannot be are noted and passed over."""
    for seen, heat in pairs:
        read[0] += 1
        try:
            prepared = run.rig.prepare(seen.array, heat.array, (seen.name, heat.name))
        except UserError as error:
            faults.add(f"{seen.name}: {error}")
            continue
        run.checks.remark(prepared.remarks)
        size = (prepared.visible.shape[0], prepared.visible.shape[1])
        if run.size not in (None, size):
            assert run.size is not None
            faults.add(
                f"{seen.name}: {size[1]}x{size[0]} pixels, the video began with "
                f"{run.size[1]}x{run.size[0]}; the fused frame is resized to these"
            )
        run.size = run.size or size
        yield _Item(seen, prepared)


def _finish(
    run: _Run,
    folder: Path,
    parts: list[dict[str, Any]],
    visible: FrameSource,
    infrared: FrameSource,
) -> dict[str, Any]:
    files = [folder / f"{number:06d}.nut" for number, part in enumerate(parts) if part["written"]]
    end = max(Fraction(part["end"]) for part in parts) + 1 / visible.rate
    sound = visible if isinstance(visible, VideoFrames) else None
    heard = join(files, run.out, sound, end)
    flicker = Flicker()
    for part in parts:
        flicker.merge(Flicker(**part["flicker"]))
    told = [*visible.faults.examples, *infrared.faults.examples, *run.faults.examples]
    count = visible.faults.count + infrared.faults.count + run.faults.count
    for part in parts:
        told, count = told + part["faults"], count + part["fault_count"]
    for part in parts:
        run.checks.remark(part["checks"]["warnings"])
    if flicker.restless:
        run.checks.remark(["the brightness of the result jumps more than that of its sources"])
    report = {
        "out": str(run.out),
        "frames": sum(part["written"] for part in parts),
        "rate": str(visible.rate),
        "seconds": float(end),
        "audio": heard,
        "engine": run.engine.identity,
        "camera": run.rig.config.as_dict(),
        "sequence_range": list(run.rig.scaler.learned or ()) or None,
        "first_pair": next(part["prepared"] for part in parts if part["written"]),
        "flicker": flicker.as_dict(),
        "checks": {**run.checks.as_dict(), "alignment": parts[0]["checks"]["alignment"]},
        "faults": {"count": count, "examples": told[:20]},
    }
    _write_json(run.out.with_name(f"{run.out.name}.json"), report)
    return report


def as_rgb(picture: FloatImage, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a fused picture as 8-bit RGB of a size (H, W)."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.shape[:2] != size:
        small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
        picture = np.asarray(small, np.float32)
    return np.ascontiguousarray(unit_to_dtype(picture, np.dtype(np.uint8)))


def _identity(
    visible: FrameSource, infrared: FrameSource, rig: Rig, engine: Engine
) -> dict[str, Any]:
    sides = [
        [side.name, side.count, str(side.rate), _stamp(side.name)] for side in (visible, infrared)
    ]
    return {"sides": sides, "camera": rig.config.as_dict(), "engine": engine.identity}


def _stamp(name: str) -> list[int]:
    path = Path(name)
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


def _open_parts(folder: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts that an earlier run of the same command finished; others are removed."""
    state = folder / "state.json"
    mark = fingerprint(identity)
    if not state.exists() or json.loads(state.read_text())["fingerprint"] != mark:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_json(state, {"fingerprint": mark})
    found: list[dict[str, Any]] = []
    while (path := folder / f"{len(found):06d}.json").exists():
        found.append(json.loads(path.read_text()))
    return found


def _write_json(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(document, indent=2))
    temporary.replace(path)
