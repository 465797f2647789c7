"""The warm part of a road scene: cars, pedestrians, and what hides them from the visible camera."""

import numpy as np

from dtpf.data.scenes.backdrop import Weather, paint_leaves
from dtpf.data.scenes.canvas import Array, Canvas, Color, Points, Region

HIDINGS = ("darkness", "smoke", "leaves", "glare")

_PAINTS: tuple[Color, ...] = (
    (0.70, 0.70, 0.72),
    (0.06, 0.06, 0.07),
    (0.45, 0.07, 0.06),
    (0.08, 0.14, 0.35),
    (0.82, 0.82, 0.80),
    (0.30, 0.31, 0.33),
    (0.35, 0.38, 0.22),
)
_CLOTHES: tuple[Color, ...] = (
    (0.10, 0.12, 0.25),
    (0.55, 0.12, 0.10),
    (0.75, 0.72, 0.65),
    (0.10, 0.30, 0.20),
    (0.12, 0.12, 0.13),
    (0.70, 0.55, 0.15),
)


def paint_car(
    canvas: Canvas, weather: Weather, x: float, z: float, oncoming: bool, rng: np.random.Generator
) -> None:
    """Paint a car from behind or, oncoming, from the front: warm wheels, bonnet, exhaust."""
    paint, metre = _PAINTS[rng.integers(len(_PAINTS))], canvas.scale(z)
    base, tall = canvas.project(x, 0, z), rng.uniform(1.42, 1.9)

    def shape(corners: Points) -> Region:
        return canvas.polygon([(base[0] + a * metre, base[1] - b * metre) for a, b in corners])

    ambient = weather.ground_warmth
    shadow = canvas.ellipse(base[0], base[1] - 0.04 * metre, 1.05 * metre, 0.14 * metre)
    canvas.paint(shadow.scaled(0.75), (0.03, 0.03, 0.03), min(ambient + 0.30, 0.9))
    for side in (-0.68, 0.68):
        tyre = shape(
            [(side - 0.14, 0.0), (side + 0.14, 0.0), (side + 0.14, 0.5), (side - 0.14, 0.5)]
        )
        canvas.paint(tyre, (0.03, 0.03, 0.03), ambient + 0.42)
    body = shape(
        [(-0.9, 0.22), (0.9, 0.22), (0.92, 0.72), (0.82, 0.98), (-0.82, 0.98), (-0.92, 0.72)]
    )
    cabin = shape([(-0.80, 0.96), (0.80, 0.96), (0.60, tall), (-0.60, tall)])
    glass = shape([(-0.68, 1.0), (0.68, 1.0), (0.52, tall - 0.10), (-0.52, tall - 0.10)])
    rows = canvas.grid(body.window)[1]
    gloss = 1.15 - 0.5 * np.clip((rows - base[1] + 0.98 * metre) / (0.8 * metre), 0, 1)
    color = np.broadcast_to(
        gloss[..., None] * np.asarray(paint, np.float32), (*body.coverage.shape, 3)
    )
    canvas.paint(body, np.asarray(color, np.float32), ambient + (0.30 if oncoming else 0.14))
    canvas.paint(cabin, paint, ambient + 0.10)
    canvas.paint(glass, (0.07, 0.09, 0.11), ambient - 0.08)
    plate = shape([(-0.24, 0.48), (0.24, 0.48), (0.24, 0.60), (-0.24, 0.60)])
    canvas.paint(plate, (0.80, 0.80, 0.76))
    bumper = shape([(-0.88, 0.22), (0.88, 0.22), (0.88, 0.36), (-0.88, 0.36)])
    canvas.paint(bumper, (0.08, 0.08, 0.09), ambient + (0.22 if oncoming else 0.10))
    if oncoming:
        canvas.paint(
            shape([(-0.5, 0.62), (0.5, 0.62), (0.5, 0.76), (-0.5, 0.76)]),
            (0.05, 0.05, 0.05),
            ambient + 0.48,
        )
    else:
        canvas.paint(
            canvas.ellipse(
                base[0] + 0.55 * metre, base[1] - 0.24 * metre, 0.12 * metre, 0.09 * metre
            ),
            (0.05, 0.05, 0.05),
            0.92,
        )
    _paint_car_lamps(canvas, weather, base, metre, oncoming)


def _paint_car_lamps(
    canvas: Canvas, weather: Weather, base: tuple[float, float], metre: float, oncoming: bool
) -> None:
    color: Color = (0.85, 0.85, 0.80) if oncoming else (0.60, 0.05, 0.04)
    shine: Color = (3.2, 3.0, 2.5) if oncoming else (1.3, 0.10, 0.06)
    for side in (-0.68, 0.68):
        lamp = canvas.ellipse(
            base[0] + side * metre, base[1] - 0.72 * metre, 0.17 * metre, 0.11 * metre
        )
        canvas.paint(lamp, color, light=shine if weather.lighting != "day" else (0.0, 0.0, 0.0))
    if oncoming and weather.lighting != "day":
        canvas.lamps.append((base[0], base[1] + 0.4 * metre, 2.0 * metre, 0.30))


def paint_pedestrian(
    canvas: Canvas,
    weather: Weather,
    x: float,
    z: float,
    rng: np.random.Generator,
    seen: float = 1.0,
) -> Array:
    """Paint a walking person; return its coverage (H, W).

    `seen` below 1 blends the visible body into its surroundings (unlit, dark clothes); the
    infrared body is always there: bare head warmest, clothes a little cooler.
    """
    metre, tall = canvas.scale(z), rng.uniform(1.58, 1.88)
    base, heat = canvas.project(x, 0, z), min(weather.ground_warmth + 0.50, 0.80)
    ratio, cover = tall / 1.75, np.zeros((canvas.height, canvas.width), np.float32)

    def put(region: Region, color: Color, warmth: float) -> None:
        canvas.paint(region.scaled(seen), color)
        canvas.paint(region, warmth=warmth)
        cover[region.window] = np.maximum(cover[region.window], region.coverage)

    for corners, color, cooler in _clothed_parts(rng):
        outline = [(base[0] + a * metre * ratio, base[1] - b * metre * ratio) for a, b in corners]
        put(canvas.polygon(outline), color, heat - cooler)
    radius = 0.125 * metre * ratio
    head = canvas.ellipse(base[0], base[1] - (tall - 0.13) * metre, 0.85 * radius, radius)
    put(head, (0.55, 0.38, 0.29), heat + 0.16)
    hair = canvas.ellipse(base[0], base[1] - (tall - 0.07) * metre, 0.85 * radius, 0.6 * radius)
    canvas.paint(hair.scaled(seen), (0.08, 0.06, 0.05))
    return cover


def _clothed_parts(rng: np.random.Generator) -> list[tuple[Points, Color, float]]:
    """Return outlines in metres of a body of 1.75 m, their colours, and how much they insulate."""
    stride = rng.uniform(0.06, 0.24)
    top, trousers = (_CLOTHES[i] for i in rng.integers(len(_CLOTHES), size=2))
    swing = rng.uniform(0.16, 0.30)
    legs: list[Points] = [
        [(-0.13, 0.92), (0.01, 0.92), (-stride + 0.08, 0.0), (-stride - 0.07, 0.0)],
        [(-0.01, 0.92), (0.13, 0.92), (stride + 0.07, 0.0), (stride - 0.08, 0.0)],
    ]
    arms: list[Points] = [
        [(-0.22, 1.42), (-0.14, 1.42), (-swing - 0.02, 0.82), (-swing - 0.12, 0.84)],
        [(0.22, 1.42), (0.14, 1.42), (swing + 0.02, 0.82), (swing + 0.12, 0.84)],
    ]
    shoulders: Points = [(0.24, 1.44), (0.10, 1.50), (-0.10, 1.50), (-0.24, 1.44)]
    torso: Points = [(-0.17, 0.88), (0.17, 0.88), *shoulders]
    return [
        *((leg, trousers, 0.06) for leg in legs),
        *((arm, top, 0.02) for arm in arms),
        (torso, top, 0.0),
    ]


def paint_hidden(
    canvas: Canvas, weather: Weather, x: float, z: float, hiding: str, rng: np.random.Generator
) -> None:
    """Paint a pedestrian and one of HIDINGS over it, and enter it among the targets."""
    seen = {"darkness": 0.15, "glare": 0.2}.get(hiding, 1.0)
    cover = paint_pedestrian(canvas, weather, x, z, rng, seen)
    metre, (column, foot) = canvas.scale(z), canvas.project(x, 0, z)
    middle = (column, foot - 0.87 * metre)
    if hiding == "leaves":
        _paint_bush(canvas, weather, column, foot, metre)
    elif hiding == "smoke":
        _paint_smoke(canvas, weather, middle, metre, rng)
    elif hiding == "glare":
        _paint_glare(canvas, middle, metre)
    canvas.targets.append((hiding, cover))


def _paint_bush(canvas: Canvas, weather: Weather, x: float, foot: float, metre: float) -> None:
    for share in (-0.35, 0.30):
        bush = canvas.blob(x + share * metre, foot - 0.85 * metre, 0.70 * metre, 0.95 * metre)
        behind = canvas.warmth[bush.window].copy()
        paint_leaves(canvas, weather, bush)
        # Leaves are thin: most of the heat behind them still reaches the camera through gaps.
        canvas.paint(bush.scaled(0.75), warmth=behind)


def _paint_smoke(
    canvas: Canvas,
    weather: Weather,
    middle: tuple[float, float],
    metre: float,
    rng: np.random.Generator,
) -> None:
    """Long infrared waves pass through smoke, so it is painted in the visible spectrum alone."""
    gray = 0.62 if weather.lighting == "day" else 0.45
    for _ in range(5):
        x = middle[0] + rng.uniform(-0.8, 0.8) * metre
        y = middle[1] + rng.uniform(-0.7, 0.4) * metre
        puff = canvas.blob(x, y, 1.1 * metre, 0.95 * metre)
        canvas.paint(puff.scaled(0.72), (gray, gray, gray * 1.03))


def _paint_glare(canvas: Canvas, middle: tuple[float, float], metre: float) -> None:
    for side in (-0.3, 0.3):
        x, y = middle[0] + side * metre, middle[1] + 0.1 * metre
        lamp = canvas.ellipse(x, y, 0.22 * metre, 0.18 * metre)
        canvas.paint(lamp, (0.9, 0.9, 0.9), light=(9.0, 8.6, 7.6))
