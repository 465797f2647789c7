"""Rows of houses along the road: bricks, windows and shop signs in the visible spectrum alone."""

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
    (0.85, 0.65, 0.1),
)


def paint_houses(canvas: Canvas, weather: Weather, half: float, rng: np.random.Generator) -> None:
    """Paint rows of houses along both sides, the far ones first, with gaps between them."""
    for side in (-1.0, 1.0):
        if rng.random() < 0.15:
            continue
        offset, z, blocks = half + rng.uniform(2.5, 5.0), rng.uniform(5, 14), []
        while z < 70:
            length = rng.uniform(7, 16)
            if rng.random() < 0.8:
                blocks.append((z, z + length))
            z += length + rng.choice([0.3, 3.0, 8.0])
        for near, far in reversed(blocks):
            _paint_house(canvas, weather, side * (offset + rng.uniform(0, 1.5)), near, far, rng)


def _paint_house(
    canvas: Canvas, weather: Weather, x: float, near: float, far: float, rng: np.random.Generator
) -> None:
    height = rng.uniform(4.5, 13)
    wall, seed = _WALLS[rng.integers(len(_WALLS))], rng.uniform(0, 256)
    outward = x + np.sign(x) * 9.0
    shade = 1.0 + weather.sun_side * np.sign(x)
    sign = _SIGNS[rng.integers(len(_SIGNS))] if rng.random() < 0.5 else None
    front = [
        canvas.project(a, b, near)
        for a, b in ((x, 0), (outward, 0), (outward, height), (x, height))
    ]
    flank = [
        canvas.project(x, b, c) for b, c in ((0, near), (0, far), (height, far), (height, near))
    ]
    for corners, brightness in ((front, 0.8), (flank, shade)):
        region = canvas.polygon(corners)
        columns, rows = canvas.grid(region.window)
        if brightness == 0.8:
            z = np.full_like(columns, near)
            along = (columns - canvas.centre) * near / canvas.focal
        else:
            z = (
                canvas.focal
                * x
                / np.where(np.abs(columns - canvas.centre) < 1, 1, columns - canvas.centre)
            )
            along = z
        y = CAMERA_HEIGHT - (rows - canvas.horizon) * z / canvas.focal
        _paint_wall(
            canvas, weather, region, along + seed + 0 * y, y, height, wall, brightness, sign
        )


def _paint_wall(
    canvas: Canvas,
    weather: Weather,
    region: Region,
    along: Array,
    y: Array,
    height: float,
    wall: Color,
    brightness: float,
    sign: Color | None,
) -> None:
    """Paint one wall by its own coordinates in metres: bricks, windows, perhaps a shop sign."""
    grain = canvas.sample(along * 30, y * 30)
    mortar = ((y % 0.4) < 0.07) | (((along + 0.5 * ((y // 0.4) % 2)) % 1.0) < 0.06)
    color = (
        np.asarray(wall, np.float32) * (0.75 + 0.4 * grain - 0.12 * mortar)[..., None] * brightness
    )
    u, v = (along % 2.4) / 2.4, (y % 3.0) / 3.0
    frame = (u > 0.24) & (u < 0.76) & (v > 0.27) & (v < 0.80) & (y < height - 0.4)
    pane = frame & (u > 0.28) & (u < 0.72) & (v > 0.31) & (v < 0.76) & (np.abs(u - 0.5) > 0.015)
    room = canvas.sample(np.floor(along / 2.4) * 37, np.floor(y / 3.0) * 53)
    color = np.where(frame[..., None], 0.75 * brightness, color)
    color = np.where(
        pane[..., None], mix((0.05, 0.07, 0.10), (0.30, 0.38, 0.46), v[..., None]), color
    )
    lit = pane & (room < weather.lit_windows)
    glow = np.where(
        lit[..., None],
        np.asarray((0.85, 0.62, 0.30), np.float32) * (0.5 + 0.5 * grain[..., None]),
        0,
    )
    warmth = weather.ground_warmth * (1.05 + 0.10 * brightness) - 0.015 * y
    warmth = np.where(pane, warmth * 0.82, warmth) + 0.02 * (grain - 0.5)
    if sign is not None:
        board = (y > 2.7) & (y < 3.4) & (along % 9.0 < 6.5)
        letters = board & (y > 2.85) & (y < 3.25) & (canvas.sample(along * 9, y * 4) > 0.5)
        color = np.where(board[..., None], np.asarray(sign, np.float32), color)
        color = np.where(letters[..., None], 0.92, color)
        shine = 0.0 if weather.lighting == "day" else 0.55
        glow = np.where(board[..., None], color * shine, glow)
        warmth = np.where(board, weather.ground_warmth * 1.1, warmth)
    canvas.paint(region, color, warmth, light=glow)
