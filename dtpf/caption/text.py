"""Degradations to English: one short, deterministic sentence per image of a pair.

The longest possible caption (the severest five degradations of both images) is below the 77 tokens
of CLIP, so no encoder has to cut it; a test counts them.
"""

from collections.abc import Iterable

from dtpf.core.records import MODALITIES, Degradation

# What is said of a pair of which nothing is known.
NEUTRAL_CAPTION = "A visible image and an infrared image of the same scene."

_SEVERITY_WORDS = ((1 / 3, "mild"), (2 / 3, "moderate"), (1.0, "severe"))

_MOST = 5  # degradations named of an image

_KIND_WORDS = {
    "low_light": "low light",
    "over_exposure": "over-exposure",
    "noise": "noise",
    "motion_blur": "motion blur",
    "low_contrast": "low contrast",
    "stripes": "stripes",
    "gaussian_blur": "blur",
    "downsampling": "low resolution",
    "rain": "rain",
    "haze": "haze",
    "snow": "snow",
}


def severity_word(severity: float) -> str:
    """Return `mild`, `moderate` or `severe` for a severity in [0, 1] (thirds)."""
    return next(word for bound, word in _SEVERITY_WORDS if severity <= bound)


def compose_caption(degradations: Iterable[Degradation]) -> str:
    """Return one sentence per modality: its five severest degradations, the severest first."""
    found = sorted(degradations, key=lambda item: (-item.severity, item.kind))
    return " ".join(
        _sentence(modality, [item for item in found if item.modality == modality][:_MOST])
        for modality in MODALITIES
    )


def _sentence(modality: str, degradations: list[Degradation]) -> str:
    if not degradations:
        return f"The {modality} image is clean."
    phrases = [f"{severity_word(item.severity)} {_KIND_WORDS[item.kind]}" for item in degradations]
    *others, last = phrases
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"The {modality} image has {listed}."
