"""Seeded degradations of clean pairs, for exactly the kinds in `core/records.DEGRADATIONS`.

Images are float arrays in [0, 1]: visible (H, W, 3), infrared (H, W). Severity 0 changes nothing,
severity 1 is the worst that still shows the scene.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from kornia.filters import motion_blur

from dtpf.core.ops.pixels import FloatImage
from dtpf.core.records import Degradation

ImagePair = tuple[FloatImage, FloatImage]
Effect = Callable[[FloatImage, float, np.random.Generator], FloatImage]

# Order in which light and electronics add them: optics, exposure, sensor pattern, noise.
_PHYSICAL_ORDER = ("motion_blur", "low_light", "over_exposure", "low_contrast", "stripes", "noise")


def apply(
    pair: ImagePair, degradations: Sequence[Degradation], rng: np.random.Generator
) -> ImagePair:
    """Return the pair (visible, infrared) with all degradations, in physical order.

    The result depends on the set of degradations and on `rng`, not on the order of the list.
    """
    images = {"visible": pair[0], "infrared": pair[1]}
    ordered = sorted(degradations, key=lambda d: (d.modality, _PHYSICAL_ORDER.index(d.kind)))
    for degradation in ordered:
        images[degradation.modality] = degrade(images[degradation.modality], degradation, rng)
    return images["visible"], images["infrared"]


def degrade(image: FloatImage, degradation: Degradation, rng: np.random.Generator) -> FloatImage:
    """Return one image of a pair with one degradation, float32 in [0, 1]."""
    if degradation.severity == 0:
        return image
    changed = _EFFECTS[degradation.name](image, degradation.severity, rng)
    return np.clip(changed, 0.0, 1.0).astype(np.float32)


def _low_light(image: FloatImage, severity: float, rng: np.random.Generator) -> FloatImage:
    """Less light through the same tone curve: darker, and shadows fall to black first."""
    return np.asarray((1.0 - 0.85 * severity) * image ** (1.0 + 0.6 * severity), np.float32)


def _over_exposure(image: FloatImage, severity: float, rng: np.random.Generator) -> FloatImage:
    """More light than the sensor holds: brightness is lifted and the highlights clip."""
    return image * (1.0 + 0.9 * severity) + 0.10 * severity


def _motion_blur(image: FloatImage, severity: float, rng: np.random.Generator) -> FloatImage:
    """A straight movement of up to 9 percent of the width in a random direction."""
    size = 1 + 2 * max(1, round(0.045 * severity * image.shape[1]))
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # (1, 3, H, W)
    angle, direction = rng.uniform(0, 180), rng.uniform(-0.3, 0.3)
    blurred = motion_blur(tensor, size, angle, direction, border_type="replicate")
    return np.asarray(blurred[0].permute(1, 2, 0).numpy(), np.float32)


def _noise(image: FloatImage, severity: float, rng: np.random.Generator) -> FloatImage:
    """Read noise, the same everywhere, and shot noise, growing with the root of the signal."""
    read = rng.normal(0.0, 0.08 * severity, image.shape)
    shot = rng.normal(0.0, 0.10 * severity, image.shape) * np.sqrt(image)
    return np.asarray(image + read + shot, np.float32)


def _low_contrast(image: FloatImage, severity: float, rng: np.random.Generator) -> FloatImage:
    """Temperatures close to each other: the range shrinks about its mean."""
    mean = float(image.mean())
    return np.asarray(mean + (1.0 - 0.85 * severity) * (image - mean), np.float32)


def _stripes(image: FloatImage, severity: float, rng: np.random.Generator) -> FloatImage:
    """Column amplifiers of a microbolometer that drifted apart: one gain and offset a column."""
    width = image.shape[1]
    offset = rng.normal(0.0, 0.10 * severity, (1, width))
    gain = 1.0 + rng.normal(0.0, 0.10 * severity, (1, width))
    return np.asarray(image * gain + offset, np.float32)


_EFFECTS: dict[str, Effect] = {
    "visible/low_light": _low_light,
    "visible/over_exposure": _over_exposure,
    "visible/noise": _noise,
    "visible/motion_blur": _motion_blur,
    "infrared/low_contrast": _low_contrast,
    "infrared/noise": _noise,
    "infrared/stripes": _stripes,
}
