"""What a network costs: parameters, and floating-point operations for one pair of a given size."""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dtpf.core.models.config import ModelConfig
from dtpf.core.models.network import FusionNet


@dataclass(frozen=True)
class Cost:
    """Parameters, and floating-point operations of one pair of `height` x `width` pixels.

    A multiplication and an addition count as two; only convolutions and matrix products count.
    """

    parameters: int
    flops: int
    height: int
    width: int
    stride: int

    def as_dict(self) -> dict[str, int]:
        """Return plain types."""
        return asdict(self)


def count_parameters(module: nn.Module) -> int:
    """Return how many trainable numbers a module has."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def measure_cost(config: ModelConfig, height: int = 128, width: int = 128) -> Cost:
    """Return the cost of one forward pass; nothing is computed or allocated, only shapes."""
    with torch.device("meta"):
        network = FusionNet(config)
        visible, infrared = torch.empty(1, 3, height, width), torch.empty(1, 1, height, width)
        text = torch.empty(1, config.text_dim) if config.text else None
    counter = FlopCounterMode(display=False)
    # The counter knows the products inside the plain form of attention on every device.
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        network(visible, infrared, text)
    return Cost(count_parameters(network), counter.get_total_flops(), height, width, config.stride)
