"""One seeded road scene from its parts: composition, lighting of the two cameras, final pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dtpf.core.ops.pixels import FloatImage
from dtpf.data.scenes import actors, backdrop, houses
from dtpf.data.scenes.backdrop import WEATHER, Weather
from dtpf.data.scenes.canvas import Array, Canvas, fractal_texture

LIGHTINGS = tuple(WEATHER)
Thing = tuple[float, str, float]  # distance, kind, metres to the right of the camera

_OVERSAMPLING = 2  # painted larger, then averaged: smooth edges
_TARGET_PIXELS = 12  # smaller remains of a body behind others are no target

_HIDING: dict[str, tuple[str, ...]] = {
    "day": ("leaves", "smoke"),
    "dusk": ("leaves", "smoke", "darkness"),
    "night": ("darkness", "darkness", "glare", "smoke"),
}


@dataclass(frozen=True)
class Target:
    """A warm body that the visible image hides; box = (left, top, right, bottom) in pixels."""

    hidden_by: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class RoadScene:
    """A registered pair without defects, and the truth about it.

    `visible` is (H, W, 3), `infrared` (H, W), both float32 in [0, 1]; `target_mask` (H, W) is
    true on the warm bodies that the visible image hides, `targets` lists them.
    """

    lighting: str
    visible: FloatImage
    infrared: FloatImage
    target_mask: NDArray[np.bool_]
    targets: tuple[Target, ...]


def render_scene(
    rng: np.random.Generator, height: int, width: int, lighting: str | None = None
) -> RoadScene:
    """Return the scene that `rng` stands for; `lighting` is day, dusk or night (drawn if None)."""
    weather = WEATHER[lighting or LIGHTINGS[rng.integers(len(LIGHTINGS))]]
    canvas = _empty_canvas(rng, height * _OVERSAMPLING, width * _OVERSAMPLING)
    backdrop.paint_sky(canvas, weather, rng)
    backdrop.paint_hills(canvas, weather, rng)
    half = backdrop.paint_ground(canvas, weather, rng)
    houses.paint_houses(canvas, weather, half, rng)
    _paint_street(canvas, weather, half, rng)
    visible, infrared = _expose(canvas, weather, rng), _thermal(canvas, rng)
    masks = [(hiding, _shrink(cover) > 0.5) for hiding, cover in canvas.targets]
    masks = [(hiding, mask) for hiding, mask in masks if mask.sum() >= _TARGET_PIXELS]
    together = np.any([mask for _, mask in masks] or [np.zeros((height, width), bool)], axis=0)
    targets = tuple(Target(hiding, _box(mask)) for hiding, mask in masks)
    return RoadScene(weather.lighting, visible, infrared, together, targets)


def _empty_canvas(rng: np.random.Generator, height: int, width: int) -> Canvas:
    return Canvas(
        height,
        width,
        horizon=height * rng.uniform(0.40, 0.50),
        centre=width * rng.uniform(0.40, 0.60),
        focal=0.85 * width,
        texture=fractal_texture(rng),
    )


def _paint_street(canvas: Canvas, weather: Weather, half: float, rng: np.random.Generator) -> None:
    """Place everything that stands on the ground and paint it from far to near."""
    things = _kerb_things(half, rng) + _traffic(half, rng)
    for _ in range(rng.integers(1, 3)):
        hiding = _HIDING[weather.lighting][rng.integers(len(_HIDING[weather.lighting]))]
        z = rng.uniform(6, 13)
        seen = 0.40 * canvas.width * z / canvas.focal  # half of the visible width there, in metres
        low, high = (half + 0.2, half + 1.2) if hiding == "leaves" else (0.0, half + 1.0)
        x = min(rng.uniform(low, high), seen) * rng.choice([-1.0, 1.0])
        things.append((z, hiding, x))
    for distance, kind, x in sorted(things, reverse=True):
        _paint_thing(canvas, weather, distance, kind, x, rng)


def _kerb_things(half: float, rng: np.random.Generator) -> list[Thing]:
    """Trees, lamps and people on both sides of the road."""
    things: list[Thing] = []
    for side in (-1.0, 1.0):
        for z in np.arange(rng.uniform(9, 16), 60, rng.uniform(9, 18)):
            kind = str(rng.choice(["tree", "lamp", "nothing"], p=[0.5, 0.3, 0.2]))
            things.append((float(z), kind, side * (half + rng.uniform(1.0, 2.2))))
    for _ in range(rng.integers(1, 4)):
        x = rng.choice([-1.0, 1.0]) * (half + rng.uniform(0.2, 1.2))
        things.append((rng.uniform(7, 20), "walker", x))
    return things


def _traffic(half: float, rng: np.random.Generator) -> list[Thing]:
    """Moving cars in both lanes (traffic keeps to the right) and parked ones."""
    things: list[Thing] = []
    for _ in range(rng.integers(1, 4)):
        kind, side = (("ahead", 1.0), ("oncoming", -1.0))[rng.integers(2)]
        things.append((rng.uniform(8, 40), kind, side * half * rng.uniform(0.42, 0.58)))
    for side in (-1.0, 1.0):
        distances = rng.uniform(7, 30, size=rng.binomial(1, 0.4))
        things += [(float(z), "parked", side * (half - 1.0)) for z in distances]
    return things


def _paint_thing(
    canvas: Canvas, weather: Weather, z: float, kind: str, x: float, rng: np.random.Generator
) -> None:
    if kind == "tree":
        backdrop.paint_tree(canvas, weather, x, z, rng)
    elif kind == "lamp":
        backdrop.paint_lamp(canvas, weather, x, z)
    elif kind == "walker":
        actors.paint_pedestrian(canvas, weather, x, z, rng)
    elif kind in ("ahead", "oncoming", "parked"):
        actors.paint_car(canvas, weather, x, z, kind == "oncoming", rng)
    elif kind in actors.HIDINGS:
        actors.paint_hidden(canvas, weather, x, z, kind, rng)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _expose(canvas: Canvas, weather: Weather, rng: np.random.Generator) -> FloatImage:
    """Light the reflectances, add what shines by itself and its bloom, apply a tone curve."""
    window = (slice(0, canvas.height), slice(0, canvas.width))
    x, y = canvas.grid(window)
    lit = np.ones((canvas.height, canvas.width, 3), np.float32) * np.asarray(
        weather.ambient, np.float32
    )
    warm = np.asarray((1.0, 0.82, 0.55), np.float32)
    for column, row, radius, strength in canvas.lamps:
        pool = np.exp(-(((x - column) / radius) ** 2 + ((y - row) / (0.45 * radius)) ** 2))
        lit += strength * pool[..., None] * warm
    if weather.lighting == "night":
        beam = np.exp(
            -(((x - canvas.centre) / (0.38 * canvas.width)) ** 2)
            - ((y - 1.02 * canvas.height) / (0.30 * canvas.height)) ** 2
        )
        lit += 0.30 * beam[..., None] * np.asarray((1.0, 0.96, 0.88), np.float32)
    sigma = 0.018 * canvas.width
    bloom = ndimage.gaussian_filter(np.minimum(canvas.light, 9.0), (sigma, sigma, 0))
    linear = (
        canvas.reflectance * lit
        + canvas.light
        + (0.0 if weather.lighting == "day" else 0.5) * bloom
    )
    haze = 0.10 if weather.lighting == "day" else 0.0
    linear = (
        linear + haze * np.exp(-(((y - canvas.horizon) / (0.10 * canvas.height)) ** 2))[..., None]
    )
    image = _shrink(np.clip(linear, 0.0, 1.0)) ** (1 / 2.2)
    grain = rng.normal(0.0, 0.004, image.shape)
    return np.clip(image + grain, 0.0, 1.0).astype(np.float32)


def _thermal(canvas: Canvas, rng: np.random.Generator) -> FloatImage:
    """Blur by the lens, add slow drift of the sensor and a trace of noise."""
    soft = _shrink(ndimage.gaussian_filter(canvas.warmth, 1.1 * _OVERSAMPLING / 2))
    drift = ndimage.zoom(
        rng.normal(0.0, 0.012, (4, 5)), (soft.shape[0] / 4, soft.shape[1] / 5), order=3
    )
    grain = rng.normal(0.0, 0.004, soft.shape)
    return np.clip(soft + drift + grain, 0.0, 1.0).astype(np.float32)


def _shrink(image: Array) -> Array:
    """Average blocks of the oversampled image (S*H, S*W, ...) to (H, W, ...)."""
    step = _OVERSAMPLING
    height, width = image.shape[0] // step, image.shape[1] // step
    blocks = image.reshape(height, step, width, step, *image.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)
