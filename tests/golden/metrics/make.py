"""Write the golden images and values: `python -m tests.golden.metrics.make`.

Run it only when a definition changes on purpose, and say so in the commit.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dtpf.core.metrics import CONVENTIONS, METRICS, score

HERE = Path(__file__).parent
HEIGHT, WIDTH = 176, 192  # the smallest that every metric takes


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
    fused = visible + (np.maximum(luma, infrared) * 0.7 + luma * 0.3 - luma)[..., None]
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
    values = {
        name: {
            metric: float(value)
            for metric, value in score(*tensors, names=tuple(METRICS), convention=name).items()
        }
        for name in CONVENTIONS
    }
    document = {"images": [f"{name}.png" for name in names], "conventions": values}
    (HERE / "values.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
