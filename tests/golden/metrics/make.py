"""Write the golden images and values: `python -m tests.golden.metrics.make`.

Run it only when a definition changes on purpose, and say so in the commit.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dtpf.core.metrics import CONVENTIONS, METRICS, score

HERE = Path(__file__).parent
HEIGHT, WIDTH = 176, 192  # about the smallest that every metric takes
ROUNDED = ("compat", "truncated", "unrounded")  # an 8-bit image does not tell them apart
DIMMED = 0.97


def scene():
    """Return fused, visible (both RGB) and infrared (gray) as uint8."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    texture = 18 * np.sin(columns / 3) * np.sin(rows / 4) * (rows > 90)
    sky = 170 - rows * 0.6
    visible = np.stack([sky * 0.8 + texture, sky * 0.9 + texture, sky + texture / 2], axis=2)
    visible[110:150, 30:80] = (140, 40, 35)
    person = (np.abs(columns - 130) < 9) & (np.abs(rows - 120) < 26)
    infrared = 40 + 0.2 * rows + 190 * person + 70 * ((rows > 110) & (rows < 150) & (columns < 80))
    infrared[30:60, 100:104] = 160
    luma = visible @ (0.299, 0.587, 0.114)
    ripple = 7 * np.sin(columns * 1.3) * np.sin(rows * 1.7)  # an artefact: in neither source
    fused = visible + (0.7 * np.maximum(luma, infrared) - 0.7 * luma + ripple)[..., None]
    fused[:, :48] = visible[:, :48]  # a copy: equal edge strengths, which conventions count apart
    return tuple(
        np.clip(image, 0, 255).round().astype(np.uint8) for image in (fused, visible, infrared)
    )


def main():
    names = ("fused", "visible", "infrared")
    tensors = []
    for name, array in zip(names, scene(), strict=True):
        Image.fromarray(array).save(HERE / f"{name}.png", optimize=True)
        planes = array[..., None] if array.ndim == 2 else array
        tensors.append(torch.from_numpy(planes.astype(np.float32) / 255).permute(2, 0, 1)[None])
    with (HERE / "values.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["metric", *columns()])
        scores = [values(*tensors, name) for name in columns()]
        for metric in METRICS:
            writer.writerow([metric, *(f"{float(row[metric]):.12g}" for row in scores)])


def columns():
    """Return (convention, factor) by column; the factor goes onto the fused image, see README."""
    standard = CONVENTIONS["standard"]
    grays = [standard.adjusted(gray=gray) for gray in ("bt601_limited", "bt709", "mean")]
    plain = {rules.name: (rules, 1.0) for rules in (*CONVENTIONS.values(), *grays)}
    cut = {f"{name}, fused x {DIMMED}": (CONVENTIONS[name], DIMMED) for name in ROUNDED}
    return {name: kept for name, kept in plain.items() if name not in ROUNDED[1:]} | cut


def values(fused, visible, infrared, column):
    rules, factor = columns()[column]
    return score(fused * factor, visible, infrared, tuple(METRICS), rules)


if __name__ == "__main__":
    main()
