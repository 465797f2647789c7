"""All metrics by name, with what tables say of them.

Legend: B = batch, H, W = height and width.
"""

from dataclasses import dataclass
from typing import Literal

from dtpf.core.metrics import quality
from dtpf.core.metrics.contrast import standard_deviation
from dtpf.core.metrics.conventions import MetricFunction, of_fused
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
class _Facts:
    """What tables say of a metric."""

    name: str
    title: str
    direction: Literal["higher", "lower"]
    source: str
    units: str

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values are better."""
        return self.direction == "higher"


@dataclass(frozen=True)
class Metric(_Facts):
    """One metric: `function(fused, visible, infrared)` on gray (B, H, W) in [0, 255] gives (B,)."""

    function: MetricFunction


@dataclass(frozen=True)
class QualityMetric(_Facts):
    """A metric without reference: `function(fused)` on colour (B, 3, H, W) in [0, 1] gives (B,)."""

    function: quality.Quality


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("EN", "Entropy", "higher", "Roberts et al. 2008", "bits", of_fused(entropy)),
        Metric("MI", "Mutual information", "higher", "Qu et al. 2002", "bits", mutual_information),
        Metric(
            "SF",
            "Spatial frequency",
            "higher",
            "Eskicioglu and Fisher 1995",
            "gray levels",
            of_fused(spatial_frequency),
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
            of_fused(standard_deviation),
        ),
        Metric(
            "AG",
            "Average gradient",
            "higher",
            "Cui et al. 2015",
            "gray levels",
            of_fused(average_gradient),
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

QUALITY_METRICS: dict[str, QualityMetric] = {
    metric.name: metric
    for metric in (
        QualityMetric(
            "BRISQUE",
            "Blind image spatial quality evaluator",
            "lower",
            "Mittal et al. 2012",
            "0 to 100",
            quality.brisque,
        ),
        QualityMetric(
            "NIQE",
            "Natural image quality evaluator",
            "lower",
            "Mittal et al. 2013",
            "distance",
            quality.niqe,
        ),
        QualityMetric(
            "MUSIQ",
            "Multi-scale image quality transformer",
            "higher",
            "Ke et al. 2021",
            "0 to 100",
            quality.musiq,
        ),
        QualityMetric(
            "CLIP-IQA",
            "CLIP image quality",
            "higher",
            "Wang et al. 2023",
            "0 to 1",
            quality.clip_iqa,
        ),
    )
}

ALL_METRICS: dict[str, Metric | QualityMetric] = {**METRICS, **QUALITY_METRICS}

MAIN_METRICS = ("EN", "MI", "SF", "VIF", "Qabf", "SSIM")


def find_metric(name: str) -> Metric | QualityMetric:
    """Return a metric by name.

    Raises:
        ValueError: no such name; lists those that exist.
    """
    if name not in ALL_METRICS:
        raise ValueError(f"unknown metrics {name!r}; known: {', '.join(ALL_METRICS)}")
    return ALL_METRICS[name]
