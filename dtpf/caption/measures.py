"""Image statistics that reveal a degradation: exposure, noise, motion blur, contrast, stripes.

Pure functions on one gray float image (H, W) in [0, 1]. Each returns a number that grows with
the defect and hardly moves with the scene, so one threshold per degradation is enough.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

_MAD_TO_SIGMA = 1 / 0.6745  # median absolute deviation of a normal distribution is 0.6745 sigma
_CLIPPED_LOW, _CLIPPED_HIGH = 0.02, 0.98  # beyond these, quantisation and clipping hide noise
_BLOCK = 8  # side of the blocks over which noise is pooled, in wavelet coefficients
_TILE = 128  # side of the windows of the averaged power spectrum, in pixels
_SMALLEST_TILE = 32  # below it the low band of the spectrum holds no frequency bin
_SECTORS = 24


def darkness(gray: FloatArray) -> float:
    """Return 1 - the mean of white point and three times the median, both at most 1.

    The white point (99.9th percentile) sinks when a whole scene is under-exposed; the median
    sinks at night, however bright its lamps. 0 is well lit, 1 is black.
    """
    median, white_point = np.quantile(gray, (0.5, 0.999))
    return float(1.0 - (white_point + min(3.0 * median, 1.0)) / 2)


def brightness(gray: FloatArray) -> float:
    """Return the level of the dark parts (5th percentile twice, median once), in [0, 1].

    Many scenes hold a blown-out sky; only an over-exposed one has no dark parts left. The white
    point as a factor keeps fog and low contrast apart from over-exposure.
    """
    dark, median, white_point = np.quantile(gray, (0.05, 0.5, 0.999))
    return float(white_point * (2.0 * dark + median) / 3)


def flatness(gray: FloatArray) -> float:
    """Return the part of the full range that the scene leaves unused, in [0, 1].

    The scene's range is the 1st to 99th percentile, less what white noise and stripes (both
    taken as normal, 4.65 standard deviations between these percentiles) add in quadrature.
    """
    low, high = np.quantile(gray, (0.01, 0.99))
    disturbance = noise_level(gray) ** 2 + stripe_level(gray) ** 2 / 2
    return float(1.0 - np.sqrt(max((high - low) ** 2 - 4.65**2 * disturbance, 0.0)))


def noise_level(gray: FloatArray) -> float:
    """Return the standard deviation of white noise, in units of the full range.

    Diagonal detail of the orthonormal Haar transform (Donoho and Johnstone 1994), pooled in
    blocks; the lower quartile of the blocks is taken, since textured blocks only add energy.
    Horizontal and vertical stripes cancel in it. Blocks that are mostly clipped are left out.
    """
    a, b, c, d = _quads(gray)
    energy = _block_means(((a - b - c + d) / 2) ** 2)
    inside = _block_means(((a > _CLIPPED_LOW) & (a < _CLIPPED_HIGH)).astype(np.float32))
    usable = energy[inside > 0.3]
    return float(np.sqrt(np.quantile(usable, 0.25))) if usable.size else 0.0


def stripe_level(gray: FloatArray) -> float:
    """Return the strength of column or row stripes, in units of the full range.

    A step between neighbouring columns that most rows share is a stripe: the median over rows
    ignores scene edges, the median over columns ignores single straight edges.
    """
    return max(_shared_steps(gray), _shared_steps(gray.T))


def motion_blur(gray: FloatArray) -> float:
    """Return how much fine detail one direction lacks against the others, in nepers.

    Motion is a low-pass filter along one direction, so the power spectrum falls faster in the
    sector along it. Measured as the spread over sectors of log(fine / coarse power), with the
    floor of white noise taken off. Images below 32 pixels a side give 0.
    """
    power = _power_spectrum(gray)
    if power is None:
        return 0.0
    frequency, angle = _polar_grid(power.shape[0])
    floor = float(np.quantile(power[frequency > 0.35], 0.05))
    limit = _signal_limit(power, frequency)
    fine = (frequency > 0.5 * limit) & (frequency < limit)
    coarse = (frequency > 0.015) & (frequency < 0.05)
    ratios = []
    for centre in np.arange(_SECTORS) * np.pi / _SECTORS:
        sector = np.abs(np.mod(angle - centre + np.pi / 2, np.pi) - np.pi / 2) < np.pi / 20
        fine_power, coarse_power = (
            float(power[sector & band].mean()) - floor for band in (fine, coarse)
        )
        ratios.append(_log(fine_power, floor) - _log(coarse_power, floor))
    return float(max(ratios) - min(ratios))


def _signal_limit(power: FloatArray, frequency: FloatArray) -> float:
    """Return the frequency (0.08 to 0.4) up to which the scene stands out of white noise."""
    noise = np.median(power[frequency > 0.45])
    limit = 0.08
    for low in (0.04 + 0.02 * step for step in range(18)):
        if power[(frequency >= low) & (frequency < low + 0.02)].mean() <= 2 * noise:
            break
        limit = max(limit, low + 0.02)
    return limit


def _log(power: float, floor: float) -> float:
    """Return log power; below a twentieth of the noise floor nothing can be told apart."""
    return float(np.log(max(power, 0.05 * floor, 1e-9)))


def _quads(gray: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the four pixels of every 2 x 2 cell; an odd last row or column is left out."""
    even = gray[: gray.shape[0] // 2 * 2, : gray.shape[1] // 2 * 2]
    return even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]


def _block_means(values: FloatArray) -> FloatArray:
    """Return the means of whole blocks; an image smaller than a block counts as one."""
    height, width = values.shape
    rows, columns = min(_BLOCK, height), min(_BLOCK, width)
    cut = values[: height // rows * rows, : width // columns * columns]
    return cut.reshape(height // rows, rows, width // columns, columns).mean((1, 3))


def _shared_steps(gray: FloatArray) -> float:
    steps = np.median(np.diff(gray, axis=1), axis=0)
    return float(np.median(np.abs(steps)) * _MAD_TO_SIGMA)


def _power_spectrum(gray: FloatArray) -> FloatArray | None:
    """Return the mean power over overlapping Hann windows (Welch 1967), unshifted."""
    side = min(_TILE, gray.shape[0] // 2 * 2, gray.shape[1] // 2 * 2)
    if side < _SMALLEST_TILE:
        return None
    window = np.outer(np.hanning(side), np.hanning(side))
    total: FloatArray = np.zeros((side, side))
    corners = [(y, x) for y in _starts(gray.shape[0], side) for x in _starts(gray.shape[1], side)]
    for y, x in corners:
        tile = gray[y : y + side, x : x + side]
        total += np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2
    return total / (len(corners) * (window**2).sum())


def _starts(length: int, side: int) -> NDArray[np.int_]:
    return np.linspace(0, length - side, max(1, round(1.6 * length / side))).astype(np.int_)


def _polar_grid(side: int) -> tuple[FloatArray, FloatArray]:
    """Return frequency (cycles per pixel) and direction (radians, [0, pi)) of each bin."""
    axis = np.fft.fftfreq(side)
    down, across = np.meshgrid(axis, axis, indexing="ij")
    return np.hypot(across, down), np.mod(np.arctan2(down, across), np.pi)
