"""Is the result worth looking at? Warnings on fused images that say too little of their sources.

Both sources show one scene and resemble each other, so a copy of one has a correlation with the
other too. The guard therefore asks how the fused luminance goes along with that part of a source
which the other source does not explain (partial correlation).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtpf.core.ops.pixels import FloatImage, luma

CORRELATION_FLOOR = 0.05
_FLAT = 0.01  # standard deviation of an image that says nothing
_SATURATED = 0.15  # share of pixels that turned black or white
_BLACK, _WHITE = 1.0 / 255, 254.0 / 255


@dataclass(frozen=True)
class Warned:
    """One warning: `kind` for programs, `text` for people."""

    kind: str
    text: str


def check_result(
    fused: FloatImage, visible: FloatImage, infrared: FloatImage, source: str = "result"
) -> list[Warned]:
    """Return warnings on one fused image.

    Args:
        fused: (H, W, 3) or (H, W) in [0, 1].
        visible: (H, W, 3), what the network got.
        infrared: (H, W), what the network got.
        source: name in the texts.

    Returns:
        Warnings of kind `blank`, `ignores-visible`, `ignores-infrared` or `saturated`; empty
        where all is well.
    """
    picture = luma(fused) if fused.ndim == 3 else fused
    seen = luma(visible)
    if float(picture.std()) < _FLAT and max(float(seen.std()), float(infrared.std())) >= _FLAT:
        return [Warned("blank", f"{source}: the fused image is blank, its sources are not")]
    found = []
    for name, own, other in (("visible", seen, infrared), ("infrared", infrared, seen)):
        value = partial_correlation(picture, own, other)
        if value is not None and value < CORRELATION_FLOOR:
            found.append(
                Warned(
                    f"ignores-{name}",
                    f"{source}: hardly anything of the {name} image is left in the fused one "
                    f"(partial correlation {value:.2f}, floor {CORRELATION_FLOOR})",
                )
            )
    extreme = _extreme(picture) - max(_extreme(seen), _extreme(infrared))
    if extreme > _SATURATED:
        text = f"{source}: {extreme:.0%} more pixels than in the sources are black or white"
        found.append(Warned("saturated", text))
    return found


def as_header(found: Sequence[Warned]) -> str:
    """Return the kinds as the value of an HTTP header, `none` where all is well."""
    return ", ".join(one.kind for one in found) or "none"


def partial_correlation(picture: FloatImage, own: FloatImage, other: FloatImage) -> float | None:
    """Return the correlation of two images (H, W) without what `other` explains of either.

    None where `own` says nothing beyond `other`. A picture that `other` explains in full has 0.
    """
    rest = _without(_centred(own), _centred(other))
    left = _without(_centred(picture), _centred(other))
    if rest.std() < _FLAT:
        return None
    spread = max(float(left.std()), 1e-3)  # rounding to 8 bits alone leaves 0.001
    return float((left * rest).mean() / (spread * rest.std()))


def _without(image: NDArray, other: NDArray) -> NDArray:
    power = float((other**2).mean())
    return image - other * (float((image * other).mean()) / power) if power > 1e-12 else image


def _centred(image: FloatImage) -> NDArray:
    return image.astype(np.float64) - float(image.mean())


def _extreme(image: FloatImage) -> float:
    return float(((image <= _BLACK) | (image >= _WHITE)).mean())
