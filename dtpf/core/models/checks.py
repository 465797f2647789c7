"""What a network's inputs must look like; every message names what was given and what is needed."""

import torch
from torch import Tensor

from dtpf.core.models.config import ModelConfig

MIN_SIDE = 16

_ROUNDING = 1e-2  # what resampling in bfloat16 may add


def check_inputs(
    config: ModelConfig,
    dtype: torch.dtype,
    visible: Tensor,
    infrared: Tensor,
    text: Tensor | None,
) -> None:
    """Raise ValueError unless the tensors suit a network of `config` with weights of `dtype`."""
    _check_image("visible", visible, 3)
    _check_image("infrared", infrared, 1)
    if visible.shape[0] != infrared.shape[0] or visible.shape[2:] != infrared.shape[2:]:
        raise ValueError(
            "visible and infrared must agree in batch and size, got "
            f"{tuple(visible.shape)} and {tuple(infrared.shape)}"
        )
    _check_text(config, text, visible.shape[0])
    for name, tensor in (("visible", visible), ("infrared", infrared), ("text", text)):
        if tensor is not None and tensor.dtype != dtype:
            raise ValueError(f"{name} must be {dtype} like the weights, got {tensor.dtype}")
    if visible.device.type == "cpu" and not torch.compiler.is_compiling():
        # Elsewhere reading a value would wait for all work before it.
        for name, image in (("visible", visible), ("infrared", infrared)):
            _check_values(name, image)


def _check_image(name: str, image: Tensor, channels: int) -> None:
    if image.ndim != 4 or image.shape[1] != channels:
        raise ValueError(f"{name} must be (B, {channels}, H, W), got {tuple(image.shape)}")
    if min(image.shape[2:]) < MIN_SIDE or image.shape[0] == 0:
        raise ValueError(
            f"{name} needs at least one image of {MIN_SIDE} pixels a side, got {tuple(image.shape)}"
        )


def _check_values(name: str, image: Tensor) -> None:
    low, high = (float(value) for value in image.detach().aminmax())
    if not (low >= -_ROUNDING and high <= 1.0 + _ROUNDING):  # false for NaN too
        raise ValueError(
            f"{name} must hold values in [0, 1], got {low:.4g} to {high:.4g}; "
            "divide 8-bit images by 255, and replace what is not a number"
        )


def _check_text(config: ModelConfig, text: Tensor | None, batch: int) -> None:
    if not config.text:
        if text is not None:
            raise ValueError(f"this network takes no text, got {tuple(text.shape)}")
        return
    needed = (batch, config.text_dim)
    if text is None:
        raise ValueError(f"this network needs a text embedding {needed}, got None")
    if tuple(text.shape) != needed:
        raise ValueError(f"text must be {needed}, got {tuple(text.shape)}")
