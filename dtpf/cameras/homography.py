"""Plane mappings between two cameras: 3 x 3 matrices on pixel centres at whole numbers.

Everywhere in this package a homography maps infrared pixels (x, y, 1) to visible pixels.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtpf.core.errors import UserError

Matrix = NDArray[np.floating[Any]]
Size = tuple[int, int]  # height, width

FREEDOM = {"shift": 2, "similarity": 4, "affine": 6, "homography": 8}
_GRID = 15


def apply(matrix: Matrix, points: NDArray) -> Matrix:
    """Map points (N, 2) of x and y."""
    mapped = np.c_[points, np.ones(len(points))] @ matrix.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def resizing(source: Size, target: Size) -> Matrix:
    """Return the mapping of a plain resize, which keeps the outer edges where they are."""
    sy, sx = target[0] / source[0], target[1] / source[1]
    return np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]], np.float64)


def distance(first: Matrix, second: Matrix, size: Size) -> float:
    """Return the mean distance in target pixels of two mappings over a source image."""
    y, x = np.mgrid[0 : size[0] - 1 : _GRID * 1j, 0 : size[1] - 1 : _GRID * 1j]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    moved = apply(first, points) - apply(second, points)
    return float(np.linalg.norm(moved, axis=1).mean())


def from_points(infrared: NDArray, visible: NDArray) -> tuple[Matrix, float]:
    """Fit marked points (N, 2): a homography of five or more, an affine mapping of three or four.

    Returns:
        The mapping, and the root mean square distance that it leaves, in visible pixels.

    Raises:
        UserError: fewer than three points, or all on a line.
    """
    if len(infrared) < 3:
        raise UserError(f"{len(infrared)} marked points; mark at least three, better eight")
    given, wanted = np.asarray(infrared, np.float64), np.asarray(visible, np.float64)
    if np.linalg.matrix_rank(given - given.mean(0), tol=1e-6 * np.abs(given).max()) < 2:
        raise UserError("the marked points lie on one line; mark points all over the picture")
    # Four points meet a homography exactly, errors and all: it takes one more to check it.
    if len(given) >= 5:
        fitted = cv2.findHomography(given, wanted, 0)[0]
        matrix = np.asarray(np.nan if fitted is None else fitted, np.float64)
    else:
        design = np.c_[given, np.ones(len(given))]
        rows = np.linalg.lstsq(design, wanted, rcond=None)[0].T
        matrix = np.vstack([rows, [0.0, 0.0, 1.0]])
    if not np.isfinite(matrix).all():
        raise UserError("no mapping fits the marked points; check their order")
    left = apply(matrix, given) - wanted
    return np.asarray(matrix, np.float64), float(np.sqrt((left**2).sum(axis=1).mean()))


def warp(
    image: NDArray[np.float32], matrix: Matrix, size: Size, cubic: bool = False
) -> NDArray[np.float32]:
    """Resample an image by `matrix` onto a grid (H, W); outside of it the border is repeated.

    Where pixels get fewer, it is blurred first: what is finer than the new grid would alias.
    """
    fewer = 1.0 / max(local_scale(matrix, (image.shape[0], image.shape[1])), 1e-6)
    if fewer > 1.25:
        sigma = 0.45 * np.sqrt(fewer**2 - 1)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    return np.asarray(
        cv2.warpPerspective(
            image,
            matrix,
            (size[1], size[0]),
            flags=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


def covered(matrix: Matrix, source: Size, target: Size) -> NDArray[np.bool_]:
    """Return where on the target grid the source image has pixels."""
    y, x = np.mgrid[0 : target[0], 0 : target[1]]
    points = apply(np.linalg.inv(matrix), np.stack([x.ravel(), y.ravel()], axis=1))
    inside = (points >= -0.5) & (points <= [source[1] - 0.5, source[0] - 0.5])
    return np.asarray(inside.all(axis=1).reshape(target))


def local_scale(matrix: Matrix, source: Size) -> float:
    """Return how many target pixels a source pixel is wide, at the centre."""
    middle = np.array([[source[1] / 2, source[0] / 2]])
    corners = apply(matrix, middle + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    edges = corners[1:] - corners[:1]
    return float(np.sqrt(abs(np.linalg.det(edges))))


def generators(count: int) -> Matrix:
    """Return the first of: shift x, shift y, turn, scale, two of shear, two of perspective."""
    places: Sequence[Sequence[tuple[int, int, float]]] = (
        [(0, 2, 1)],
        [(1, 2, 1)],
        [(0, 1, -1), (1, 0, 1)],
        [(0, 0, 1), (1, 1, 1)],
        [(0, 0, 1), (1, 1, -1)],
        [(0, 1, 1), (1, 0, 1)],
        [(2, 0, 1)],
        [(2, 1, 1)],
    )
    found = np.zeros((count, 3, 3))
    for matrix, entries in zip(found, places, strict=False):
        for row, column, value in entries:
            matrix[row, column] = value
    return found
