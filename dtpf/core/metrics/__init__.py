"""Fusion metrics: pure functions on batched gray tensors, by name in METRICS, run by `score`."""

from dtpf.core.metrics.conventions import CONVENTIONS, Convention, to_gray_255
from dtpf.core.metrics.registry import MAIN_METRICS, METRICS, Metric, score

__all__ = [
    "CONVENTIONS",
    "MAIN_METRICS",
    "METRICS",
    "Convention",
    "Metric",
    "score",
    "to_gray_255",
]
