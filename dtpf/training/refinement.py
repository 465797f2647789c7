"""A second teacher, which needs no training: its pictures are optimised, one by one.

What the fusion loss asks for is easier to find for one picture than to learn for all. A student
that is pulled towards such pictures sees where there is room. They are no better than the loss: it
has to bound artefacts, as `crisp` does, and someone has to look at them.
Legend: B = batch, H, W = height and width; lists run from the finest level to the coarsest.
"""

import math

import torch
from torch import Tensor

from dtpf.core.losses import weighted_total
from dtpf.core.ops.color import luminance, recolour
from dtpf.core.ops.pyramid import Bands, collapse, laplacian_bands
from dtpf.training.tasks import TrainBatch, terms_of

_LEARNING_RATE = 0.03  # of gains, where 1 is a whole band of a source


def refined(fused_B3HW: Tensor, batch: TrainBatch, steps: int) -> Tensor:
    """Return pictures with a lower fusion loss, in the same colours; never a higher one.

    What is optimised, by Adam, are gains of the sources' Laplacian bands, which are added to the
    picture: what a network that mixes bands could say (`dtpf.core.models.bands`), and edges keep
    their shape.

    Args:
        fused_B3HW: where to begin, in [0, 1]; a teacher's result.
        batch: its crops, whose guides and weights the loss takes.
        steps: of the optimiser; 0 returns the picture as it is.
    """
    start, gray = fused_B3HW.float(), luminance(fused_B3HW.float())
    sources = [
        laplacian_bands(image.float())
        for image in (luminance(batch.visible_guide_B3HW), batch.infrared_guide_B1HW)
    ]
    best, least = start, _losses(start, batch)
    with torch.enable_grad(), torch.autocast(start.device.type, enabled=False):
        gains = [torch.zeros_like(band).repeat(1, 2, 1, 1) for band in sources[0].details]
        optimiser = torch.optim.Adam([gain.requires_grad_() for gain in gains])
        for step in range(steps):
            _set_rate(optimiser, step / steps)
            optimiser.zero_grad()
            image = recolour(gray + _added(gains, *sources), start)
            losses = _losses(image, batch)
            losses.sum().backward()
            optimiser.step()
            best, least = _better(best, least, image.detach(), losses.detach())
        image = recolour(gray + _added(gains, *sources), start).detach()
    return _better(best, least, image, _losses(image, batch))[0] if steps else start


def _added(gains: list[Tensor], seen: Bands, heat: Bands) -> Tensor:
    """Return what the gains add to the luminance, (B, 1, H, W)."""
    details = tuple(
        gain[:, :1] * first + gain[:, 1:] * second
        for gain, first, second in zip(gains, seen.details, heat.details, strict=True)
    )
    return collapse(Bands(details, torch.zeros_like(seen.base)))


def _losses(image: Tensor, batch: TrainBatch) -> Tensor:
    return weighted_total(terms_of(image, batch, batch.weights), batch.weights)


def _better(best: Tensor, least: Tensor, image: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Return, sample by sample, the pictures (B, 3, H, W) and losses (B,) of the lower loss."""
    wins = losses < least
    return torch.where(wins[:, None, None, None], image, best), torch.where(wins, losses, least)


def _set_rate(optimiser: torch.optim.Optimizer, done: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
