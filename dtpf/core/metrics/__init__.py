"""Fusion metrics: pure functions on batched gray tensors, by name in METRICS, run by `score`."""

from dtpf.core.metrics.conventions import (
    CONVENTIONS,
    Convention,
    find_convention,
    to_gray_255,
)
from dtpf.core.metrics.registry import (
    ALL_METRICS,
    MAIN_METRICS,
    METRICS,
    QUALITY_METRICS,
    Metric,
    QualityMetric,
    find_metric,
)
from dtpf.core.metrics.retention import RETENTION_METRICS, retention, retention_shares
from dtpf.core.metrics.scoring import score

__all__ = [
    "ALL_METRICS",
    "CONVENTIONS",
    "MAIN_METRICS",
    "METRICS",
    "QUALITY_METRICS",
    "RETENTION_METRICS",
    "Convention",
    "Metric",
    "QualityMetric",
    "find_convention",
    "find_metric",
    "retention",
    "retention_shares",
    "score",
    "to_gray_255",
]
