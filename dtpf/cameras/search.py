"""The rough position of an infrared image in a visible one: all shifts, some turns and scales.

Small images are compared by the correlation of their oriented gradients over the area they share,
for all shifts at once (masked correlation by FFT, Padfield, IEEE TIP 2012,
doi 10.1109/TIP.2011.2181402). Several distinct candidates are returned: the finer search decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dtpf.cameras.features import DIRECTIONS, Float, oriented_gradients
from dtpf.cameras.homography import Matrix, distance, resizing, warp

_SIDE = 160
_TURNS = np.arange(-6.0, 6.1, 2.0)  # degrees
_SCALES = np.arange(0.90, 1.101, 0.05)
_REACH = 0.15  # of the longer side
_DISTINCT = 2.0  # pixels of the small image
_EDGE = 7  # pixels next to the border of a turned image, whose gradients are of the border


@dataclass(frozen=True)
class Candidate:
    """A mapping of infrared to visible pixels, and the correlation it reached."""

    matrix: Matrix
    score: float


def candidates(visible: Float, infrared: Float, start: Matrix, count: int = 3) -> list[Candidate]:
    """Return the best distinct mappings near `start`, best first.

    Args:
        visible: gray (H, W).
        infrared: gray, of any size.
        start: what is known before, infrared to visible; a resize where nothing is.
        count: at most so many.
    """
    height, width = visible.shape
    shrunk = _SIDE / max(height, width)
    size = (max(16, round(height * shrunk)), max(16, round(width * shrunk)))
    to_small = resizing((height, width), size)
    seen = np.asarray(cv2.resize(visible, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
    found = []
    correlator = _Correlator(seen)
    for turned in _turned(size):
        heat = warp(infrared, turned @ to_small @ start, size)
        mask = warp(np.ones(infrared.shape, np.float32), turned @ to_small @ start, size)
        inner = np.asarray(cv2.erode(mask, np.ones((_EDGE, _EDGE))), np.float32)
        score, shift = correlator.best(heat, inner)
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], np.float64)
        found.append(Candidate(np.linalg.inv(to_small) @ move @ turned @ to_small @ start, score))
    found.sort(key=lambda item: -item.score)
    chosen: list[Candidate] = []
    for item in found:
        gaps = (distance(item.matrix, other.matrix, infrared.shape) for other in chosen)
        if all(gap * shrunk > _DISTINCT for gap in gaps):
            chosen.append(item)
        if len(chosen) == count:
            break
    return chosen


def _turned(size: tuple[int, int]) -> Iterator[Matrix]:
    """Yield turns and scales about the centre."""
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    for angle in np.deg2rad(_TURNS):
        for scale in _SCALES:
            matrix = np.eye(3)
            turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            matrix[:2, :2] = scale * np.array(turn)
            matrix[:2, 2] = centre - matrix[:2, :2] @ centre
            yield matrix


class _Correlator:
    """Correlates images of one size with a fixed one, for all shifts within reach."""

    def __init__(self, seen: Float) -> None:
        features = oriented_gradients(seen)
        features -= features.mean(axis=(0, 1))
        self._padded = (2 * seen.shape[0], 2 * seen.shape[1])
        self._seen = [self._forward(features[..., band]) for band in range(DIRECTIONS)]
        self._power = self._forward((features**2).sum(axis=2))
        self._area = self._forward(np.ones(seen.shape, np.float32))
        self._reach = round(_REACH * max(seen.shape))

    def best(self, heat: Float, mask: Float) -> tuple[float, tuple[int, int]]:
        """Return the highest correlation and its shift in x and y."""
        features, weight = oriented_gradients(heat), float(mask.sum())
        if weight < 0.2 * mask.size:
            return -1.0, (0, 0)
        mean = (features * mask[..., None]).sum(axis=(0, 1)) / weight
        features = (features - mean) * mask[..., None]
        product = sum(
            self._correlate(seen, features[..., band]) for band, seen in enumerate(self._seen)
        )
        powers = self._correlate(self._power, mask) * self._correlate(
            self._area, (features**2).sum(axis=2)
        )
        reach = self._reach
        score = np.roll(product / np.sqrt(np.maximum(powers, 1e-6)), (reach, reach), (0, 1))
        score = score[: 2 * reach + 1, : 2 * reach + 1]
        row, column = np.unravel_index(int(score.argmax()), score.shape)
        return float(score[row, column]), (int(column) - reach, int(row) - reach)

    def _forward(self, image: NDArray) -> NDArray:
        return np.fft.rfft2(image, self._padded)

    def _correlate(self, transformed: NDArray, image: NDArray) -> NDArray:
        return np.fft.irfft2(transformed * np.conj(self._forward(image)), self._padded)
