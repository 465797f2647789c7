"""The mixture of Laplacian bands once more, plain: numpy and scipy, one image at a time.

Shares no code with `dtpf.core`; images and weights are (H, W) arrays of float64.
"""

import numpy as np
from scipy.ndimage import correlate1d, sobel


def smaller(image):
    """Smooth with the binomial of Burt and Adelson and keep every other pixel."""
    binomial = np.array([1, 4, 6, 4, 1]) / 16
    smooth = correlate1d(correlate1d(image, binomial, 0, mode="mirror"), binomial, 1, mode="mirror")
    return smooth[::2, ::2]


def larger(image):
    """Twice the size, bilinear: each new pixel is three quarters of the old one it lies in."""
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0)
        before, after = (
            np.concatenate([image[:1], image[:-1]]),
            np.concatenate([image[1:], image[-1:]]),
        )
        both = np.stack([0.25 * before + 0.75 * image, 0.75 * image + 0.25 * after], axis=1)
        image = np.moveaxis(both.reshape(-1, *image.shape[1:]), 0, axis)
    return image


def split(image):
    """Return four details, finest first, and the base."""
    details = []
    for _ in range(4):
        coarse = smaller(image)
        details.append(image - larger(coarse))
        image = coarse
    return details, image


def edge_energy(image):
    """Return the Gaussian mean, sigma 5, of the squared Sobel slope."""
    slope = sobel(image, 0, mode="mirror") ** 2 + sobel(image, 1, mode="mirror") ** 2
    window = np.exp(-0.5 * (np.arange(-15, 16) / 5) ** 2)
    window /= window.sum()
    return (
        correlate1d(correlate1d(slope, window, 0, mode="mirror"), window, 1, mode="mirror") + 1e-7
    )


def finest(detail):
    """Return what a binomial of three pixels smooths away."""
    binomial = np.array([1, 2, 1]) / 4
    smooth = correlate1d(
        correlate1d(detail, binomial, 0, mode="nearest"), binomial, 1, mode="nearest"
    )
    return detail - smooth


def mixture(visible, infrared, choice, gains, base_gains, fine_gains=None):
    """Return the mixed luminance.

    `choice` is (H, W); `gains` are four arrays (2, H / 2^l, W / 2^l); `base_gains` is
    (3, H / 8, W / 8); `fine_gains`, if there are any, (2, H, W).
    """
    advantage = 0.5 * np.log(edge_energy(visible) / edge_energy(infrared))
    share = 1 / (1 + np.exp(-8 * (advantage + choice)))
    details_v, base_v = split(visible)
    details_i, base_i = split(infrared)
    mixed = []
    for level in range(4):
        seen, heat = gains[level]
        mixed.append((share + seen) * details_v[level] + (1 - share + heat) * details_i[level])
        share = smaller(share)
    if fine_gains is not None:
        mixed[0] += fine_gains[0] * finest(details_v[0]) + fine_gains[1] * finest(details_i[0])
    rows, columns = base_v.shape
    seen, heat, offset = base_gains.reshape(3, rows, 2, columns, 2).mean(axis=(2, 4))
    image = np.maximum(base_v, base_i) + seen * (base_v - 0.5) + heat * (base_i - 0.5) + offset
    image = np.minimum(image, 1.25 * np.maximum(base_v, base_i) + 0.02)
    image = np.maximum(image, 0.75 * np.minimum(base_v, base_i))
    for detail in reversed(mixed):
        image = larger(image) + detail
    return image


def coloured(luma, visible):
    """Return (3, H, W): that luminance, with as much of the visible colour as fits in [0, 1]."""
    gray = np.tensordot([0.299, 0.587, 0.114], visible, 1)
    result = np.empty_like(visible)
    for place in np.ndindex(luma.shape):
        light = min(max(luma[place], 0.0), 1.0)
        chroma = visible[(slice(None), *place)] - gray[place]
        room = [(1 - light) / c if c > 0 else light / -c for c in chroma if c]
        result[(slice(None), *place)] = light + min([1.0, *room]) * chroma
    return result
