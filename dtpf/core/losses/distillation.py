"""The terms that carry a teacher's knowledge to a student, equations (17) to (19).

Legend: B = batch, C = channels, H, W = height and width.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from dtpf.core.config import Config
from dtpf.core.ops.shapes import check_same_shape

FeatureDistance = Literal["smooth_l1", "l1"]
TeacherInput = Literal["inputs", "guides"]


class DistillLossConfig(Config):
    """Weights of equation (19), and how features are compared; a weight of 0 switches a term off.

    Attributes:
        base: weight of the fusion loss with fixed weights.
        feature: weight of the decoder features' distance.
        result: weight of the distance between both fused images.
        distance: `l1` is equation (17) as printed; `smooth_l1`, of features scaled to unit length
            over their channels, is the authors' published training.
        teacher_sees: `inputs`, what the student sees, or `guides`, the clean pair where one is
            known: then the student learns to make of a degraded pair what its teacher makes of the
            clean one, and its loss has a slope where the metrics' terms are flat.
        refine: steps by which the teacher's fused image is optimised on the fusion loss before the
            student learns from it (`dtpf.training.refinement`); each takes as long as one of
            training, so it needs outputs that are stored.
    """

    base: float = 1.0
    feature: float = 0.1
    result: float = 1.0
    distance: FeatureDistance = "smooth_l1"
    teacher_sees: TeacherInput = "inputs"
    refine: int = Field(default=0, ge=0)


class FeatureProjection(nn.Module):
    """`Down` of equation (17): a learned 1x1 convolution per level, teacher to student channels."""

    def __init__(self, teacher_widths: Sequence[int], student_widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Conv2d(teacher, student, kernel_size=1)
            for teacher, student in zip(teacher_widths, student_widths, strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map each level's (B, teacher channels, H, W) to (B, student channels, H, W)."""
        return tuple(level(feature) for level, feature in zip(self.levels, features, strict=True))


def feature_loss(
    student: Sequence[Tensor],
    projected_teacher: Sequence[Tensor],
    distance: FeatureDistance = "smooth_l1",
) -> Tensor:
    """Return the sum over levels of the mean distance of features (B,), equation (17).

    Args:
        student: decoder features, one (B, C, H, W) per level.
        projected_teacher: the teacher's, mapped to the same shapes.
        distance: see `DistillLossConfig`.

    Raises:
        ValueError: the number of levels or a shape differs.
    """
    shapes = [tuple(x.shape) for x in student], [tuple(x.shape) for x in projected_teacher]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(f"features must agree level by level, got {shapes[0]} and {shapes[1]}")
    levels = zip(student, projected_teacher, strict=True)
    if distance == "l1":
        distances = [(own - goal).abs().mean(dim=(1, 2, 3)) for own, goal in levels]
    else:
        distances = [_smooth_distance(own, goal) for own, goal in levels]
    return torch.stack(distances).sum(dim=0)


def result_loss(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Return the mean L1 distance of two fused images (B,), equation (18).

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student_BCHW, teacher_BCHW)
    return (student_BCHW - teacher_BCHW).abs().mean(dim=(1, 2, 3))


def distillation_total(
    base: Tensor, feature: Tensor, result: Tensor, config: DistillLossConfig
) -> Tensor:
    """Return the weighted sum (B,) of the three terms (B,), equation (19)."""
    return config.base * base + config.feature * feature + config.result * result


def _smooth_distance(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    student, teacher = F.normalize(student_BCHW, dim=1), F.normalize(teacher_BCHW, dim=1)
    return F.smooth_l1_loss(student, teacher, reduction="none").mean(dim=(1, 2, 3))
