"""Fusion metrics on the validation split, shared among the workers."""

import torch
from torch import Tensor

from dtpf.core.fusion import fuse_tensors
from dtpf.core.metrics import RETENTION_METRICS, score
from dtpf.core.models import FusionNet
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import Texts
from dtpf.training.group import Group

_PICTURES = 4  # pairs that are shown


class Validator:
    """Scores a network on whole validation pairs against their guides.

    The metrics are those over which retention is defined (RETENTION_METRICS).
    """

    def __init__(self, dataset: PairDataset, texts: Texts) -> None:
        self._dataset = dataset
        self._texts = texts

    def __len__(self) -> int:
        return len(self._dataset)

    def scores(self, network: FusionNet, group: Group) -> dict[str, float]:
        """Return the mean of each metric over the split; the same numbers in every process."""
        was_training = network.training
        network.eval()
        sums = torch.zeros(len(RETENTION_METRICS), dtype=torch.float64, device=group.device)
        for index in range(group.rank, len(self._dataset), group.world):
            sums += self._score(network, index, group.device)
        network.train(was_training)
        means = group.sum(sums) / max(len(self._dataset), 1)
        return dict(zip(RETENTION_METRICS, means.tolist(), strict=True))

    def pictures(self, network: FusionNet, group: Group) -> dict[str, Tensor]:
        """Return visible, infrared and fused side by side (3, H, 3W) in [0, 1], by pair id."""
        found = {}
        for index in range(min(_PICTURES, len(self._dataset))):
            seen, heat, fused = self._fuse(network, index, group.device)
            row = torch.cat([seen[0], heat[0].expand(3, -1, -1), fused[0]], dim=2)
            found[self._dataset.pairs[index].pair_id] = row.cpu()
        return found

    def _fuse(
        self, network: FusionNet, index: int, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        item = self._dataset[index]
        seen, heat = item.visible[None].to(device), item.infrared[None].to(device)
        text = self._text(item.pair_id, device) if network.config.text else None
        return seen, heat, fuse_tensors(network, seen, heat, text)

    def _score(self, network: FusionNet, index: int, device: torch.device) -> Tensor:
        _, _, fused = self._fuse(network, index, device)
        item = self._dataset[index]
        guides = item.visible_guide[None].to(device), item.infrared_guide[None].to(device)
        found = score(fused, *guides, names=RETENTION_METRICS)
        return torch.stack([found[name].double().squeeze() for name in RETENTION_METRICS])

    def _text(self, pair_id: str, device: torch.device) -> Tensor:
        return torch.from_numpy(self._texts[pair_id][1])[None].to(device)
