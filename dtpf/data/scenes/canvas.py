"""A canvas that is painted in two spectra at once, seen by one pinhole camera above a flat road.

World axes in metres: X right of the camera, Y up from the ground, Z ahead. Legend: H, W = rows and
columns of the canvas, h, w = those of one window of it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Array = NDArray[Any]  # float32 wherever it is stored
Window = tuple[slice, slice]
Points = list[tuple[float, float]]
Color = tuple[float, float, float]

CAMERA_HEIGHT = 1.5
_TEXTURE_SIZE = 256


@dataclass(frozen=True)
class Region:
    """Where paint goes: a window of the canvas and the coverage (h, w) in [0, 1] inside it."""

    window: Window
    coverage: Array

    def scaled(self, factor: Array | float) -> "Region":
        """Return the region with its coverage multiplied by a number or an (h, w) array."""
        return Region(self.window, (self.coverage * factor).astype(np.float32))


@dataclass
class Canvas:
    """What the two cameras will see: reflectance and own light (H, W, 3), warmth (H, W).

    Reflectance and warmth lie in [0, 1]; warmth is what the infrared camera shows. `lamps` holds
    the pools of light of the scene as (x, y, radius, strength) in pixels. `targets` collects, for
    warm bodies that the visible image hides, by what they are hidden and their coverage (H, W).
    """

    height: int
    width: int
    horizon: float
    centre: float
    focal: float
    texture: Array
    reflectance: Array = field(init=False)
    light: Array = field(init=False)
    warmth: Array = field(init=False)
    lamps: list[tuple[float, float, float, float]] = field(default_factory=list)
    targets: list[tuple[str, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reflectance = np.zeros((self.height, self.width, 3), np.float32)
        self.light = np.zeros((self.height, self.width, 3), np.float32)
        self.warmth = np.zeros((self.height, self.width), np.float32)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return (column, row) of a point of the world; z must be positive."""
        scale = self.focal / z
        return self.centre + x * scale, self.horizon + (CAMERA_HEIGHT - y) * scale

    def scale(self, z: float) -> float:
        """Return the pixels of one metre at distance z."""
        return self.focal / z

    def grid(self, window: Window) -> tuple[Array, Array]:
        """Return the column and row coordinates of a window, each broadcastable to (h, w)."""
        rows, columns = window
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + 0.5
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5
        return x, y

    def window(self, points: Points, margin: float = 0.0) -> Window:
        """Return the smallest window of the canvas around some points."""
        x, y = np.array(points, dtype=np.float64).T
        left, right = np.clip([x.min() - margin, x.max() + margin + 1], 0, self.width).astype(int)
        top, low = np.clip([y.min() - margin, y.max() + margin + 1], 0, self.height).astype(int)
        return slice(int(top), int(low)), slice(int(left), int(right))

    def polygon(self, points: Points) -> Region:
        """Return the region inside a polygon of (column, row) corners."""
        window = self.window(points)
        size = (window[1].stop - window[1].start, window[0].stop - window[0].start)
        if 0 in size:
            return Region(window, np.zeros(size[::-1], np.float32))
        image = Image.new("L", size)
        shifted = [(x - window[1].start, y - window[0].start) for x, y in points]
        ImageDraw.Draw(image).polygon(shifted, fill=1)
        return Region(window, np.asarray(image, dtype=np.float32))

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float) -> Region:
        """Return the region inside an axis-parallel ellipse."""
        window = self.window([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        columns, rows = self.grid(window)
        inside = ((columns - x) / radius_x) ** 2 + ((rows - y) / radius_y) ** 2 <= 1.0
        return Region(window, inside.astype(np.float32))

    def blob(self, x: float, y: float, radius_x: float, radius_y: float) -> Region:
        """Return a ragged ellipse, such as a crown of leaves or a cloud: soft where it thins."""
        reach = [(x - 1.4 * radius_x, y - 1.4 * radius_y), (x + 1.4 * radius_x, y + 1.4 * radius_y)]
        window = self.window(reach)
        columns, rows = self.grid(window)
        distance = np.hypot((columns - x) / radius_x, (rows - y) / radius_y)
        grain = 64.0 / max(radius_x, radius_y, 1.0)
        ragged = distance + 0.7 * (self.sample(columns * grain + x, rows * grain + y) - 0.5)
        return Region(window, np.clip((1.0 - ragged) * 5.0, 0.0, 1.0).astype(np.float32))

    def sample(self, u: Array, v: Array) -> Array:
        """Look up the repeating texture, values in [0, 1], at coordinates (u, v) in texels."""
        size = self.texture.shape[0]
        found: Array = self.texture[v.astype(np.int64) % size, u.astype(np.int64) % size]
        return found

    def paint(
        self,
        region: Region,
        color: Array | tuple[float, float, float] | None = None,
        warmth: Array | float | None = None,
        light: Array | tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Cover a region with a reflectance and its own light, and with a warmth.

        `color` None leaves the visible spectrum as it is, `warmth` None the infrared one. What
        covers a target in the infrared spectrum too takes it away from the targets.
        """
        cover = region.coverage
        if color is not None:
            for target, value in ((self.reflectance, color), (self.light, light)):
                part = target[region.window]
                part += cover[..., None] * (np.asarray(value, np.float32) - part)
        if warmth is not None:
            part = self.warmth[region.window]
            part += cover * (np.asarray(warmth, np.float32) - part)
            for _, target in self.targets:
                target[region.window] *= 1.0 - cover


def fractal_texture(rng: np.random.Generator, octaves: tuple[float, ...] = (1, 3, 9)) -> Array:
    """Return repeating noise (256, 256) in [0, 1]: Gaussian-filtered white noise of some widths."""
    total = np.zeros((_TEXTURE_SIZE, _TEXTURE_SIZE), np.float32)
    for weight, sigma in enumerate(octaves, start=1):
        white = rng.standard_normal(total.shape).astype(np.float32)
        smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
        total += weight * smooth / smooth.std()
    low, high = np.percentile(total, (1, 99))
    return np.clip((total - low) / (high - low), 0.0, 1.0).astype(np.float32)


def mix(low: Color | Array, high: Color | Array, share: Array) -> Array:
    """Blend two colours, or arrays of them, by a share in [0, 1] that broadcasts to both."""
    first, second = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return np.asarray(first + share * (second - first), np.float32)
