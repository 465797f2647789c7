"""Writes the teacher's outputs that a distillation will read, one shard after the other.

Everything here runs in the processes of one group; `on_ray.py` has the same `ShardWriter` in many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.machine import keep_freed_memory
from dtpf.core.records import Pair, pairs_from_table
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.training.config import TrainSpec, required_teacher_bundle
from dtpf.training.feed import TrainingFeed
from dtpf.training.group import Group
from dtpf.training.refinement import refined
from dtpf.training.tasks import run_teacher
from dtpf.training.teacher_outputs.shards import (
    SHARD_CROPS,
    OutputShards,
    bytes_per_crop,
    shards_needed,
    shards_of,
)

OnCrops = Callable[[int, int], None]  # crops finished, crops in all


@dataclass(frozen=True)
class OutputsReport:
    """What the store has for a distillation: where, for how many crops, and how large that is.

    `written` counts the crops of this call; the others were found.
    """

    prefix: str
    crops: int
    written: int
    bytes: int


@dataclass(frozen=True)
class Work:
    """The shards of a spec, and the numbers of those still to be written."""

    shards: OutputShards
    pending: tuple[int, ...]
    report: OutputsReport

    @classmethod
    def of(cls, spec: TrainSpec) -> "Work":
        """Return what is to be done for a student's spec; its report is that of the end.

        Raises:
            UserError: the spec names no teacher, or its bundle or index cannot be read.
        """
        store = Store(spec.store)
        shards = shards_of(spec, store, _training_pairs(spec, store))
        pending = tuple(shards.pending(spec.train))
        crops = len(shards_needed(spec.train)) * SHARD_CROPS
        size = crops * bytes_per_crop(shards.network, spec.train.crop)
        report = OutputsReport(shards.prefix, crops, len(pending) * SHARD_CROPS, size)
        return cls(shards, pending, report)

    def progress(self, on_crops: OnCrops) -> Callable[[], None]:
        """Return what is to be called after each shard that was written."""
        done = self.report.crops - self.report.written

        def advance() -> None:
            nonlocal done
            done += SHARD_CROPS
            on_crops(done, self.report.crops)

        return advance


class ShardWriter:
    """Holds teacher and data, and writes any shard of a student's spec.

    Values are those that `DistillTask` would compute: same crops, texts and precision; the fused
    image is refined, if the spec says so. Lets this process keep the memory that it frees.

    Raises:
        UserError: the teacher's bundle, the index or the texts cannot be read.
    """

    def __init__(self, spec: TrainSpec, device: torch.device) -> None:
        keep_freed_memory()
        store = Store(spec.store)
        pairs = _training_pairs(spec, store)
        self._shards = shards_of(spec, store, pairs)
        texts = read_texts(store, spec.captions, spec.embeddings)
        dataset = PairDataset(pairs, spec.infrared_scaling)
        self._feed = TrainingFeed(pairs, dataset, texts, spec.loss)
        # Step k of this config has the crops of shard k.
        self._train = spec.train.model_copy(update={"batch": SHARD_CROPS, "fixed_crops": None})
        self._teacher = load_bundle(store.uri_of(required_teacher_bundle(spec))).model.to(device)
        self._device = device
        self._distill = spec.distill

    def write(self, shard: int) -> None:
        """Run the teacher on the crops of one shard and write what it returns."""
        batch = self._feed.batch(shard, self._train).to(self._device)
        reduced = self._train.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=reduced):
            fused, *features = run_teacher(self._teacher, batch, self._distill.teacher_sees)
        if self._distill.refine:
            fused = refined(fused, batch, self._distill.refine)
        self._shards.write(shard, (fused, *features))


def write_teacher_outputs(
    spec: TrainSpec, group: Group, on_crops: OnCrops = lambda done, total: None
) -> OutputsReport:
    """Write the teacher's outputs for a student's crops, those that the store lacks.

    Every process of the group calls it, writes its share, and returns when all are done.

    Args:
        spec: of the student, with `teacher_outputs=stored`.
        group: the processes that work together.
        on_crops: called after each shard of this process.

    Raises:
        UserError: the teacher's bundle, the index or the texts cannot be read, or the store
            cannot be written.
    """
    work = Work.of(spec)
    # By number: what is pending may look different to a process that asks a little later.
    mine = [shard for shard in work.pending if shard % group.world == group.rank]
    if mine:
        writer, advance = ShardWriter(spec, group.device), work.progress(on_crops)
        for shard in mine:
            writer.write(shard)
            advance()
    group.sum(torch.zeros(1, device=group.device))  # wait for the others
    return work.report


def _training_pairs(spec: TrainSpec, store: Store) -> Sequence[Pair]:
    pairs = pairs_from_table(store.read_table(spec.pairs))
    return [pair for pair in pairs if pair.split == "train"]
