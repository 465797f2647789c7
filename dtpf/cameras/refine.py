"""The exact position: Gauss-Newton on oriented gradients, over all pairs of a rig at once.

Inverse compositional image alignment (Baker and Matthews, IJCV 2004, doi
10.1023/B:VISI.0000011205.11775.fd) with robust weights, from few degrees of freedom to many.
OpenCV's ECC has no similarity and takes one pair alone, which is why it is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from dtpf.cameras.features import Float, oriented_gradients
from dtpf.cameras.homography import Matrix, generators, resizing

Pair = tuple[Float, Float]  # gray visible, gray infrared

_STEPS = 25
_STILL = 0.01  # pixels: a step below ends the search
_OVERLAP = 0.3
_USED = 0.35  # share of the pixels, those with the strongest edges
_DAMPING = 1e-3


@dataclass(frozen=True)
class _Prepared:
    """What one pair contributes: kept pixels, their features and the slope in each parameter."""

    infrared: Float  # (H, W, C)
    kept: NDArray[np.intp]  # (N,)
    wanted: Float  # (N, C)
    slope: Float  # (N, C, parameters)


def refine(pairs: Sequence[Pair], start: Matrix, side: int, freedom: int) -> tuple[Matrix, float]:
    """Refine a mapping of infrared to visible pixels on images reduced to `side` pixels.

    Args:
        pairs: of one rig: all visible images of one size, all infrared ones of one size.
        start: at most some pixels of the reduced images away.
        side: longer side of the reduced images; larger ones are not enlarged.
        freedom: 2 (shift), 4 (similarity), 6 (affine) or 8 (homography).

    Returns:
        The mapping and the mean correlation of features, -1 where the search lost its way.
    """
    seen, heat = pairs[0][0].shape, pairs[0][1].shape
    small = [_reduced(shape, side) for shape in (seen, heat)]
    to_small = [resizing(*sizes) for sizes in zip((seen, heat), small, strict=True)]
    visible_to_infrared = to_small[1] @ np.linalg.inv(start) @ np.linalg.inv(to_small[0])
    frame = _unit_frame(small[0])
    prepared = [_prepare(pair, small, frame, freedom) for pair in pairs]
    score, found = _descend(prepared, visible_to_infrared, frame, small[0], freedom)
    matrix = np.linalg.inv(np.linalg.inv(to_small[1]) @ found @ to_small[0])
    return matrix / matrix[2, 2], score


def _descend(
    pairs: Sequence[_Prepared], mapping: Matrix, frame: Matrix, size: tuple[int, int], freedom: int
) -> tuple[float, Matrix]:
    back, basis, best = np.linalg.inv(frame), generators(freedom), (-1.0, mapping)
    for _ in range(_STEPS):
        parts = [_normal_equations(pair, mapping, size) for pair in pairs]
        known = [part for part in parts if part is not None]
        if not known:
            return -1.0, mapping
        score = float(np.mean([part[2] for part in known]))
        best = max(best, (score, mapping), key=lambda item: item[0])
        square, right = sum(part[0] for part in known), sum(part[1] for part in known)
        damped = square + _DAMPING * np.trace(square) / freedom * np.eye(freedom)
        step = np.linalg.solve(damped, right)
        mapping = mapping @ frame @ expm(-np.tensordot(step, basis, 1)) @ back
        mapping /= mapping[2, 2]
        if float(np.abs(step).max()) * frame[0, 0] < _STILL:
            break
    return best


def _normal_equations(
    pair: _Prepared, mapping: Matrix, size: tuple[int, int]
) -> tuple[NDArray, NDArray, float] | None:
    flags = cv2.WARP_INVERSE_MAP
    width_height = size[::-1]
    moved = cv2.warpPerspective(
        pair.infrared, mapping, width_height, flags=flags | cv2.INTER_LINEAR
    )
    area = np.ones(pair.infrared.shape[:2], np.uint8)
    mask = cv2.warpPerspective(area, mapping, width_height, flags=flags | cv2.INTER_NEAREST)
    inside = mask.reshape(-1)[pair.kept] > 0
    if inside.mean() < _OVERLAP:
        return None
    moved_features = moved.reshape(-1, moved.shape[2])[pair.kept[inside]]
    found = _standard(np.asarray(moved_features, np.float32))
    wanted = _standard(pair.wanted[inside])
    error = found - wanted
    length = np.sqrt((error**2).sum(axis=1))
    weight = 1.0 / (1.0 + (length / (1.5 * np.median(length) + 1e-9)) ** 2)  # Cauchy
    slope = pair.slope[inside]
    columns = slope.shape[2]
    weighted = (slope * weight[:, None, None]).reshape(-1, columns)
    square = weighted.T @ slope.reshape(-1, columns)
    return square, weighted.T @ error.reshape(-1), float((found * wanted).mean())


def _prepare(
    pair: Pair, sizes: Sequence[tuple[int, int]], frame: Matrix, freedom: int
) -> _Prepared:
    seen, heat = (
        oriented_gradients(
            np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
        )
        for image, size in zip(pair, sizes, strict=True)
    )
    scaled = _standard(seen.reshape(-1, seen.shape[2])).reshape(seen.shape)
    along_x = cv2.Sobel(scaled, cv2.CV_32F, 1, 0, scale=1 / 8) * frame[0, 0]
    along_y = cv2.Sobel(scaled, cv2.CV_32F, 0, 1, scale=1 / 8) * frame[0, 0]
    energy = (along_x**2 + along_y**2).sum(axis=2).reshape(-1)
    kept = np.flatnonzero(energy >= np.quantile(energy, 1 - _USED))
    row, column = np.unravel_index(kept, sizes[0])
    u = (column - frame[0, 2]) / frame[0, 0]
    v = (row - frame[1, 2]) / frame[0, 0]
    one, zero = np.ones_like(u), np.zeros_like(u)
    moved_x = [one, zero, -v, u, u, v, -u * u, -u * v][:freedom]
    moved_y = [zero, one, u, v, -v, u, -u * v, -v * v][:freedom]
    slope_x = along_x.reshape(-1, seen.shape[2])[kept]
    slope_y = along_y.reshape(-1, seen.shape[2])[kept]
    slope = [
        slope_x * x[:, None] + slope_y * y[:, None] for x, y in zip(moved_x, moved_y, strict=True)
    ]
    wanted = seen.reshape(-1, seen.shape[2])[kept]
    return _Prepared(heat, kept, wanted, np.stack(slope, axis=2).astype(np.float32))


def _standard(features: Float) -> Float:
    centred = features - features.mean(axis=0)
    return np.asarray(centred / (np.sqrt((centred**2).mean()) + 1e-9), np.float32)


def _reduced(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    factor = min(1.0, side / max(shape))
    return max(16, round(shape[0] * factor)), max(16, round(shape[1] * factor))


def _unit_frame(size: tuple[int, int]) -> Matrix:
    """Return the mapping of the square [-1, 1] to pixels, along the longer side."""
    half = max(size) / 2
    return np.array([[half, 0, (size[1] - 1) / 2], [0, half, (size[0] - 1) / 2], [0, 0, 1]])
