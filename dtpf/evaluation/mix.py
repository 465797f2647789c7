"""A mix of metrics, written `VIF+3*Qabf`: what the pixel limit is optimised on."""

import re

from dtpf.core.metrics import METRICS

DIFFERENTIABLE = ("VIF", "Qabf", "SSIM", "MS-SSIM", "SF", "AG", "SD", "CC", "SCD")

_TERM = re.compile(r"(?:(?P<weight>\d+(?:\.\d+)?)\*)?(?P<metric>[A-Za-z-]+)")


def parse_mix(text: str) -> dict[str, float]:
    """Return weights by metric.

    Raises:
        ValueError: not of the form `VIF+3*Qabf`, a metric twice, or one without a derivative.
    """
    weights: dict[str, float] = {}
    for term in text.replace(" ", "").split("+"):
        found = _TERM.fullmatch(term)
        if not found:
            raise ValueError(f"{text!r} is no mix of metrics; write it like VIF+3*Qabf")
        metric = found["metric"]
        if metric not in DIFFERENTIABLE:
            known = "unknown" if metric not in METRICS else "without a derivative"
            raise ValueError(f"{text!r}: {metric} is {known}; take {', '.join(DIFFERENTIABLE)}")
        if metric in weights:
            raise ValueError(f"{text!r} names {metric} twice")
        weights[metric] = float(found["weight"] or 1.0)
    return weights
