"""Do the two images of a pair lie on each other? A score, an offset, and whether that is sure."""

from dataclasses import dataclass

import numpy as np

from dtpf.cameras.calibration import calibrate
from dtpf.cameras.homography import distance
from dtpf.core.ops.pixels import FloatImage, luma

OFFSET_WARNED = 0.008  # of the longer side: 4 pixels of 500
_SMALLEST = 64  # pixels a side: smaller images say too little


@dataclass(frozen=True)
class Alignment:
    """Mean offset of the infrared image in visible pixels; nothing is said where not sure."""

    score: float
    offset: float
    sure: bool
    off: bool

    def __str__(self) -> str:
        if not self.sure:
            return "alignment: not sure, the two images share too few edges"
        state = "off" if self.off else "fine"
        return f"alignment {state}: {self.offset:.1f} pixels off, edges correlate {self.score:.2f}"


def check_alignment(visible: FloatImage, infrared: FloatImage) -> Alignment:
    """Measure a pair of one size: visible (H, W, 3) or (H, W), infrared (H, W).

    The offset is that of a similarity; what parallax or a lens adds is not in it.
    """
    gray = luma(visible) if visible.ndim == 3 else visible
    if min(gray.shape) < _SMALLEST or min(float(gray.std()), float(infrared.std())) < 1e-3:
        return Alignment(0.0, 0.0, sure=False, off=False)
    found = calibrate([(gray, infrared)])
    offset = distance(found.matrix, np.eye(3), infrared.shape)
    off = found.sure and offset > OFFSET_WARNED * max(gray.shape)
    return Alignment(found.score, round(offset, 2), found.sure, off)
