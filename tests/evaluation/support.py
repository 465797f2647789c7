"""Small pairs in memory for the tests of the evaluation."""

import torch

from dtpf.core.records import Pair
from dtpf.evaluation.batches import Batch


def make_pair(index, split="test", prefix=""):
    return Pair(f"{prefix}p{index:02d}", split, "v", "i", 48, 64, "uint8", "uint8", "", "")


def load(pair, guides=False, text=True):
    """A street with texture in visible and one hot square in infrared; seeded by the pair's id."""
    generator = torch.Generator().manual_seed(int(pair.pair_id[-2:]))
    visible = torch.rand(1, 3, 48, 64, generator=generator) * 0.4 + 0.2
    infrared = torch.rand(1, 1, 48, 64, generator=generator) * 0.1
    infrared[..., 10:16, 40:46] = 0.95
    clean = (visible * 0.9, infrared * 0.9) if guides else None
    return Batch((pair,), visible, infrared, clean, torch.zeros(1, 512) if text else None)


PAIRS = [make_pair(index) for index in range(5)] + [make_pair(9, split="train")]
