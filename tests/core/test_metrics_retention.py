"""Retention: shares of the teacher's scores, and when they mean nothing."""

import pytest

from dtpf.core.metrics import RETENTION_METRICS, retention, retention_shares

TEACHER = {"VIF": 1.0, "Qabf": 0.8, "SSIM": 1.5, "Nabf": 0.02}
STUDENT = {"VIF": 0.9, "Qabf": 0.8, "SSIM": 1.2, "Nabf": 0.04}


def test_shares_and_their_mean():
    assert RETENTION_METRICS == ("VIF", "Qabf", "SSIM")
    assert retention_shares(STUDENT, TEACHER) == pytest.approx(
        {"VIF": 0.9, "Qabf": 1.0, "SSIM": 0.8}
    )
    assert retention(STUDENT, TEACHER) == pytest.approx(0.9)
    assert retention(TEACHER, TEACHER, tuple(TEACHER)) == pytest.approx(1.0)


def test_where_lower_is_better_the_ratio_is_turned_over():
    assert retention(STUDENT, TEACHER, ("Nabf",)) == pytest.approx(0.5)


def test_a_student_may_score_below_zero_a_teacher_not():
    assert retention({"SSIM": -0.3}, {"SSIM": 1.5}, ("SSIM",)) == pytest.approx(-0.2)
    for teacher in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="retention of SSIM: scores must be positive"):
            retention({"SSIM": 1.0}, {"SSIM": teacher}, ("SSIM",))


def test_wrong_names():
    with pytest.raises(ValueError, match="at least one metric"):
        retention(STUDENT, TEACHER, ())
    with pytest.raises(ValueError, match=r"unknown metrics 'PSNR'"):
        retention({"PSNR": 1.0}, {"PSNR": 1.0}, ("PSNR",))
