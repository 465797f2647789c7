"""The terms of the fusion loss: equations (12) to (16) of Zhang et al., TCSVT 2025, and more.

Beyond the paper are the shares of information (VIF) and edges (Qabf) that a result lacks, and the
edges that neither source has (Nabf), and what is lost in sharpness (SF): the metrics themselves,
with their derivatives, and what bounds them (`texture.py`).
Every term has one value per sample: the mean over that sample's pixels. So a batch may mix pairs
whose texts ask for different weights. All but colour look at BT.601 luminance.
Legend: B = batch, H, W = height and width.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.losses.texture import (
    alternation_loss,
    grain_loss,
    lost_frequency,
    sharpness_loss,
)
from dtpf.core.losses.weights import TermWeights
from dtpf.core.metrics.edges import nabf, qabf
from dtpf.core.metrics.fidelity import vif
from dtpf.core.ops.color import luminance, rgb_to_ycbcr
from dtpf.core.ops.sobel import gradient_magnitude
from dtpf.core.ops.ssim import ssim_map

# Which weight of `TermWeights` belongs to each term.
WEIGHT_OF = {
    "intensity": "intensity",
    "consistency": "consistency",
    "gradient": "gradient",
    "ssim_visible": "ssim",
    "ssim_infrared": "ssim_infrared",
    "color": "color",
    "information": "information",
    "edges": "edges",
    "artefacts": "artefacts",
    "frequency": "frequency",
    "sharpness": "sharpness",
    "alternation": "alternation",
    "grain": "grain",
}

_SHARPEST = 1.25  # times the sharper source: no reward beyond
_RAMP = 0.1  # an edge stronger than both sources' by a tenth of them counts in full as an artefact


class _Images(NamedTuple):
    """What the terms look at: luminances (B, 1, H, W), colours (B, 3, H, W), and dull (B,)."""

    fused: Tensor
    visible: Tensor
    infrared: Tensor
    fused_rgb: Tensor
    visible_rgb: Tensor
    dull: Tensor

    def gray_levels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the luminances as the metrics take them: (B, H, W) in [0, 255]."""
        fused, visible, infrared = (255.0 * image[:, 0] for image in self[:3])
        return fused, visible, infrared


def fusion_terms(
    fused_B3HW: Tensor,
    visible_B3HW: Tensor,
    infrared_B1HW: Tensor,
    names: Collection[str] = tuple(WEIGHT_OF),
    dull_B: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the unweighted terms, each (B,); zero is their goal.

    Args:
        fused_B3HW: the network's result, about [0, 1], not necessarily clamped.
        visible_B3HW: what the result is held against, RGB in [0, 1]: the visible image, or its
            clean version where one is known.
        infrared_B1HW: the same for the infrared image, in [0, 1].
        names: the terms to compute, keys of `WEIGHT_OF`.
        dull_B: samples whose sources are soft or dim, bool: `sharpness` asks for no more there than
            the sources have. None of them unless given.

    Raises:
        ValueError: shapes disagree, or a side is shorter than the 11 pixels of SSIM or the 41 of
            VIF.
    """
    _check(fused_B3HW, visible_B3HW, infrared_B1HW)
    luminances = luminance(fused_B3HW), luminance(visible_B3HW), infrared_B1HW
    dull = fused_B3HW.new_zeros(len(fused_B3HW), dtype=torch.bool) if dull_B is None else dull_B
    images = _Images(*luminances, fused_B3HW, visible_B3HW, dull)
    return {name: _TERMS[name](images) for name in WEIGHT_OF if name in names}


def terms_with_weight(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the terms whose weight, scalar or (B,), is not zero for the whole batch."""
    return [name for name, weight in WEIGHT_OF.items() if bool((weights[weight] != 0).any())]


def weights_of_dull(
    weights: Mapping[str, Tensor], factors: TermWeights, dull_B: Tensor
) -> dict[str, Tensor]:
    """Return the weights, each (B,), times their factors where a sample is dull.

    Args:
        weights: the fields of `TermWeights`, each (B,) or a scalar tensor.
        factors: see `LossConfig.dull`.
        dull_B: bool; which samples are dimmed or softened.
    """
    factor = factors.as_dict()
    return {
        name: torch.where(dull_B, weight * factor[name], weight) for name, weight in weights.items()
    }


def weighted_total(terms: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return the fusion loss (B,), equation (12).

    Args:
        terms: what `fusion_terms` returned.
        weights: the fields of `TermWeights`, each (B,) or a scalar tensor.

    Raises:
        ValueError: a weight is missing, or there is no term.
    """
    if not terms:
        raise ValueError("every term of the loss is switched off; see loss.scale")
    missing = sorted({WEIGHT_OF[name] for name in terms} - set(weights))
    if missing:
        raise ValueError(f"no weight for {', '.join(missing)}; given: {', '.join(sorted(weights))}")
    return torch.stack([terms[name] * weights[WEIGHT_OF[name]] for name in terms]).sum(dim=0)


def intensity_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """L1 to the brighter source at each pixel, equation (13); (B, 1, H, W) each, returns (B,)."""
    return _mean_distance(fused, torch.maximum(visible, infrared))


def consistency_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Mean of the L1 distances to both sources; (B, 1, H, W) each, returns (B,).

    Not in the paper; the authors' published training uses it.
    """
    return 0.5 * (_mean_distance(fused, visible) + _mean_distance(fused, infrared))


def gradient_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """L1 of the Sobel magnitude to the stronger source's, equation (15); returns (B,)."""
    strongest = torch.maximum(gradient_magnitude(visible), gradient_magnitude(infrared))
    return _mean_distance(gradient_magnitude(fused), strongest)


def ssim_loss(fused: Tensor, source: Tensor) -> Tensor:
    """1 - SSIM, one part of equation (14); (B, 1, H, W) each, returns (B,) in [0, 2]."""
    return 1.0 - ssim_map(fused, source).mean(dim=(1, 2, 3))


def color_loss(fused_B3HW: Tensor, visible_B3HW: Tensor) -> Tensor:
    """L1 between the chrominance planes of both, equation (16), mean of Cb and Cr; returns (B,)."""
    return _mean_distance(rgb_to_ycbcr(fused_B3HW)[:, 1:], rgb_to_ycbcr(visible_B3HW)[:, 1:])


def information_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """1 - VIF / 2; (B, H, W) in [0, 255] each, returns (B,).

    Below zero where the result has more contrast than its sources.
    """
    return 1.0 - vif(fused, visible, infrared) / 2.0


def edge_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """1 - Qabf without the frame of the image; (B, H, W) in [0, 255] each, returns (B,).

    A training crop has no edge where it was cut out.
    """
    return 1.0 - qabf(fused, visible, infrared, frame="interior")


def artefact_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Nabf without its jump; (B, H, W) in [0, 255] each, returns (B,)."""
    return nabf(fused, visible, infrared, ramp=_RAMP)


def frequency_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Log of the sharper source's SF over the result's; (B, H, W) in [0, 255], returns (B,).

    SF is that of the images averaged over 2 x 2 pixels, where a checkerboard is gone: of SF itself,
    a network gets more by pixels that alternate than by edges. Below zero where the result is
    sharper than both sources, at least -log(1.25): without a bound it learns to blow up the noise
    of flat scenes, where nothing else holds it back.
    """
    averaged = (F.avg_pool2d(image, 2, stride=1) for image in (fused, visible, infrared))
    return lost_frequency(*averaged, most=fused.new_tensor(_SHARPEST))


def _mean_distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs().mean(dim=(1, 2, 3))


def _check(fused: Tensor, visible: Tensor, infrared: Tensor) -> None:
    shape = fused.shape
    expected = (shape[0], 1, *shape[2:]) if fused.ndim == 4 else ()
    if fused.ndim != 4 or shape[1] != 3 or visible.shape != shape or infrared.shape != expected:
        raise ValueError(
            "expected fused and visible (B, 3, H, W) and infrared (B, 1, H, W), got "
            f"{tuple(shape)}, {tuple(visible.shape)} and {tuple(infrared.shape)}"
        )


_TERMS: dict[str, Callable[[_Images], Tensor]] = {
    "intensity": lambda x: intensity_loss(x.fused, x.visible, x.infrared),
    "consistency": lambda x: consistency_loss(x.fused, x.visible, x.infrared),
    "gradient": lambda x: gradient_loss(x.fused, x.visible, x.infrared),
    "ssim_visible": lambda x: ssim_loss(x.fused, x.visible),
    "ssim_infrared": lambda x: ssim_loss(x.fused, x.infrared),
    "color": lambda x: color_loss(x.fused_rgb, x.visible_rgb),
    "information": lambda x: information_loss(*x.gray_levels()),
    "edges": lambda x: edge_loss(*x.gray_levels()),
    "artefacts": lambda x: artefact_loss(*x.gray_levels()),
    "frequency": lambda x: frequency_loss(*x.gray_levels()),
    "sharpness": lambda x: sharpness_loss(*x.gray_levels(), x.dull),
    "alternation": lambda x: alternation_loss(*x.gray_levels()),
    "grain": lambda x: grain_loss(*x.gray_levels()),
}
