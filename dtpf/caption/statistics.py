"""The captioner that needs no model: image statistics compared with thresholds.

It says less than a vision-language model (nothing about content), but always the same for the
same pair, in milliseconds, and its accuracy is measured: benchmarks/caption_accuracy.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtpf.caption import measures
from dtpf.caption.reading import SMALLEST_SIDE
from dtpf.caption.text import compose_caption
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import luma
from dtpf.core.records import Caption, Degradation

_STEPS = 64  # severities are multiples of 1/64: exact in the float32 of the stored column


@dataclass(frozen=True)
class Rule:
    """One degradation, the measure that shows it, and the scale from measure to severity.

    `levels` are the values of the measure at `severities`, both ascending. A measure below the
    first level is not reported; between levels severity is interpolated.
    """

    modality: str
    kind: str
    measure: Callable[[measures.FloatArray], float]
    levels: tuple[float, ...]
    severities: tuple[float, ...]

    def judge(self, gray: NDArray[np.float32]) -> Degradation | None:
        """Return the degradation of a gray image (H, W), None if there is none."""
        value = self.measure(gray)
        if value < self.levels[0]:
            return None
        severity = float(np.interp(value, self.levels, self.severities))
        return Degradation(self.modality, self.kind, round(severity * _STEPS) / _STEPS)


# Found on the 116 training pairs of RoadScene: clean, each degradation of data/degrade.py at five
# severities, and two on one image. The first level is the one of highest F1 among those that at
# most 1% of the clean images reach; the others are the medians of the measure at the severities
# below them. Motion blur can be detected so, but its length hardly be told: its scale is coarse.
RULES = (
    Rule("visible", "low_light", measures.darkness, (0.1, 0.19, 0.42, 0.84), (0.25, 0.4, 0.6, 1.0)),
    Rule(
        "visible",
        "over_exposure",
        measures.brightness,
        (0.6, 0.64, 0.74, 0.886),
        (0.3, 0.4, 0.6, 1.0),
    ),
    Rule("visible", "noise", measures.noise_level, (0.013, 0.027, 0.066), (0.15, 0.4, 1.0)),
    Rule("visible", "motion_blur", measures.motion_blur, (3.4, 4.8, 6.2), (0.3, 0.6, 1.0)),
    Rule("infrared", "low_contrast", measures.flatness, (0.455, 0.57, 0.87), (0.4, 0.6, 1.0)),
    Rule("infrared", "noise", measures.noise_level, (0.014, 0.039, 0.094), (0.15, 0.4, 1.0)),
    Rule("infrared", "stripes", measures.stripe_level, (0.024, 0.064, 0.157), (0.15, 0.4, 1.0)),
)


class StatisticsCaptioner:
    """Captions a pair by `RULES`; `revision` changes with them, `prompt_version` with the text."""

    name = "statistics"
    revision = "1"

    def __init__(self, prompt_version: str = "1") -> None:
        self.prompt_version = prompt_version

    def caption(
        self, pair_id: str, visible: NDArray[np.float32], infrared: NDArray[np.float32]
    ) -> Caption:
        """Caption one pair: visible (H, W, 3) and infrared (H, W), float32 in [0, 1].

        Raises:
            UserError: an image is below 16 pixels a side.
        """
        if min(*visible.shape[:2], *infrared.shape) < SMALLEST_SIDE:
            raise UserError(f"{pair_id}: images below {SMALLEST_SIDE} pixels a side")
        grays = {"visible": luma(visible), "infrared": infrared}
        judged = (rule.judge(grays[rule.modality]) for rule in RULES)
        found = tuple(item for item in judged if item is not None)
        return Caption(
            pair_id=pair_id,
            caption=compose_caption(found),
            degradations=found,
            captioner=self.name,
            revision=self.revision,
            prompt_version=self.prompt_version,
        )
