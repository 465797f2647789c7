"""The still part of a road scene: weather, sky, hills, ground, road marks, trees, street lamps.

The visible spectrum gets texture (marks, grain, leaves) that the infrared one lacks or shows
weakly; the infrared one gets slow changes of temperature.
"""

from dataclasses import dataclass

import numpy as np

from dtpf.data.scenes.canvas import CAMERA_HEIGHT, Array, Canvas, Color, Region, mix


@dataclass(frozen=True)
class Weather:
    """Light and temperature of a scene: colours are linear RGB, warmth as in Canvas."""

    lighting: str
    ambient: Color
    zenith: Color
    skyline: Color
    sky_warmth: float
    ground_warmth: float
    lit_windows: float
    sun_side: float


WEATHER = {
    "day": Weather(
        "day", (1.0, 0.98, 0.94), (0.30, 0.50, 0.85), (0.80, 0.88, 0.95), 0.06, 0.42, 0.0, 0.3
    ),
    "dusk": Weather(
        "dusk", (0.40, 0.32, 0.32), (0.16, 0.18, 0.36), (0.85, 0.48, 0.26), 0.05, 0.33, 0.3, 0.1
    ),
    "night": Weather(
        "night", (0.045, 0.05, 0.07), (0.01, 0.012, 0.03), (0.06, 0.05, 0.06), 0.03, 0.20, 0.4, 0.0
    ),
}


def paint_sky(canvas: Canvas, weather: Weather, rng: np.random.Generator) -> None:
    """Paint a gradient sky with clouds; it is the coldest part of the infrared image."""
    window = (slice(0, int(canvas.horizon) + 2), slice(0, canvas.width))
    x, y = canvas.grid(window)
    down = np.clip(y / canvas.horizon, 0.0, 1.0)
    shift = rng.uniform(0, 256)
    cloud = canvas.sample(x * 0.5 + shift, y * 1.3 + shift) + 0 * down
    veil = np.clip((cloud - rng.uniform(0.35, 0.8)) * 2.5, 0.0, 1.0)[..., None]
    clear = mix(weather.zenith, weather.skyline, (down**1.5)[..., None])
    color = clear + veil * 0.55 * (np.asarray(weather.skyline, np.float32) * 1.05 - clear)
    warmth = weather.sky_warmth + 0.07 * veil[..., 0] + 0.10 * down**3
    region = Region(window, np.ones(cloud.shape, np.float32))
    # The sky shines by itself: lamps and shadows of the street do not change it.
    canvas.paint(region, (0.0, 0.0, 0.0), warmth, light=color)


def paint_hills(canvas: Canvas, weather: Weather, rng: np.random.Generator) -> None:
    """Paint a far line of woods on the horizon, hazy by day."""
    top = canvas.horizon - canvas.height * rng.uniform(0.05, 0.13)
    window = (slice(max(int(top) - 16, 0), int(canvas.horizon) + 2), slice(0, canvas.width))
    x, y = canvas.grid(window)
    ridge = top + 24 * (canvas.sample(x * 0.4 + rng.uniform(0, 256), 0 * x) - 0.5)
    leaf = canvas.sample(x * 2.1, y * 2.1)
    color = mix((0.10, 0.15, 0.09), (0.30, 0.36, 0.30), leaf[..., None])
    region = Region(window, np.clip(y - ridge, 0.0, 1.0).astype(np.float32))
    canvas.paint(region, color, weather.ground_warmth * (0.72 + 0.12 * leaf))


def paint_ground(canvas: Canvas, weather: Weather, rng: np.random.Generator) -> float:
    """Paint verges, pavement, asphalt and road marks; return the road's half width (m)."""
    half = rng.uniform(3.4, 4.6)
    window = (slice(int(canvas.horizon), canvas.height), slice(0, canvas.width))
    columns, rows = canvas.grid(window)
    z = CAMERA_HEIGHT * canvas.focal / np.maximum(rows - canvas.horizon, 0.5)
    x = (columns - canvas.centre) * z / canvas.focal
    z = np.broadcast_to(z, x.shape).astype(np.float32)
    fine, coarse = canvas.sample(x * 40, z * 24), canvas.sample(x * 6 + 90, z * 4 + 30)
    verge, paved = rng.random() < 0.5, half + rng.uniform(1.2, 2.5)
    outside = (
        ((0.16, 0.22, 0.08), (0.34, 0.40, 0.18))
        if verge
        else ((0.36, 0.34, 0.31), (0.5, 0.48, 0.44))
    )
    color = mix(*outside, (0.5 * fine + 0.5 * coarse)[..., None])
    asphalt = mix((0.20, 0.20, 0.21), (0.32, 0.32, 0.32), (0.6 * fine + 0.4 * coarse)[..., None])
    slabs = mix((0.42, 0.41, 0.39), (0.54, 0.53, 0.50), fine[..., None])
    slabs *= np.where((z % 1.5 < 0.08)[..., None], 0.7, 1.0)
    on_road, on_pavement = np.abs(x) < half, np.abs(x) < paved
    color = np.where(on_pavement[..., None], slabs, color)
    color = np.where(on_road[..., None], asphalt, color)
    color = np.where(_road_marks(x, z, half, rng)[..., None], 0.82 + 0.1 * fine[..., None], color)
    kerb = (np.abs(x) >= half) & (np.abs(x) < half + 0.18)
    color = np.where(kerb[..., None], 0.62, color)
    warmth = _ground_warmth(weather, x, coarse, on_road, on_pavement, half)
    canvas.paint(Region(window, np.ones(x.shape, np.float32)), color, warmth)
    return half


def _road_marks(x: Array, z: Array, half: float, rng: np.random.Generator) -> np.ndarray:
    """Return where paint lies on the asphalt: edge lines, dashes, often a crossing."""
    phase = rng.uniform(0, 6)
    edge = np.abs(np.abs(x) - (half - 0.35)) < 0.09
    middle = (np.abs(x + half * 0.05) < 0.09) & ((z + phase) % 6.0 < 3.0)
    marks = edge | middle
    if rng.random() < 0.4:
        near = rng.uniform(6, 11)
        inside = (z > near) & (z < near + 2.8) & (np.abs(x) < half - 0.4)
        marks = np.where((z > near - 0.8) & (z < near + 3.2), inside & (x % 1.0 < 0.5), marks)
    return marks & (z < 70)


def _ground_warmth(
    weather: Weather,
    x: Array,
    coarse: Array,
    on_road: np.ndarray,
    on_pavement: np.ndarray,
    half: float,
) -> Array:
    """Asphalt keeps the heat of the day, the tracks of tyres a little more; verges are cooler."""
    base = weather.ground_warmth
    tracks = np.exp(-(((np.abs(np.abs(x) - half / 2) - 0.75) / 0.35) ** 2))
    road = base * (1.0 + 0.10 * tracks)
    side = np.where(on_pavement, base * 1.08, base * 0.78)
    return np.asarray(np.where(on_road, road, side) + 0.05 * base * (coarse - 0.5), np.float32)


def paint_tree(
    canvas: Canvas, weather: Weather, x: float, z: float, rng: np.random.Generator
) -> None:
    """Paint a trunk and a crown of leaves; leaves have strong visible and weak thermal texture."""
    size, metre = rng.uniform(3.5, 6.5), canvas.scale(z)
    foot, trunk = canvas.project(x, 0, z), 0.16 * metre
    top = foot[1] - 0.55 * size * metre
    stem = [
        (foot[0] - trunk, foot[1]),
        (foot[0] + trunk, foot[1]),
        (foot[0] + trunk / 2, top),
        (foot[0] - trunk / 2, top),
    ]
    canvas.paint(canvas.polygon(stem), (0.16, 0.11, 0.08), weather.ground_warmth * 0.95)
    hue = rng.uniform(-0.03, 0.05)
    for _ in range(4):
        dx, dy = rng.uniform(-0.22, 0.22, 2) * size * metre
        crown = canvas.blob(
            foot[0] + dx,
            foot[1] - 0.72 * size * metre + dy,
            0.30 * size * metre,
            0.28 * size * metre,
        )
        paint_leaves(canvas, weather, crown, hue)


def paint_leaves(canvas: Canvas, weather: Weather, region: Region, hue: float = 0.0) -> None:
    """Cover a region with leaves, brighter towards its top."""
    x, y = canvas.grid(region.window)
    rows = max(region.window[0].stop - region.window[0].start, 1)
    leaf = canvas.sample(x * 5.3, y * 5.3)
    sun = leaf * (1.15 - 0.6 * (y - region.window[0].start) / rows)
    color = mix((0.04 + hue, 0.08, 0.03), (0.30 + hue, 0.42, 0.15), sun[..., None])
    canvas.paint(region, color, weather.ground_warmth * (0.74 + 0.16 * leaf))


def paint_lamp(canvas: Canvas, weather: Weather, x: float, z: float) -> None:
    """Paint a street lamp; outside daytime it shines and lights a pool of the road."""
    foot, head = canvas.project(x, 0, z), canvas.project(x - np.sign(x) * 1.2, 6.0, z)
    bend, thick = canvas.project(x, 6.0, z), max(0.07 * canvas.scale(z), 0.8)
    pole = [
        (foot[0] - thick, foot[1]),
        (foot[0] + thick, foot[1]),
        (bend[0] + thick, bend[1]),
        (bend[0] - thick, bend[1]),
    ]
    arm = [
        (bend[0], bend[1] - thick),
        (head[0], head[1] - thick),
        (head[0], head[1] + thick),
        (bend[0], bend[1] + thick),
    ]
    for part in (pole, arm):
        canvas.paint(canvas.polygon(part), (0.30, 0.31, 0.33), weather.ground_warmth * 0.85)
    bulb = canvas.ellipse(head[0], head[1], 3.2 * thick, 1.8 * thick)
    if weather.lighting == "day":
        canvas.paint(bulb, (0.7, 0.7, 0.68), weather.ground_warmth)
        return
    canvas.paint(bulb, (1.0, 0.9, 0.7), 0.75, light=(3.0, 2.5, 1.7))
    pool = canvas.project(x - np.sign(x) * 1.5, 0, z)
    canvas.lamps.append((pool[0], pool[1], 3.6 * canvas.scale(z), 0.42))
