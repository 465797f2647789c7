"""A student that is its teacher with a restoration in front.

Legend: B = batch.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.losses import fusion_terms, judgement_loss, restoration_loss, tone_loss
from dtpf.core.models import FusionNet, ModelConfig
from dtpf.core.models.restoration import Cleaned, Pair, Restorer, applied
from dtpf.core.ops.padding import reflect_pad_to_multiple
from dtpf.data.dataset import PairDataset
from dtpf.training.exposure import fit_exposure
from dtpf.training.group import Group
from dtpf.training.tasks import Task, TrainBatch

_TOLERANCE = 1e-4  # mean squared distance, of [0, 1]
_TOLERANCE_OF_TONE = 1e-3  # clean scenes may look a little as if there were haze
_FUSED_OF = 8  # one of so many samples is fused: that takes longer than to restore them all
_MODEST = 1e-3  # weight of the squared trust: without need, both images count as they are
_LEAST = 0.3  # of a score that shares are taken of: flat crops have next to none


class RestorationTask(Task):
    """Train what cleans a pair before it is fused, in front of a network that stays as it is.

    Metrics of the fused picture tell little of noise, and the clean pair tells all; and what the
    network makes of clean pairs, it goes on making.

    Raises:
        ValueError: but for the restoration, `model` is not the shape of the trained network.
    """

    trainable: Restorer

    def __init__(self, model: ModelConfig, trained: FusionNet) -> None:
        super().__init__()
        self.network = FusionNet(model)
        theirs = trained.config.model_copy(update={"restoration": model.restoration})
        if self.network.restorer is None or theirs != model:
            raise ValueError("restoration needs the trained network's shape, and a restorer")
        self.network.load_state_dict(trained.state_dict(), strict=False)
        self.network.requires_grad_(False)  # it is fused by, for `trust` alone
        self.trainable = self.network.restorer.requires_grad_(True)

    def prepare(self, pairs: PairDataset, seed: int, group: Group) -> None:
        """Fit what tells over-exposed scenes."""
        exposure = self.trainable.exposure
        if group.leads:
            fit_exposure(exposure, pairs, seed)
        exposure.load_state_dict(group.broadcast(exposure.state_dict()))

    def network_in(self, trainable: nn.Module) -> FusionNet:
        """Return the network with that restorer."""
        network = copy.deepcopy(self.network)
        assert isinstance(trainable, Restorer)
        network.restorer = trainable
        return network

    def forward(self, batch: TrainBatch, trainable: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (B,): what is left of the degradations, and how well they are seen.

        And what a few of the fused pictures lack; see `_lost`.
        """
        given = batch.visible_B3HW, batch.infrared_B1HW
        clean = batch.visible_guide_B3HW, batch.infrared_guide_B1HW
        cleaned = Cleaned(*(part.float() for part in trainable(*given)))
        tone = tone_loss(cleaned.lit, given[0], clean[0], _TOLERANCE_OF_TONE)
        left = restoration_loss((cleaned.visible, cleaned.infrared), given, clean, _TOLERANCE)
        to_judge = cleaned.lit.detach(), given[1]
        judged = judgement_loss(cleaned.degraded, to_judge, clean, _TOLERANCE)
        modest = _MODEST * cleaned.trust.square().mean(dim=(1, 2, 3))
        lost = self._lost(batch, cleaned) + modest
        terms = {"restoration": left, "judgement": judged, "tone": tone, "lost": lost}
        return left + judged + tone + lost, terms

    def _lost(self, batch: TrainBatch, cleaned: Cleaned) -> Tensor:
        """Return the share of the clean picture's scores (B,) that the first samples' lack.

        0 for the other samples; weighed so that the mean over the batch is that over the first.
        Trust alone learns by it: what cleans learns from the clean pair, and the network stays as
        it is.
        """
        few = slice(0, -(-len(batch) // _FUSED_OF))
        part = batch.part(few)
        guides = part.visible_guide_B3HW, part.infrared_guide_B1HW
        seen = Cleaned(*(value[few] for value in cleaned))
        pair = applied(seen._replace(degraded=seen.degraded.detach()), part.infrared_B1HW)
        found = _scores(self._fused(pair), *guides)
        with torch.no_grad():
            best = _scores(self._fused(Pair(*guides, torch.zeros_like(pair.trust))), *guides)
        lost = 1 - (found / best.clamp(min=_LEAST)).mean(dim=0)
        return F.pad(lost * (len(batch) / len(part)), (0, len(batch) - len(part)))

    def _fused(self, pair: Pair) -> Tensor:
        height, width = pair.infrared.shape[2:]
        given = pair.visible.detach(), pair.infrared.detach(), pair.trust
        stride = self.network.config.stride
        visible, infrared, trust = (reflect_pad_to_multiple(image, stride) for image in given)
        fused, _ = self.network.fuse_clean(visible, infrared, None, trust)
        return fused[..., :height, :width].float()


def _scores(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Return VIF, Qabf and SSIM (3, B), the metrics of retention, of the losses that lack them."""
    names = "information", "edges", "ssim_visible", "ssim_infrared"
    lacks = fusion_terms(fused, visible, infrared, names)
    information, edges, *structures = (1 - lacks[name] for name in names)
    return torch.stack((2 * information, edges, structures[0] + structures[1]))
