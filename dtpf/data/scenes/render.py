"""One seeded road scene from its parts: composition, lighting of the two cameras, final pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dtpf.core.ops.pixels import FloatImage
from dtpf.data.scenes import actors, backdrop, houses
from dtpf.data.scenes.actors import Hiding, Target
from dtpf.data.scenes.backdrop import WEATHER, Weather
from dtpf.data.scenes.canvas import Array, Canvas, fractal_texture

LIGHTINGS = tuple(WEATHER)
_OVERSAMPLING = 2  # painted larger, then averaged: smooth edges

_HIDING: dict[str, tuple[Hiding, ...]] = {
    "day": ("leaves", "smoke"),
    "dusk": ("leaves", "smoke", "darkness"),
    "night": ("darkness", "darkness", "glare", "smoke"),
}


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
    targets = _paint_street(canvas, weather, half, rng)
    visible, infrared = _expose(canvas, weather, rng), _thermal(canvas, rng)
    cover = np.max(canvas.targets, axis=0) if canvas.targets else np.zeros_like(canvas.warmth)
    return RoadScene(weather.lighting, visible, infrared, _shrink(cover) > 0.5, targets)


def _empty_canvas(rng: np.random.Generator, height: int, width: int) -> Canvas:
    return Canvas(
        height,
        width,
        horizon=height * rng.uniform(0.40, 0.50),
        centre=width * rng.uniform(0.40, 0.60),
        focal=0.85 * width,
        texture=fractal_texture(rng),
    )


def _paint_street(
    canvas: Canvas, weather: Weather, half: float, rng: np.random.Generator
) -> tuple[Target, ...]:
    """Place everything that stands on the ground and paint it from far to near."""
    things: list[tuple[float, str, float]] = []
    for side in (-1.0, 1.0):
        distances = np.arange(rng.uniform(9, 16), 60, rng.uniform(9, 18))
        kinds = rng.choice(["tree", "lamp", "none"], size=len(distances), p=[0.5, 0.3, 0.2])
        things += [
            (z, kind, side * (half + rng.uniform(1.0, 2.2)))
            for z, kind in zip(distances, kinds, strict=True)
        ]
    for _ in range(rng.integers(1, 4)):
        kind = str(rng.choice(["ahead", "oncoming"]))
        lane = half * rng.uniform(0.42, 0.58) * (1 if kind == "ahead" else -1)
        things.append((rng.uniform(8, 40), kind, lane))
    things += [
        (rng.uniform(7, 30), "parked", s * (half - 1.0)) for s in (-1.0, 1.0) if rng.random() < 0.4
    ]
    for _ in range(rng.integers(1, 4)):
        things.append(
            (rng.uniform(7, 20), "walker", rng.choice([-1.0, 1.0]) * (half + rng.uniform(0.2, 1.2)))
        )
    for _ in range(rng.integers(1, 3)):
        z = rng.uniform(6, 13)
        reach = min(half + 1.0, 0.40 * canvas.width * z / canvas.focal)
        things.append((z, "hidden", rng.uniform(-reach, reach)))
    return _paint_things(canvas, weather, sorted(things, reverse=True), rng)


def _paint_things(
    canvas: Canvas,
    weather: Weather,
    things: list[tuple[float, str, float]],
    rng: np.random.Generator,
) -> tuple[Target, ...]:
    targets = []
    for z, kind, x in things:
        if kind == "tree":
            backdrop.paint_tree(canvas, weather, x, z, rng)
        elif kind == "lamp":
            backdrop.paint_lamp(canvas, weather, x, z)
        elif kind == "walker":
            actors.paint_pedestrian(canvas, weather, x, z, rng)
        elif kind == "hidden":
            choices = _HIDING[weather.lighting]
            hiding = choices[rng.integers(len(choices))]
            target = actors.paint_hidden(canvas, weather, x, z, hiding, rng)
            targets += [target] if target else []
        elif kind != "none":
            actors.paint_car(canvas, weather, x, z, kind == "oncoming", rng)
    return tuple(_final_scale(target) for target in targets)


def _final_scale(target: Target) -> Target:
    left, top, right, low = (round(edge / _OVERSAMPLING) for edge in target.box)
    return Target(target.hidden_by, (left, top, right, low))


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
