"""Fuse a visible and an infrared image with an exported network; needs no torch and no dtpf.

    pip install numpy onnxruntime pillow
    dtpf export BUNDLE -o student.onnx
    python fuse_onnx.py visible.png infrared.png student.onnx fused.png

Both images have 8 bits and the same size, 16 pixels a side or more.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def fuse(visible: Image.Image, infrared: Image.Image, model: str) -> Image.Image:
    """Return the fused RGB image of one pair."""
    if visible.size != infrared.size or min(visible.size) < 16:
        raise SystemExit(
            f"visible is {visible.size} and infrared is {infrared.size} pixels (width, height); "
            "both must have one size of at least 16 x 16"
        )
    seen = np.asarray(visible.convert("RGB"), np.float32) / 255  # H x W x 3
    heat = np.asarray(infrared.convert("L"), np.float32) / 255  # H x W
    inputs = {"visible": seen.transpose(2, 0, 1)[None], "infrared": heat[None, None]}
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (fused,) = session.run(None, inputs)  # 1 x 3 x H x W in [0, 1]
    return Image.fromarray(np.round(fused[0].transpose(1, 2, 0) * 255).astype(np.uint8))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit("usage: fuse_onnx.py VISIBLE INFRARED MODEL OUTPUT")
    with Image.open(sys.argv[1]) as first, Image.open(sys.argv[2]) as second:
        fuse(first, second, sys.argv[3]).save(sys.argv[4])
