"""Rows of houses along the road: bricks, windows and shop signs in the visible spectrum alone."""

from dataclasses import dataclass

import numpy as np

from dtpf.data.scenes.backdrop import Weather
from dtpf.data.scenes.canvas import CAMERA_HEIGHT, Array, Canvas, Color, Region, mix

_WALLS: tuple[Color, ...] = (
    (0.55, 0.33, 0.25),
    (0.62, 0.57, 0.47),
    (0.48, 0.48, 0.50),
    (0.70, 0.66, 0.60),
    (0.40, 0.30, 0.26),
)
_SIGNS: tuple[Color, ...] = (
    (0.75, 0.12, 0.10),
    (0.10, 0.30, 0.70),
    (0.10, 0.50, 0.25),
    (0.85, 0.65, 0.10),
)
_BAY, _STOREY = 2.4, 3.0  # metres from window to window, along and up
_FRONT_SHADE = 0.8  # walls that face the camera


@dataclass(frozen=True)
class House:
    """A box beside the road, in metres: its flank lies at `x` from `near` to `far`."""

    x: float
    near: float
    far: float
    height: float
    wall: Color
    sign: Color | None
    shift: float


def paint_houses(canvas: Canvas, weather: Weather, half: float, rng: np.random.Generator) -> None:
    """Paint houses on both sides of a road of half width `half`, far ones first, with gaps."""
    for side in (-1.0, 1.0):
        if rng.random() < 0.15:
            continue
        offset, z, row = half + rng.uniform(2.5, 5.0), rng.uniform(5, 14), []
        while z < 70:
            length = rng.uniform(7, 16)
            if rng.random() < 0.8:
                row.append(_draw_house(side * (offset + rng.uniform(0, 1.5)), z, z + length, rng))
            z += length + rng.choice([0.3, 3.0, 8.0])
        for house in reversed(row):
            _paint_front(canvas, weather, house)
            _paint_flank(canvas, weather, house)


def _draw_house(x: float, near: float, far: float, rng: np.random.Generator) -> House:
    return House(
        x,
        near,
        far,
        height=rng.uniform(4.5, 13),
        wall=_WALLS[rng.integers(len(_WALLS))],
        sign=_SIGNS[rng.integers(len(_SIGNS))] if rng.random() < 0.5 else None,
        shift=rng.uniform(0, 256),
    )


def _paint_front(canvas: Canvas, weather: Weather, house: House) -> None:
    outer = house.x + np.sign(house.x) * 9.0
    edges = ((house.x, 0.0), (outer, 0.0), (outer, house.height), (house.x, house.height))
    region = canvas.polygon([canvas.project(x, y, house.near) for x, y in edges])
    columns, rows = canvas.grid(region.window)
    along = (columns - canvas.centre) * house.near / canvas.focal
    y = CAMERA_HEIGHT - (rows - canvas.horizon) * house.near / canvas.focal
    _paint_wall(canvas, weather, house, region, along, y, _FRONT_SHADE)


def _paint_flank(canvas: Canvas, weather: Weather, house: House) -> None:
    edges = (
        (0.0, house.near),
        (0.0, house.far),
        (house.height, house.far),
        (house.height, house.near),
    )
    region = canvas.polygon([canvas.project(house.x, y, z) for y, z in edges])
    columns, rows = canvas.grid(region.window)
    aside = columns - canvas.centre
    z = canvas.focal * house.x / np.where(np.abs(aside) < 1, 1, aside)
    y = CAMERA_HEIGHT - (rows - canvas.horizon) * z / canvas.focal
    shade = 1.0 + weather.sun_side * float(np.sign(house.x))
    _paint_wall(canvas, weather, house, region, z, y, shade)


def _paint_wall(
    canvas: Canvas,
    weather: Weather,
    house: House,
    region: Region,
    along: Array,
    y: Array,
    shade: float,
) -> None:
    """Paint one wall by its own coordinates in metres: bricks, then windows, then a sign."""
    along = (along + house.shift + 0 * y).astype(np.float32)
    grain = canvas.sample(along * 30, y * 30)
    mortar = ((y % 0.4) < 0.07) | (((along + 0.5 * ((y // 0.4) % 2)) % 1.0) < 0.06)
    brick = (shade * (0.75 + 0.4 * grain - 0.12 * mortar))[..., None]
    color = np.asarray(brick * np.asarray(house.wall, np.float32), np.float32)
    warmth = weather.ground_warmth * (1.05 + 0.10 * shade) - 0.015 * y + 0.02 * (grain - 0.5)
    canvas.paint(region, color, np.asarray(warmth, np.float32))
    _paint_windows(canvas, weather, house, region, along, y, grain)
    if house.sign is not None:
        _paint_sign(canvas, weather, house.sign, region, along, y)


def _paint_windows(
    canvas: Canvas,
    weather: Weather,
    house: House,
    region: Region,
    along: Array,
    y: Array,
    grain: Array,
) -> None:
    """Panes mirror the sky, so they look cool; in the evening some rooms are lit."""
    u, v = (along % _BAY) / _BAY, (y % _STOREY) / _STOREY
    frame = (np.abs(u - 0.5) < 0.26) & (np.abs(v - 0.535) < 0.265) & (y < house.height - 0.4)
    pane = frame & (np.abs(u - 0.5) < 0.22) & (np.abs(v - 0.535) < 0.225)
    pane &= np.abs(u - 0.5) > 0.015
    room = canvas.sample(np.floor(along / _BAY) * 37, np.floor(y / _STOREY) * 53)
    glass = mix((0.05, 0.07, 0.10), (0.30, 0.38, 0.46), v[..., None])
    glow = mix((0.42, 0.31, 0.15), (0.85, 0.62, 0.30), grain[..., None])
    glow = glow * (room < weather.lit_windows)[..., None]
    canvas.paint(region.scaled(frame), (0.70, 0.70, 0.70))
    canvas.paint(region.scaled(pane), glass, weather.ground_warmth * 0.9, light=glow)


def _paint_sign(
    canvas: Canvas, weather: Weather, sign: Color, region: Region, along: Array, y: Array
) -> None:
    """A lettered board above the ground floor: plain to the infrared camera."""
    board = (y > 2.7) & (y < 3.4) & (along % 9.0 < 6.5)
    letters = board & (y > 2.85) & (y < 3.25) & (canvas.sample(along * 9, y * 4) > 0.5)
    shine = 0.0 if weather.lighting == "day" else 0.55
    color = np.where(letters[..., None], np.float32(0.92), np.asarray(sign, np.float32))
    canvas.paint(region.scaled(board), color, weather.ground_warmth * 1.1, light=color * shine)
