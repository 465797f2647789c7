"""How one rig's infrared camera sees its visible one: estimated once, stored, used always."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dtpf.cameras.homography import (
    FREEDOM,
    Matrix,
    Size,
    distance,
    from_points,
    local_scale,
    resizing,
)
from dtpf.cameras.refine import Pair, refine
from dtpf.cameras.search import Candidate, candidates
from dtpf.core.config import Config
from dtpf.core.errors import UserError
from dtpf.core.storage.uri import read_bytes

Model = Literal["shift", "similarity", "affine", "homography"]

SURE_SCORE = 0.3  # below it, wrong mappings occur on RoadScene; see benchmarks/alignment.py
_SURE_SPREAD = 0.01  # of the longer side: how far starts, or pairs, may lie apart
_MIDDLE, _FINE = 240, 640
_MANY = 3  # pairs from which on a homography is well determined
_SAME_ASPECT = 0.02


class Calibration(Config):
    """The mapping of infrared pixels (x, y, 1) to visible pixels, centres at whole numbers.

    Attributes:
        homography: 3 x 3, by rows.
        infrared_size: height and width of the infrared images it is for.
        visible_size: the same of the visible ones.
        method: what it comes from.
        model: kind of mapping that was fitted.
        pairs: how many image pairs, or marked points.
        score: correlation of edges (pairs), at most 1; 0 for points.
        spread: pixels between what several starts and single pairs say (pairs), or the root mean
            square distance of the points.
        sure: whether the estimate supports itself; if not, look at it or mark points.
    """

    homography: tuple[tuple[float, float, float], ...]
    infrared_size: tuple[int, int]
    visible_size: tuple[int, int]
    method: Literal["pairs", "points"]
    model: Model
    pairs: int
    score: float
    spread: float
    sure: bool

    @property
    def matrix(self) -> Matrix:
        """The homography as an array."""
        return np.array(self.homography, np.float64)

    def for_sizes(self, infrared: Size, visible: Size) -> Matrix:
        """Return the mapping for images of other sizes, if only scaled.

        Raises:
            UserError: another aspect ratio: cropped, or from another camera.
        """
        for name, given, known in (
            ("infrared", infrared, self.infrared_size),
            ("visible", visible, self.visible_size),
        ):
            if abs(given[1] * known[0] / (given[0] * known[1]) - 1.0) > _SAME_ASPECT:
                raise UserError(
                    f"the calibration is for {name} images of {known[1]}x{known[0]} pixels, this "
                    f"one has {given[1]}x{given[0]}; calibrate with images of this shape"
                )
        before = resizing(infrared, self.infrared_size)
        return resizing(self.visible_size, visible) @ self.matrix @ before


def load_calibration(uri: str) -> Calibration:
    """Read a calibration that `dtpf calibrate` wrote.

    Raises:
        UserError: no such file, or not a calibration.
    """
    return Calibration.parse(read_bytes(uri), uri)


def calibrate(pairs: Sequence[Pair], model: Model | None = None, ratio: float = 1.0) -> Calibration:
    """Estimate the mapping from pairs of one rig.

    Args:
        pairs: gray visible (H, W) and gray infrared images; any scale of values.
        model: kind of mapping; None takes a homography from three pairs on, else a similarity.
        ratio: field of view of the infrared camera over that of the visible one, where they
            differ by more than a tenth.

    Raises:
        UserError: no pairs, or of several sizes.
    """
    if not pairs or len({(seen.shape, heat.shape) for seen, heat in pairs}) > 1:
        raise UserError(f"{len(pairs)} pairs; give one or more, each side of one size")
    kind: Model = model or ("homography" if len(pairs) >= _MANY else "similarity")
    visible, infrared = pairs[0][0].shape, pairs[0][1].shape
    start = initial_mapping(infrared, visible, ratio)
    starts = [item for pair in pairs for item in candidates(*pair, start)]
    first, apart = _middle(pairs, starts, min(4, FREEDOM[kind]))
    matrix, score = refine(pairs, first, _FINE, min(4, FREEDOM[kind]))
    if FREEDOM[kind] > 4:
        matrix, score = refine(pairs, matrix, _FINE, FREEDOM[kind])
    spread = max(apart, _between_pairs(pairs, matrix))
    sure = score >= SURE_SCORE and spread <= _SURE_SPREAD * max(visible)
    return _calibration(matrix, infrared, visible, "pairs", kind, len(pairs), score, spread, sure)


def calibrate_points(
    infrared_points: NDArray, visible_points: NDArray, infrared: Size, visible: Size
) -> Calibration:
    """Fit marked points (N, 2) of x and y. Errors as in `homography.from_points`."""
    matrix, rms = from_points(infrared_points, visible_points)
    count = len(infrared_points)
    sure = count >= 5 and rms <= _SURE_SPREAD * max(visible)
    kind: Model = "homography" if count >= 5 else "affine"
    return _calibration(matrix, infrared, visible, "points", kind, count, 0.0, rms, sure)


def initial_mapping(infrared: Size, visible: Size, ratio: float = 1.0) -> Matrix:
    """Return the mapping of cameras with one axis: same centre, `ratio` of the field of view."""
    matrix = resizing(infrared, visible)
    centre = np.array([[1, 0, (visible[1] - 1) / 2], [0, 1, (visible[0] - 1) / 2], [0, 0, 1]])
    return np.asarray(centre @ np.diag([ratio, ratio, 1.0]) @ np.linalg.inv(centre) @ matrix)


def _middle(
    pairs: Sequence[Pair], starts: Sequence[Candidate], freedom: int
) -> tuple[Matrix, float]:
    """Return the best mapping at half resolution and how far from it the nearest other came."""
    best = sorted(starts, key=lambda item: -item.score)[:4]
    found = [refine(pairs, item.matrix, _MIDDLE, freedom) for item in best]
    order = sorted(range(len(found)), key=lambda index: -found[index][1])
    matrix, shape = found[order[0]][0], pairs[0][1].shape
    return matrix, min((distance(found[i][0], matrix, shape) for i in order[1:]), default=np.inf)


def _between_pairs(pairs: Sequence[Pair], matrix: Matrix) -> float:
    """Return the median distance of what each pair alone says from what all say together."""
    if len(pairs) == 1:
        return 0.0
    shape = pairs[0][1].shape
    alone = [refine([pair], matrix, _MIDDLE, 4)[0] for pair in pairs]
    return float(np.median([distance(found, matrix, shape) for found in alone]))


def _calibration(
    matrix: Matrix,
    infrared: Size,
    visible: Size,
    method: Literal["pairs", "points"],
    model: Model,
    count: int,
    score: float,
    spread: float,
    sure: bool,
) -> Calibration:
    scale = local_scale(matrix, infrared)
    assert np.isfinite(scale), matrix
    rows = tuple((float(a), float(b), float(c)) for a, b, c in matrix)
    return Calibration(
        homography=rows,
        infrared_size=infrared,
        visible_size=visible,
        method=method,
        model=model,
        pairs=count,
        score=round(score, 4),
        spread=round(min(spread, 1e6), 3),
        sure=bool(sure),
    )
