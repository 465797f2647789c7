"""Retention: the share of the teacher's scores that a student keeps. Tuning maximises it."""

from collections.abc import Mapping, Sequence
from typing import Final

from dtpf.core.metrics.registry import find_metric

RETENTION_METRICS: Final = ("VIF", "Qabf", "SSIM")


def retention_shares(
    student: Mapping[str, float],
    teacher: Mapping[str, float],
    names: Sequence[str] = RETENTION_METRICS,
) -> dict[str, float]:
    """Return the student's share of the teacher's score in each named metric.

    1.0 means that nothing was lost; where lower is better the ratio is turned over.

    Args:
        student: mean scores by metric.
        teacher: mean scores of the teacher on the same pairs.
        names: metrics to compare.

    Raises:
        ValueError: a denominator is not positive, so that a share means nothing.
    """
    shares = {}
    for name in names:
        above, below = student[name], teacher[name]
        if not find_metric(name).higher_is_better:
            above, below = below, above
        if not below > 0.0:
            raise ValueError(
                f"retention of {name}: scores must be positive, student {student[name]:.4g}, "
                f"teacher {teacher[name]:.4g}"
            )
        shares[name] = above / below
    return shares


def retention(
    student: Mapping[str, float],
    teacher: Mapping[str, float],
    names: Sequence[str] = RETENTION_METRICS,
) -> float:
    """Return the mean of `retention_shares`: one number, 1.0 is as good as the teacher.

    Raises:
        ValueError: as `retention_shares`, or no metric is named.
    """
    shares = retention_shares(student, teacher, names)
    if not shares:
        raise ValueError("retention needs at least one metric")
    return sum(shares.values()) / len(shares)
