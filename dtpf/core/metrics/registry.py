"""All metrics by name, and `score`, the one way to compute them.

Legend: B = batch, H, W = height and width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dtpf.core.metrics.contrast import standard_deviation
from dtpf.core.metrics.conventions import (
    CONVENTIONS,
    STANDARD,
    Convention,
    MetricFunction,
    Rounding,
    to_gray_255,
)
from dtpf.core.metrics.correlation import (
    correlation_coefficient,
    sum_of_correlations_of_differences,
)
from dtpf.core.metrics.edges import nabf, qabf
from dtpf.core.metrics.fidelity import vif
from dtpf.core.metrics.gradient import average_gradient, spatial_frequency
from dtpf.core.metrics.information import entropy, mutual_information
from dtpf.core.metrics.structure import ms_ssim_sum, ssim_sum


@dataclass(frozen=True)
class Metric:
    """One metric: `function(fused, visible, infrared)` on gray (B, H, W) in [0, 255] gives (B,)."""

    name: str
    title: str
    direction: Literal["higher", "lower"]
    source: str
    units: str
    function: MetricFunction

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values are better."""
        return self.direction == "higher"


def _of_fused(function: Callable[[Tensor], Tensor]) -> MetricFunction:
    return lambda fused, visible, infrared: function(fused)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("EN", "Entropy", "higher", "Roberts et al. 2008", "bits", _of_fused(entropy)),
        Metric("MI", "Mutual information", "higher", "Qu et al. 2002", "bits", mutual_information),
        Metric(
            "SF",
            "Spatial frequency",
            "higher",
            "Eskicioglu and Fisher 1995",
            "gray levels",
            _of_fused(spatial_frequency),
        ),
        Metric(
            "VIF",
            "Visual information fidelity",
            "higher",
            "Sheikh and Bovik 2006",
            "ratio, sum",
            vif,
        ),
        Metric("Qabf", "Edge transfer", "higher", "Xydeas and Petrovic 2000", "share", qabf),
        Metric(
            "SSIM", "Structural similarity", "higher", "Wang et al. 2004", "index, sum", ssim_sum
        ),
        Metric(
            "MS-SSIM",
            "Multi-scale structural similarity",
            "higher",
            "Wang et al. 2003",
            "index, sum",
            ms_ssim_sum,
        ),
        Metric(
            "SD",
            "Standard deviation",
            "higher",
            "Rao 1997",
            "gray levels",
            _of_fused(standard_deviation),
        ),
        Metric(
            "AG",
            "Average gradient",
            "higher",
            "Cui et al. 2015",
            "gray levels",
            _of_fused(average_gradient),
        ),
        Metric(
            "CC",
            "Correlation coefficient",
            "higher",
            "Deshmukh and Bhosale 2010",
            "index",
            correlation_coefficient,
        ),
        Metric(
            "SCD",
            "Sum of the correlations of differences",
            "higher",
            "Aslantas and Bendes 2015",
            "index, sum",
            sum_of_correlations_of_differences,
        ),
        Metric("Nabf", "Fusion artefacts", "lower", "Shreyamsha Kumar 2013", "share", nabf),
    )
}

MAIN_METRICS = ("EN", "MI", "SF", "VIF", "Qabf", "SSIM")


def score(
    fused: Tensor,
    visible: Tensor,
    infrared: Tensor,
    names: Sequence[str] = MAIN_METRICS,
    convention: Convention | str = STANDARD,
) -> dict[str, Tensor]:
    """Return each named metric's value (B,) of float64 for a batch of fused pairs.

    Args:
        fused: float (B, 3 or 1, H, W) in [0, 1]; values outside are clamped.
        visible: float (B, 3 or 1, H, W) in [0, 1].
        infrared: float (B, 1 or 3, H, W) in [0, 1].
        names: keys of METRICS.
        convention: a Convention or its name; says how values are rounded and what is substituted.

    Raises:
        ValueError: an unknown name, shapes that do not match, or an image too small for a metric.
    """
    rules = _convention(convention)
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; known: {', '.join(METRICS)}")
    frames = {(image.shape[0], *image.shape[2:]) for image in (fused, visible, infrared)}
    if len(frames) != 1:
        shapes = ", ".join(str(tuple(image.shape)) for image in (fused, visible, infrared))
        raise ValueError(f"fused, visible and infrared must match in batch and size, got {shapes}")
    source_rounding: Rounding = "none" if rules.rounding == "none" else "nearest"
    gray = (
        to_gray_255(fused, rules.rounding),
        to_gray_255(visible, source_rounding),
        to_gray_255(infrared, source_rounding),
    )
    return {name: rules.substitutes.get(name, METRICS[name].function)(*gray) for name in names}


def _convention(convention: Convention | str) -> Convention:
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]
