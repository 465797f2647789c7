"""The loss of a trained teacher on validation pairs, for benchmarks of trainings."""

import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.records import pairs_from_table
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.training.config import TrainSpec
from dtpf.training.feed import TrainingFeed
from dtpf.training.tasks import FusionTask


@torch.no_grad()
def held_out_loss(spec: TrainSpec) -> float:
    """Return the mean fusion loss of a finished run over crops of the validation pairs.

    As many crops of each pair as a batch has; the same ones for every network of the same seed.
    """
    store = Store(spec.store)
    pairs = [row for row in pairs_from_table(store.read_table(spec.pairs)) if row.split == "val"]
    texts = read_texts(store, spec.captions, spec.embeddings)
    feed = TrainingFeed(pairs, PairDataset(pairs, spec.infrared_scaling), texts, spec.loss)
    task = FusionTask(spec.model).eval()
    task.network.load_state_dict(
        load_bundle(store.uri_of(f"{spec.root}/bundle")).model.state_dict()
    )
    batches = (feed.batch(step, spec.train) for step in range(len(pairs)))
    return torch.cat([task(batch, task.trainable)[0] for batch in batches]).mean().item()
