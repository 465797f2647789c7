"""Losses: fusion terms and their text-dependent weights, distillation and restoration terms."""

from dtpf.core.losses.distillation import (
    DistillLossConfig,
    FeatureProjection,
    TeacherInput,
    distillation_total,
    feature_loss,
    result_loss,
)
from dtpf.core.losses.restoration import judgement_loss, restoration_loss, tone_loss
from dtpf.core.losses.terms import (
    WEIGHT_OF,
    fusion_terms,
    terms_with_weight,
    weighted_total,
    weights_of_dull,
)
from dtpf.core.losses.weights import LossConfig, TermWeights, medical_weights_for, weights_for

__all__ = [
    "WEIGHT_OF",
    "DistillLossConfig",
    "FeatureProjection",
    "LossConfig",
    "TeacherInput",
    "TermWeights",
    "distillation_total",
    "feature_loss",
    "fusion_terms",
    "judgement_loss",
    "medical_weights_for",
    "restoration_loss",
    "result_loss",
    "terms_with_weight",
    "tone_loss",
    "weighted_total",
    "weights_for",
    "weights_of_dull",
]
