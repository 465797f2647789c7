"""What is trained: a task holds the trainable module and turns a batch into named losses.

Teacher and student differ by task and config alone; loop and checkpoints are the same.
Legend: B = batch, H, W = height and width, D = text width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from dtpf.core.losses import (
    DistillLossConfig,
    FeatureProjection,
    LossConfig,
    TeacherInput,
    distillation_total,
    feature_loss,
    fusion_terms,
    result_loss,
    terms_with_weight,
    weighted_total,
    weights_for,
    weights_of_dull,
)
from dtpf.core.models import FusionNet, ModelConfig
from dtpf.data.dataset import PairDataset
from dtpf.training.group import Group


@dataclass(frozen=True)
class TrainBatch:
    """Crops of one step on one worker, with the loss weights that each pair's text asks for.

    Images are float32 in [0, 1]; guides are the clean versions where known, else the inputs.
    `dull_B`, bool, says whose sources are not to be sharpened.
    `teacher_outputs` is empty where the teacher runs with the student; else it has the teacher's
    fused image (B, 3, H, W) and the features of its decoder's levels 1 to 4, float16.
    """

    pair_ids: tuple[str, ...]
    visible_B3HW: Tensor
    infrared_B1HW: Tensor
    visible_guide_B3HW: Tensor
    infrared_guide_B1HW: Tensor
    dull_B: Tensor
    text_BD: Tensor
    weights: Mapping[str, Tensor]
    teacher_outputs: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.pair_ids)

    def part(self, samples: slice) -> "TrainBatch":
        """Return some of the samples."""
        return self._changed(lambda value: value[samples], self.pair_ids[samples])

    def to(self, device: torch.device) -> "TrainBatch":
        """Return the batch on a device."""
        return self._changed(lambda value: value.to(device), self.pair_ids)

    def _changed(
        self, change: Callable[[Tensor], Tensor], pair_ids: tuple[str, ...]
    ) -> "TrainBatch":
        return TrainBatch(
            pair_ids,
            change(self.visible_B3HW),
            change(self.infrared_B1HW),
            change(self.visible_guide_B3HW),
            change(self.infrared_guide_B1HW),
            change(self.dull_B),
            change(self.text_BD),
            {name: change(value) for name, value in self.weights.items()},
            tuple(change(value) for value in self.teacher_outputs),
        )


class Task(nn.Module, ABC):
    """A trainable module and its loss.

    `network` is what is shipped; `trainable` is what the optimiser sees (it may hold helpers,
    such as projections); `forward` returns the loss of each sample and the named terms, (B,) each.
    Only `trainable` is wrapped for data-parallel training, and only it is saved.
    """

    network: FusionNet
    trainable: nn.Module

    def prepare(self, pairs: PairDataset, seed: int, group: Group) -> None:
        """Fit what is not trained, where there is such; every process of the group calls it."""

    @abstractmethod
    def network_in(self, trainable: nn.Module) -> FusionNet:
        """Return the network to ship inside `trainable` or a copy of it, such as an average."""

    @abstractmethod
    def forward(self, batch: TrainBatch, trainable: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """Run `trainable` (wrapped or not) on a batch."""


class FusionTask(Task):
    """Train a network on the fusion loss, equation (12); with text if its config has it."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.network = self.trainable = FusionNet(model)

    def network_in(self, trainable: nn.Module) -> FusionNet:
        """Return `trainable`."""
        assert isinstance(trainable, FusionNet)
        return trainable

    def forward(self, batch: TrainBatch, trainable: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted fusion loss (B,) and its unweighted terms."""
        text = batch.text_BD if self.network.config.text else None
        fused = trainable(batch.visible_B3HW, batch.infrared_B1HW, text)
        terms = terms_of(fused, batch, batch.weights)
        return weighted_total(terms, batch.weights), terms


class ProjectedStudent(nn.Module):
    """A student with the learned projections of the teacher's features, equation (17).

    One module, so that data-parallel training sees all trainable parameters in one forward.
    """

    def __init__(self, student: FusionNet, teacher_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.student = student
        self.projection = FeatureProjection(teacher_widths, student.config.feature_widths)

    def forward(
        self, visible: Tensor, infrared: Tensor, teacher_features: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the fused image, the student's features and the projected teacher's."""
        fused, features = self.student(visible, infrared, None, return_features=True)
        return fused, features, self.projection(teacher_features)


class DistillTask(Task):
    """Distil a text-free student from a frozen teacher, equation (19).

    `teacher` is the network, or its config alone where batches bring its outputs.
    """

    def __init__(
        self,
        model: ModelConfig,
        teacher: FusionNet | ModelConfig,
        loss: LossConfig,
        distill: DistillLossConfig,
    ) -> None:
        super().__init__()
        shape = teacher.config if isinstance(teacher, FusionNet) else teacher
        self.network = FusionNet(model)
        self.trainable = ProjectedStudent(self.network, shape.feature_widths)
        self.distill = distill
        self.base_weights = weights_for((), loss).as_dict()
        self.dull_factors = loss.dull
        # In a tuple the teacher is no submodule: never wrapped, never saved, never set to train.
        self._frozen = (
            (teacher.eval().requires_grad_(False),) if isinstance(teacher, FusionNet) else ()
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teacher too, to whatever device or type this module is moved."""
        for teacher in self._frozen:
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def network_in(self, trainable: nn.Module) -> FusionNet:
        """Return the student without its projections."""
        assert isinstance(trainable, ProjectedStudent)
        return trainable.student

    @property
    def teacher(self) -> FusionNet:
        """The frozen teacher.

        Raises:
            ValueError: the task has its config alone, and a batch without its outputs.
        """
        if not self._frozen:
            raise ValueError("the batch has no teacher_outputs, and the task no teacher to run")
        return self._frozen[0]

    def forward(self, batch: TrainBatch, trainable: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_distill (B,) and its terms; L_base has the fixed weights of the loss config."""
        seen, heat = batch.visible_B3HW, batch.infrared_B1HW
        goal, *levels = self._teacher_outputs(batch)
        fused, features, projected = trainable(seen, heat, tuple(levels))
        fixed = {name: seen.new_tensor(value) for name, value in self.base_weights.items()}
        weights = weights_of_dull(fixed, self.dull_factors, batch.dull_B)
        terms = terms_of(fused, batch, weights)
        base = weighted_total(terms, weights)
        feature = feature_loss(features, projected, self.distill.distance)
        result = result_loss(fused.float(), goal.float())
        total = distillation_total(base, feature, result, self.distill)
        return total, {"base": base, "feature": feature, "result": result, **terms}

    def _teacher_outputs(self, batch: TrainBatch) -> tuple[Tensor, ...]:
        if not batch.teacher_outputs:
            return run_teacher(self.teacher, batch, self.distill.teacher_sees)
        return tuple(value.float() for value in batch.teacher_outputs)


@torch.no_grad()
def run_teacher(
    teacher: FusionNet, batch: TrainBatch, sees: TeacherInput = "inputs"
) -> tuple[Tensor, ...]:
    """Return the fused image and the decoder's four features, each with B as first dimension.

    Shapes and meaning are those of `FusionNet.forward` with `return_features`; what the teacher
    sees is `DistillLossConfig.teacher_sees`.
    """
    text = batch.text_BD if teacher.config.text else None
    pair = batch.visible_B3HW, batch.infrared_B1HW
    if sees == "guides":
        pair = batch.visible_guide_B3HW, batch.infrared_guide_B1HW
    fused, features = teacher(*pair, text, return_features=True)
    return fused, *features


def terms_of(fused: Tensor, batch: TrainBatch, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those terms of the fusion loss that have a weight, against the guides, (B,) each."""
    guides = batch.visible_guide_B3HW, batch.infrared_guide_B1HW
    return fusion_terms(fused.float(), *guides, terms_with_weight(weights), batch.dull_B)
