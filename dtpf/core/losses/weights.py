"""Weights of the fusion loss, and how they depend on what the text says of a pair.

The numbers are those of the paper and of the authors' published training; the text-dependent ones
are published only for the latter.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from dtpf.core.config import Config
from dtpf.core.records import Degradation


class TermWeights(Config):
    """One number per term: a weight, or a factor on a weight; see `terms.py`."""

    intensity: float = 1.0
    consistency: float = 1.0
    gradient: float = 1.0
    ssim: float = 1.0
    ssim_infrared: float = 1.0
    color: float = 1.0
    information: float = 1.0
    edges: float = 1.0
    artefacts: float = 1.0
    frequency: float = 1.0
    sharpness: float = 1.0
    alternation: float = 1.0
    grain: float = 1.0

    def times(self, factor: "TermWeights") -> "TermWeights":
        """Return the product, term by term."""
        return TermWeights(
            **{name: value * getattr(factor, name) for name, value in self.as_dict().items()}
        )


class LossConfig(Config):
    """Which weights the fusion loss has.

    Attributes:
        preset: `paper` has the four terms of equation (12) at the printed values, for every text;
            `released` is the authors' published training, with weights for each degradation;
            `transfer` rewards what the sources' information and edges are measured by, VIF and
            Qabf, and punishes edges that neither has (Nabf), for every text. It leads where the
            others do not: their optimum scores below a Laplacian pyramid; `sharp` is the same
            for networks that start from `bands`, with a term for sharpness (SF); `crisp` makes
            pictures sharper than both sources, as far as that looks natural.
        scale: a factor on each weight; 0 switches a term off. `scale.ssim_infrared` is delta_ir
            of equation (14).
        dull: a further factor on each weight for crops that were dimmed or softened: what they lack
            is not what bright and sharp ones lack.
    """

    preset: Literal["paper", "released", "transfer", "sharp", "crisp"] = "released"
    scale: TermWeights = TermWeights()
    dull: TermWeights = TermWeights()


def _only(**weights: float) -> TermWeights:
    """Return these weights, and none for any other term."""
    return TermWeights(**dict.fromkeys(TermWeights.model_fields, 0.0) | weights)


def _weights(
    intensity: float, consistency: float, gradient: float, ssim: float = 2.0
) -> TermWeights:
    return _only(
        intensity=intensity,
        consistency=consistency,
        gradient=gradient,
        ssim=ssim,
        ssim_infrared=ssim,
        color=12.0,
    )


PAPER = _weights(24, 0, 48, ssim=40)
RELEASED = _weights(24, 40, 48)
TRANSFER = _only(
    intensity=12.0,
    ssim=6.0,
    ssim_infrared=6.0,
    color=24.0,
    information=12.0,
    edges=48.0,
    artefacts=72.0,
)
# Artefacts and sharpness pull against each other; both are heavy, so that what is sharpened is what
# may be: edges of one source where the other is flat.
SHARP = _only(
    intensity=10.0,
    gradient=10.0,
    ssim=2.0,
    ssim_infrared=2.0,
    information=0.6,
    edges=4.0,
    artefacts=60.0,
    frequency=6.0,
)
# Sharpness up to its bound comes first; how it is to be had, all others say. VIF rewards contrast,
# SSIM likeness: each keeps the other from going too far. Intensity keeps skies bright by day.
CRISP = _only(
    intensity=30.0,
    gradient=15.0,
    ssim=70.0,
    ssim_infrared=70.0,
    information=15.0,
    edges=95.0,
    artefacts=195.0,
    sharpness=68.0,
    alternation=40.0,
    grain=100.0,
)

_FIXED: Mapping[str, TermWeights] = {
    "paper": PAPER,
    "transfer": TRANSFER,
    "sharp": SHARP,
    "crisp": CRISP,
}

DEGRADATION_WEIGHTS: Mapping[str, TermWeights] = {
    "visible/low_light": _weights(48, 20, 48),
    "visible/over_exposure": _weights(32, 60, 48),
    "visible/noise": _weights(32, 80, 72),
    "visible/motion_blur": _weights(32, 40, 72),
    "infrared/low_contrast": _weights(40, 40, 48),
    "infrared/noise": _weights(32, 60, 48),
    "infrared/stripes": _weights(24, 80, 96),
    # Not published: the weights of the kind that is nearest.
    "visible/low_contrast": _weights(40, 40, 48),
    "visible/haze": _weights(40, 40, 48),
    "visible/rain": _weights(32, 80, 72),
    "visible/snow": _weights(32, 80, 72),
    "visible/gaussian_blur": _weights(32, 40, 72),
    "visible/downsampling": _weights(32, 40, 72),
    "infrared/gaussian_blur": _weights(32, 40, 72),
    "infrared/downsampling": _weights(32, 40, 72),
}

# Keys are what a medical pair's text asks for.
MEDICAL_WEIGHTS: Mapping[str, TermWeights] = {
    "contrast_enhancement": _weights(40, 60, 96, ssim=4),
    "edge_preservation": _weights(48, 80, 72),
    "noise_suppression": _weights(32, 100, 72, ssim=4),
    "detail_enhancement": _weights(40, 80, 96),
    "structure_consistency": _weights(48, 100, 72, ssim=8),
    "artifact_reduction": _weights(32, 120, 96, ssim=6),
}


def weights_for(degradations: Sequence[Degradation], config: LossConfig) -> TermWeights:
    """Return the weights for one pair.

    Several degradations: the mean of their weights, which is the mean of their losses. None: the
    preset's own weights, as in distillation.
    """
    return _mean_of([DEGRADATION_WEIGHTS[item.name] for item in degradations], config)


def medical_weights_for(events: Sequence[str], config: LossConfig) -> TermWeights:
    """Return the weights for one medical pair; `events` are keys of MEDICAL_WEIGHTS.

    Raises:
        ValueError: an unknown event.
    """
    unknown = sorted(set(events) - set(MEDICAL_WEIGHTS))
    if unknown:
        raise ValueError(f"unknown events {unknown}; known: {', '.join(MEDICAL_WEIGHTS)}")
    return _mean_of([MEDICAL_WEIGHTS[event] for event in events], config)


def _mean_of(found: Sequence[TermWeights], config: LossConfig) -> TermWeights:
    if config.preset in _FIXED:
        return _FIXED[config.preset].times(config.scale)
    rows = [weights.as_dict() for weights in found or (RELEASED,)]
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return TermWeights(**mean).times(config.scale)
