"""A student that is its teacher with a restoration in front.

Legend: B = batch.
"""

import copy

from torch import Tensor, nn

from dtpf.core.losses import judgement_loss, restoration_loss, tone_loss
from dtpf.core.models import FusionNet, ModelConfig
from dtpf.core.models.restoration import Restorer
from dtpf.data.dataset import PairDataset
from dtpf.training.exposure import fit_exposure
from dtpf.training.group import Group
from dtpf.training.tasks import Task, TrainBatch

_TOLERANCE = 1e-4  # mean squared distance, of [0, 1]
_TOLERANCE_OF_TONE = 1e-3  # clean scenes may look a little as if there were haze


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
        self.trainable = self.network.restorer

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
        """Return the loss (B,): what is left of the degradations, and how well they are seen."""
        given = batch.visible_B3HW, batch.infrared_B1HW
        clean = batch.visible_guide_B3HW, batch.infrared_guide_B1HW
        seen, heat, logits, lit = (part.float() for part in trainable(*given))
        tone = tone_loss(lit, given[0], clean[0], _TOLERANCE_OF_TONE)
        left = restoration_loss((seen, heat), given, clean, _TOLERANCE)
        to_judge = lit.detach(), given[1]
        judged = judgement_loss(logits, to_judge, clean, _TOLERANCE)
        return left + judged + tone, {"restoration": left, "judgement": judged, "tone": tone}
