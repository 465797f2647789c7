"""Distillation terms against sums by hand and torch's own losses."""

import pytest
import torch
import torch.nn.functional as F

from dtpf.core.losses import (
    DistillLossConfig,
    FeatureProjection,
    distillation_total,
    feature_loss,
    result_loss,
)
from dtpf.core.models import build


def levels(seed, batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, 4, 8, 6), (batch, 8, 4, 3)]
    return tuple(torch.randn(s, generator=generator, dtype=dtype) for s in shapes)


def test_l1_is_equation_17():
    student, teacher = levels(0), levels(1)
    expected = [
        sum(F.l1_loss(s[n], t[n]).item() for s, t in zip(student, teacher, strict=True))
        for n in range(2)
    ]
    assert feature_loss(student, teacher, "l1").tolist() == pytest.approx(expected)


def test_smooth_l1_compares_unit_vectors():
    student, teacher = levels(0), levels(1)
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        s = s / s.square().sum(1, keepdim=True).sqrt()
        t = t / t.square().sum(1, keepdim=True).sqrt()
        error = (s - t).abs()
        smooth = torch.where(error < 1, 0.5 * error.square(), error - 0.5)
        expected = expected + smooth.flatten(1).mean(1)
    torch.testing.assert_close(feature_loss(student, teacher), expected)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_smooth_l1_ignores_the_length_of_features(scale):
    student, teacher = levels(0), levels(1)
    scaled = [scale * x for x in teacher]
    torch.testing.assert_close(feature_loss(student, scaled), feature_loss(student, teacher))


@pytest.mark.parametrize("distance", ["l1", "smooth_l1"])
def test_gradients(distance):
    student = [x.requires_grad_() for x in levels(0, batch=1)]
    teacher = levels(1, batch=1)
    assert torch.autograd.gradcheck(lambda *x: feature_loss(x, teacher, distance), student)
    assert not feature_loss(teacher, teacher, distance).any()


def test_result_loss_is_equation_18():
    first, second = torch.rand(3, 3, 5, 7), torch.rand(3, 3, 5, 7)
    expected = [F.l1_loss(a, b).item() for a, b in zip(first, second, strict=True)]
    assert result_loss(first, second).tolist() == pytest.approx(expected)


def test_total_is_equation_19():
    terms = (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0]))
    assert distillation_total(*terms, DistillLossConfig()).tolist() == pytest.approx([6.3, 8.4])
    off = DistillLossConfig(base=2.0, feature=0.0, result=0.0)
    assert distillation_total(*terms, off).tolist() == [2.0, 4.0]


def test_projection_maps_a_teachers_features_onto_a_students():
    teacher, student = build("teacher_tiny"), build("student_tiny")
    visible, infrared, text = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64), torch.rand(1, 512)
    with torch.no_grad():
        _, goal = teacher(visible, infrared, text, return_features=True)
        _, own = student(visible, infrared, None, return_features=True)
    project = FeatureProjection(teacher.config.feature_widths, student.config.feature_widths)
    loss = feature_loss(own, project(goal))
    assert loss.shape == (1,)
    loss.sum().backward()
    assert all(weight.grad.abs().any() for weight in project.parameters())


def test_rejects():
    student = levels(0)
    with pytest.raises(ValueError, match="level by level"):
        feature_loss(student, student[:1])
    with pytest.raises(ValueError, match="level by level"):
        feature_loss(student, tuple(x[:1] for x in student))
    with pytest.raises(ValueError, match="one shape"):
        result_loss(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
    with pytest.raises(ValueError, match="level by level"):
        feature_loss((), ())
