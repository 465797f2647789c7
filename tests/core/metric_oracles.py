"""Plain loops over pixels, written from the papers: what the fast metrics are held against."""

import math

import numpy as np
from scipy.signal import convolve2d


def mutual_information(source, fused):
    counts, rows, columns = {}, {}, {}
    for a, f in zip(source.ravel().astype(int), fused.ravel().astype(int), strict=True):
        counts[a, f] = counts.get((a, f), 0) + 1
        rows[a] = rows.get(a, 0) + 1
        columns[f] = columns.get(f, 0) + 1
    n = source.size
    return sum(c / n * math.log2(c * n / (rows[a] * columns[f])) for (a, f), c in counts.items())


def spatial_frequency(image):
    height, width = image.shape
    rows = [(image[y, x] - image[y, x - 1]) ** 2 for y in range(height) for x in range(1, width)]
    columns = [(image[y, x] - image[y - 1, x]) ** 2 for y in range(1, height) for x in range(width)]
    return math.sqrt(sum(rows) / len(rows) + sum(columns) / len(columns))


def average_gradient(image):
    height, width = image.shape
    total = 0.0
    for y in range(height - 1):
        for x in range(width - 1):
            across, down = image[y, x + 1] - image[y, x], image[y + 1, x] - image[y, x]
            total += math.sqrt((across**2 + down**2) / 2)
    return total / ((height - 1) * (width - 1))


def vif(reference, distorted):
    kept = total = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        window = _gaussian(size, size / 5)
        if scale > 1:
            reference = _filtered(reference, window)[::2, ::2]
            distorted = _filtered(distorted, window)[::2, ::2]
        for y in range(reference.shape[0] - size + 1):
            for x in range(reference.shape[1] - size + 1):
                r, d = (image[y : y + size, x : x + size] for image in (reference, distorted))
                mean_r, mean_d = (window * r).sum(), (window * d).sum()
                var_r = (window * (r - mean_r) ** 2).sum()
                var_d = (window * (d - mean_d) ** 2).sum()
                cov = (window * (r - mean_r) * (d - mean_d)).sum()
                gain = max(cov / var_r, 0.0) if var_r > 1e-10 else 0.0
                rest = var_d - gain * cov
                kept += math.log(1 + gain**2 * var_r / (rest + 2.0))
                total += math.log(1 + var_r / 2.0)
    return kept / total


def ms_ssim(first, second):
    window, result = _gaussian(11, 1.5), 1.0
    c1, c2 = 2.55**2, 7.65**2
    for level, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if level:
            first, second = (_halved(image) for image in (first, second))
        mean_a, mean_b = (convolve2d(x, window, "valid") for x in (first, second))
        var_a = convolve2d(first**2, window, "valid") - mean_a**2
        var_b = convolve2d(second**2, window, "valid") - mean_b**2
        cov = convolve2d(first * second, window, "valid") - mean_a * mean_b
        values = (2 * cov + c2) / (var_a + var_b + c2)
        if level == 4:
            values = values * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        result *= max(values.mean(), 0.0) ** weight
    return result


def qabf(visible, infrared, fused, interior=False):
    edges = [
        _edges(image[1:-1, 1:-1], lambda _, image=image: image)
        if interior
        else _edges(image, _zero_framed)
        for image in (visible, infrared, fused)
    ]
    kept = total = 0.0
    for y in range(len(edges[2])):
        for x in range(len(edges[2][0])):
            strength_f, angle_f = edges[2][y][x]
            for source in edges[:2]:
                strength, angle = source[y][x]
                large, small = max(strength, strength_f), min(strength, strength_f)
                ratio = small / large if large > 0 else 1.0
                alike = 1 - abs(angle - angle_f) / (math.pi / 2)
                kept_strength = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
                kept_angle = 0.9879 / (1 + math.exp(-22 * (alike - 0.8)))
                kept += kept_strength * kept_angle * strength
                total += strength
    return kept / total


def nabf(visible, infrared, fused, ramp=0.0):
    edges = [_edges(image / 8, _mirrored) for image in (visible, infrared, fused)]
    added = total = 0.0
    for y in range(fused.shape[0]):
        for x in range(fused.shape[1]):
            strength_f, angle_f = edges[2][y][x]
            excess = strength_f - max(source[y][x][0] for source in edges[:2])
            counted = float(excess > 0)
            if ramp:
                counted = min(1, max(0, excess / (ramp * (strength_f - excess + 0.5))))
            for source in edges[:2]:
                strength, angle = source[y][x]
                weight = strength**1.5 if strength >= 2 else 0.001
                total += weight
                if counted:
                    angle = angle if strength > 0 else 0.0
                    alike = abs(abs(angle - angle_f) - math.pi / 2) * 2 / math.pi
                    ratio = min(strength, strength_f) / max(strength, strength_f)
                    kept_strength = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
                    kept_angle = 0.9995 / (1 + math.exp(-22 * (alike - 0.5)))
                    added += counted * weight * (1 - math.sqrt(kept_strength * kept_angle))
    return added / total


def _edges(image, framed):
    padded = framed(image)
    result = []
    for y in range(image.shape[0]):
        row = []
        for x in range(image.shape[1]):
            p = padded[y : y + 3, x : x + 3]
            across = (p[0, 2] + 2 * p[1, 2] + p[2, 2]) - (p[0, 0] + 2 * p[1, 0] + p[2, 0])
            down = (p[2, 0] + 2 * p[2, 1] + p[2, 2]) - (p[0, 0] + 2 * p[0, 1] + p[0, 2])
            # The frame's angle against upright edges follows true convolution: -down / across.
            angle = math.pi / 2 if across == 0 else math.atan(-down / across)
            row.append((math.hypot(across, down), angle))
        result.append(row)
    return result


def _halved(image):
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    return image[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def _zero_framed(image):
    return np.pad(image, 1)


def _mirrored(image):
    return np.pad(image, 1, mode="reflect")


def _gaussian(size, sigma):
    axis = np.arange(size) - size // 2
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * sigma**2))
    return window / window.sum()


def _filtered(image, window):
    size = window.shape[0]
    height, width = image.shape[0] - size + 1, image.shape[1] - size + 1
    return np.array(
        [
            [(window * image[y : y + size, x : x + size]).sum() for x in range(width)]
            for y in range(height)
        ]
    )
