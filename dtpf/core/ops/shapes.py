"""Checks of shapes that several operations share."""

from torch import Tensor


def check_same_shape(first_BCHW: Tensor, second_BCHW: Tensor) -> None:
    """Refuse what is not two image batches (B, C, H, W) of one shape.

    Raises:
        ValueError: names both shapes.
    """
    if first_BCHW.shape != second_BCHW.shape or first_BCHW.ndim != 4:
        raise ValueError(
            "expected two (B, C, H, W) of one shape, got "
            f"{tuple(first_BCHW.shape)} and {tuple(second_BCHW.shape)}"
        )
