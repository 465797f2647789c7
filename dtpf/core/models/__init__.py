"""The fusion network: config and presets, layers, and its cost."""

from dtpf.core.models.config import PRESETS, ModelConfig, preset
from dtpf.core.models.cost import Cost, count_parameters, measure_cost
from dtpf.core.models.network import FusionNet, build

__all__ = [
    "PRESETS",
    "Cost",
    "FusionNet",
    "ModelConfig",
    "build",
    "count_parameters",
    "measure_cost",
    "preset",
]
