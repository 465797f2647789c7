"""How well `dtpf calibrate` finds known motions between the two images of RoadScene pairs.

Each infrared image is moved by a random similarity whose largest displacement is drawn from 2 to
20 pixels, both images are cropped so that no empty border gives the motion away, and one pair
alone has to tell. RoadScene's own pairs are off by one to three pixels; so two residuals are
reported: against the known motion, and against the known motion after what the estimate says of
the pair as it is published. The second counts as right only if that own offset is plausible (5
pixels at most): two estimates that are wrong in the same way agree too. Prints JSON.

    python benchmarks/alignment.py ../shared/data/roadscene --splits test,val
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dtpf.cameras.calibration import calibrate
from dtpf.cameras.homography import apply, distance, warp
from dtpf.core.records import SPLITS

MARGIN = 24  # pixels cropped from each side
LIMIT = 1.5  # pixels
PLAUSIBLE = 5.0  # pixels that a published pair may be off


def random_motion(rng: np.random.Generator, size: tuple[int, int], largest: float):
    """A similarity about the centre whose corners move by at most 20 pixels, one by `largest`."""
    height, width = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    angle, scale = np.deg2rad(rng.uniform(-4, 4)), rng.uniform(0.94, 1.06)
    shift = rng.uniform(-1, 1, 2) * largest
    for shrink in np.linspace(1, 0, 101):
        turn, size_change = angle * shrink, scale**shrink
        matrix = np.eye(3)
        cosine, sine = np.cos(turn), np.sin(turn)
        matrix[:2, :2] = size_change * np.array([[cosine, -sine], [sine, cosine]])
        matrix[:2, 2] = centre - matrix[:2, :2] @ centre + shift * shrink
        moved = np.linalg.norm(apply(matrix, corners) - corners, axis=1).max()
        if moved <= largest:
            break
    return matrix, float(moved)


def measure(seen, heat, motion) -> dict:
    """Calibrate a pair as it is and moved; residuals in pixels of the visible image."""
    height, width = seen.shape
    inner = np.s_[MARGIN : height - MARGIN, MARGIN : width - MARGIN]
    into = np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1.0]])
    moved = warp(heat, into @ motion @ np.linalg.inv(into), seen.shape, cubic=True)[inner]
    seen, heat = seen[inner], heat[inner]
    truth = np.linalg.inv(motion)
    begun = time.perf_counter()
    found = calibrate([(seen, moved)])
    seconds = time.perf_counter() - begun
    own = calibrate([(seen, heat)])
    return {
        "residual": distance(found.matrix, truth, seen.shape),
        "net_residual": distance(found.matrix, own.matrix @ truth, seen.shape),
        "own_offset": distance(own.matrix, np.eye(3), seen.shape),
        "score": found.score,
        "spread": found.spread,
        "sure": found.sure,
        "own_sure": own.sure,
        "seconds": round(seconds, 3),
    }


def pairs(root: Path, splits: list[str]):
    """Yield name, visible and infrared of each pair, gray float32."""
    for split in splits:
        for path in sorted((root / split / "vi").iterdir()):
            (other,) = (root / split / "ir").glob(f"{path.stem}.*")
            images = [np.asarray(Image.open(p).convert("L"), np.float32) for p in (path, other)]
            yield f"{split}/{path.stem}", *images


def summary(rows: list[dict]) -> dict:
    """Shares over all pairs, and over those that the tool is sure of."""
    sure = [row for row in rows if row["sure"]]

    def right(row):
        return row["net_residual"] < LIMIT and row["own_offset"] <= PLAUSIBLE

    def share(chosen, test):
        return round(float(np.mean([test(row) for row in chosen])), 4) if chosen else None

    def median(chosen, name):
        return round(float(np.median([row[name] for row in chosen])), 3) if chosen else None

    def as_published(row):
        return row["residual"] < LIMIT

    return {
        "pairs": len(rows),
        "sure": len(sure),
        "limit_pixels": LIMIT,
        "net_residual_below_limit_or_not_sure": share(
            rows, lambda row: right(row) or not row["sure"]
        ),
        "below_limit_of_all": {
            "residual": share(rows, as_published),
            "net_residual": share(rows, right),
        },
        "below_limit_of_sure": {
            "residual": share(sure, as_published),
            "net_residual": share(sure, right),
        },
        "median_of_sure": {
            name: median(sure, name) for name in ("residual", "net_residual", "own_offset")
        },
        "wrong_but_sure": [row["name"] for row in sure if not right(row)],
        "right_but_not_sure": [row["name"] for row in rows if not row["sure"] and right(row)],
        "median_seconds": median(rows, "seconds"),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", default=",".join(SPLITS))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", action="store_true", help="print each pair too")
    options = parser.parse_args()
    rng, rows = np.random.default_rng(options.seed), []
    for name, seen, heat in pairs(options.data, options.splits.split(",")):
        size = (seen.shape[0] - 2 * MARGIN, seen.shape[1] - 2 * MARGIN)
        motion, moved = random_motion(rng, size, rng.uniform(2, 20))
        rows.append({"name": name, "moved": round(moved, 2), **measure(seen, heat, motion)})
        if options.limit and len(rows) == options.limit:
            break
    document = {"benchmark": "alignment", "seed": options.seed, **summary(rows)}
    print(json.dumps({**document, **({"rows": rows} if options.rows else {})}, indent=2))


if __name__ == "__main__":
    main()
