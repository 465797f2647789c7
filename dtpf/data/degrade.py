"""Seeded degradations of clean pairs, for exactly the kinds in `core/records.DEGRADATIONS`.

After MMAIF (Cao et al. 2025, section 3.1): weather blurs the infrared, and one to three at once.
Images are float arrays in [0, 1]: visible (H, W, 3), infrared (H, W). Severity 0 changes nothing,
severity 1 is the worst that still shows the scene.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d, motion_blur
from torch import Tensor

from dtpf.core.models.exposure import GAIN, LIFT
from dtpf.core.ops.pixels import FloatImage
from dtpf.core.records import DEGRADATIONS, EVERY_DEGRADATION, MODALITIES, Degradation
from dtpf.data.weather import haze, rain, snow

ImagePair = tuple[FloatImage, FloatImage]
Effect = Callable[[FloatImage, float, np.random.Generator, int], FloatImage]

WEATHER = frozenset({"rain", "haze", "snow"})
_AT_ONCE = (0.6, 0.3, 0.1)  # how often one, two and three degradations come together
_TRIES = 100  # draws until so many are found that go together: always, but for a few names

# Order in which light and electronics add them: scene, optics, exposure, its pattern, noise.
_PHYSICAL_ORDER = (
    "haze",
    "rain",
    "snow",
    "motion_blur",
    "gaussian_blur",
    "low_light",
    "over_exposure",
    "low_contrast",
    "downsampling",
    "stripes",
    "noise",
)
# Kinds of which at most one makes sense in an image.
_EXCLUSIVE = (
    frozenset({"low_light", "over_exposure", "low_contrast", "haze"}),
    frozenset({"motion_blur", "gaussian_blur", "downsampling"}),
    WEATHER,
)
_INFRARED_BLUR = 0.5  # of weather: how severe, as a share of the weather's own severity


def draw_degradations(
    rng: np.random.Generator,
    lowest: float = 0.2,
    highest: float = 0.8,
    names: Sequence[str] = EVERY_DEGRADATION,
) -> tuple[Degradation, ...]:
    """Draw one to three degradations of a pair, severities even between the bounds.

    Half of them are the infrared's, which has fewer kinds. `names` are those to draw from, such as
    `infrared/noise`; where they clash with each other, fewer are drawn than would be.
    """
    allowed = {
        modality: [kind for kind in kinds if f"{modality}/{kind}" in names]
        for modality, kinds in DEGRADATIONS.items()
    }
    modalities = [modality for modality in MODALITIES if allowed[modality]]
    wanted = 1 + int(rng.choice(len(_AT_ONCE), p=_AT_ONCE))
    drawn: list[tuple[str, str]] = []
    for _ in range(_TRIES):
        if len(drawn) == wanted:
            break
        modality = modalities[int(rng.integers(len(modalities)))]
        kinds = allowed[modality]
        name = modality, kinds[int(rng.integers(len(kinds)))]
        if not any(clash(name, other) for other in drawn):
            drawn.append(name)
    return tuple(Degradation(*name, float(rng.uniform(lowest, highest))) for name in drawn)


def apply(
    pair: ImagePair,
    degradations: Sequence[Degradation],
    rng: np.random.Generator,
    width: int | None = None,
) -> ImagePair:
    """Return the pair (visible, infrared) with all degradations, in physical order.

    Rain, haze and snow, which are the visible image's, blur the infrared a little. The result
    depends on the set of degradations and on `rng`, not on the order of the list.
    `width` is that of the whole image where the pair was cut out of one: blurs grow with it.
    """
    images = {"visible": pair[0], "infrared": pair[1]}
    blurs = [
        Degradation("infrared", "gaussian_blur", _INFRARED_BLUR * item.severity)
        for item in degradations
        if item.kind in WEATHER
    ]
    for degradation in sorted([*degradations, *blurs], key=_physically):
        image = images[degradation.modality]
        images[degradation.modality] = degrade(image, degradation, rng, width)
    return images["visible"], images["infrared"]


def degrade(
    image: FloatImage,
    degradation: Degradation,
    rng: np.random.Generator,
    width: int | None = None,
) -> FloatImage:
    """Return one image of a pair with one degradation, float32 in [0, 1]; see `apply`."""
    if degradation.severity == 0:
        return image
    changed = _EFFECTS[degradation.name](image, degradation.severity, rng, width or image.shape[1])
    return np.clip(changed, 0.0, 1.0).astype(np.float32)


def _low_light(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """Less light through the same tone curve: darker, and shadows fall to black first."""
    return np.asarray((1.0 - 0.85 * severity) * image ** (1.0 + 0.6 * severity), np.float32)


def _over_exposure(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """More light than the sensor holds: brightness is lifted and the highlights clip."""
    return image * (1.0 + GAIN * severity) + LIFT * severity


def _motion_blur(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """A straight movement of up to 9 percent of the width in a random direction."""
    size = 1 + 2 * max(1, round(0.045 * severity * width))
    angle, direction = rng.uniform(0, 180), rng.uniform(-0.3, 0.3)
    return _like(image, motion_blur(_1CHW(image), size, angle, direction, border_type="replicate"))


def _gaussian_blur(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """Out of focus: sigma of half a pixel, and up to 0.7 percent of the width."""
    sigma = 0.5 + 0.007 * severity * width
    kernel = 2 * round(3 * sigma) + 1
    blurred = gaussian_blur2d(_1CHW(image), (kernel,) * 2, (sigma,) * 2, border_type="replicate")
    return _like(image, blurred)


def _downsampling(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """Up to four times fewer pixels a side, enlarged again."""
    size = [max(1, round(side / (1.0 + 3.0 * severity))) for side in image.shape[:2]]
    small = F.interpolate(_1CHW(image), size, mode="area")
    return _like(image, F.interpolate(small, image.shape[:2], mode="bicubic"))


def _noise(image: FloatImage, severity: float, rng: np.random.Generator, width: int) -> FloatImage:
    """Read noise, the same everywhere, and shot noise, growing with the root of the signal."""
    read = rng.normal(0.0, 0.08 * severity, image.shape)
    shot = rng.normal(0.0, 0.10 * severity, image.shape) * np.sqrt(image)
    return np.asarray(image + read + shot, np.float32)


def _low_contrast(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """Little difference between lights or temperatures: the range shrinks about its mean."""
    mean = float(image.mean())
    return np.asarray(mean + (1.0 - 0.85 * severity) * (image - mean), np.float32)


def _stripes(
    image: FloatImage, severity: float, rng: np.random.Generator, width: int
) -> FloatImage:
    """Column amplifiers of a microbolometer that drifted apart: one gain and offset a column."""
    columns = (1, image.shape[1])
    offset = rng.normal(0.0, 0.10 * severity, columns)
    gain = 1.0 + rng.normal(0.0, 0.10 * severity, columns)
    return np.asarray(image * gain + offset, np.float32)


def _physically(degradation: Degradation) -> tuple[str, int]:
    return degradation.modality, _PHYSICAL_ORDER.index(degradation.kind)


def clash(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether an image would not have both; each is a modality and a kind."""
    same_image = one[0] == other[0]
    return one == other or (same_image and any({one[1], other[1]} <= group for group in _EXCLUSIVE))


def _1CHW(image: FloatImage) -> Tensor:
    channels = image if image.ndim == 3 else image[..., None]
    return torch.from_numpy(np.ascontiguousarray(channels)).permute(2, 0, 1)[None]


def _like(image: FloatImage, result_1CHW: Tensor) -> FloatImage:
    return np.asarray(result_1CHW[0].permute(1, 2, 0).reshape(image.shape).numpy(), np.float32)


_EFFECTS: dict[str, Effect] = {
    "visible/low_light": _low_light,
    "visible/over_exposure": _over_exposure,
    "visible/noise": _noise,
    "visible/motion_blur": _motion_blur,
    "visible/low_contrast": _low_contrast,
    "visible/gaussian_blur": _gaussian_blur,
    "visible/downsampling": _downsampling,
    "visible/rain": rain,
    "visible/haze": haze,
    "visible/snow": snow,
    "infrared/low_contrast": _low_contrast,
    "infrared/noise": _noise,
    "infrared/stripes": _stripes,
    "infrared/gaussian_blur": _gaussian_blur,
    "infrared/downsampling": _downsampling,
}
