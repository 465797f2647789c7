"""Text modulation of a feature map, equation (9).

Legend: B = batch, H, W = height and width, C = channels, T = width of the text embedding.
"""

import math

from torch import Tensor, nn


class TextModulation(nn.Module):
    """(1 + gamma(T)) * F + beta(T), gamma and beta from a two-layer perceptron of C hidden units.

    Its last layer starts at zero, so an untrained module changes nothing. Text embeddings have unit
    length; they are scaled to components of variance one, as the first layer's initial weights
    expect. Without that, all texts look alike to the hidden units for hundreds of steps.
    """

    def __init__(self, channels: int, text_dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(text_dim)
        self.hidden = nn.Linear(text_dim, channels)
        self.activation = nn.GELU()
        self.out = nn.Linear(channels, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BHWC: Tensor, text_BT: Tensor) -> Tensor:
        """Return (B, H, W, C); texts have length one."""
        hidden_BC = self.activation(self.hidden(self.scale * text_BT))
        parameters_B11C = self.out(hidden_BC)[:, None, None, :]
        gamma, beta = parameters_B11C.chunk(2, dim=-1)
        return (1.0 + gamma) * x_BHWC + beta
