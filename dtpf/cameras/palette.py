"""Infrared in false colours: recognised, named where the palette is known, and undone on request.

A colour of a palette stands for a temperature, and its luminance for nothing: rainbow palettes
are brightest in the middle. Gray values come back by looking up each colour in its palette.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from scipy.spatial import cKDTree

PALETTES = {
    "iron": "inferno",
    "hot": "hot",
    "jet": "jet",
    "rainbow": "gist_rainbow_r",
    "turbo": "turbo",
    "plasma": "plasma",
    "magma": "magma",
    "viridis": "viridis",
    "gnuplot2": "gnuplot2",
    "cool": "coolwarm",
}

_SAMPLES = 4000
_COLOURED = 16.0 / 255  # difference of channels that codecs do not make of gray
_SHARE = 0.05
_NEAR = 14.0 / 255  # mean distance to a palette, through JPEG
_STEPS = 1024


@dataclass(frozen=True)
class FalseColour:
    """Share of coloured pixels, and the palette that explains them (None: none of the known)."""

    share: float
    palette: str | None

    def __str__(self) -> str:
        """Say what it means and what helps."""
        if self.palette is None:
            return (
                f"infrared: false colours of an unknown palette on {self.share:.0%} of the pixels; "
                "its luminance is taken for heat, which is wrong where the palette is not "
                "monotonic: record white-hot gray"
            )
        return (
            f"infrared: false colours, palette like {self.palette!r}; its luminance is taken "
            f"for heat: record white-hot gray, or undo it with --palette {self.palette}"
        )


def find_false_colour(array: NDArray) -> FalseColour | None:
    """Recognise false colours in an image (H, W, 3 or 4); None for gray, also stored as RGB."""
    if array.ndim != 3 or array.shape[2] < 3:
        return None
    pixels = _sampled(_unit_colours(array))
    share = float((np.ptp(pixels, axis=1) > _COLOURED).mean())
    if share < _SHARE:
        return None
    errors = {name: float(np.mean(_look_up(pixels, name)[1])) for name in PALETTES}
    best = min(errors, key=lambda name: errors[name])
    return FalseColour(share, best if errors[best] < _NEAR else None)


def undo_palette(array: NDArray, name: str) -> NDArray[np.uint16]:
    """Return the places of the colours in a palette, as uint16 (H, W), full range.

    Gray images pass as they are.
    """
    if array.ndim == 2:
        return array
    places, _ = _look_up(_unit_colours(array).reshape(-1, 3), name)
    return np.round(places * 65535.0).astype(np.uint16).reshape(array.shape[:2])


def _look_up(pixels: NDArray, name: str) -> tuple[NDArray, NDArray]:
    """Return place in [0, 1] and distance of each colour (N, 3)."""
    places = np.linspace(0.0, 1.0, _STEPS)
    tree = cKDTree(colormaps[PALETTES[name]](places)[:, :3])
    gaps, nearest = tree.query(pixels)
    return places[nearest], gaps


def _unit_colours(array: NDArray) -> NDArray:
    top = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1.0
    return np.asarray(array[..., :3], np.float32) / np.float32(top)


def _sampled(colours: NDArray) -> NDArray:
    flat = colours.reshape(-1, 3)
    return flat[:: max(1, len(flat) // _SAMPLES)]
