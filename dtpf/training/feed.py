"""Batches for training: crops of the data set joined with their captions and loss weights.

The next batch is made in a thread while the current one trains; the global step alone decides
what is in a batch, so every number of workers sees the same crops.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from dtpf.core.errors import UserError
from dtpf.core.losses import LossConfig, TermWeights, weights_for, weights_of_dull
from dtpf.core.records import TEXT_DIM, Pair
from dtpf.data.dataset import PairDataset, training_crops
from dtpf.data.texts import Texts
from dtpf.training.config import TrainConfig
from dtpf.training.tasks import TrainBatch

# Positions of crops to what a teacher made of them, as `TrainBatch.teacher_outputs` has it.
ReadOutputs = Callable[[Sequence[int]], tuple[torch.Tensor, ...]]


class TrainingFeed:
    """Makes this worker's share of the batch of any step.

    Raises:
        UserError: no training pairs, a pair without caption, or a wrong embedding width.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        dataset: PairDataset,
        texts: Texts,
        loss: LossConfig,
        teacher_outputs: ReadOutputs = lambda positions: (),
    ) -> None:
        if not pairs:
            raise UserError("the index has no training pairs; add pairs to its train split")
        check_texts(pairs, texts)
        self._dataset = dataset
        self._texts = texts
        self._teacher_outputs = teacher_outputs
        self._dull_factors = loss.dull
        self._weights = {
            pair.pair_id: weights_for(texts[pair.pair_id][0].degradations, loss) for pair in pairs
        }

    def batch(self, step: int, config: TrainConfig, rank: int = 0, world: int = 1) -> TrainBatch:
        """Return the crops of `step` that belong to worker `rank` of `world`."""
        positions = crop_positions(step, config)[rank::world]
        crops = training_crops(self._dataset, positions, **config.cutting)
        weights = _stack([self._weights[pair_id] for pair_id in crops.pair_ids])
        text = np.stack([self._texts[pair_id][1] for pair_id in crops.pair_ids])
        return TrainBatch(
            pair_ids=crops.pair_ids,
            visible_B3HW=crops.visible,
            infrared_B1HW=crops.infrared,
            visible_guide_B3HW=crops.visible_guide,
            infrared_guide_B1HW=crops.infrared_guide,
            dull_B=crops.dull,
            text_BD=torch.from_numpy(text),
            weights=weights_of_dull(weights, self._dull_factors, crops.dull),
            teacher_outputs=self._teacher_outputs(positions),
        )

    def batches(
        self, first: int, config: TrainConfig, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[TrainBatch, float]]:
        """Yield (batch, seconds waited for it) from step `first` to the last."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as pool:
            coming = pool.submit(self.batch, first, config, rank, world)
            for step in range(first, config.steps):
                started = time.perf_counter()
                batch = coming.result()
                waited = time.perf_counter() - started
                if step + 1 < config.steps:
                    coming = pool.submit(self.batch, step + 1, config, rank, world)
                yield batch, waited


def crop_positions(step: int, config: TrainConfig) -> list[int]:
    """Return the positions of a step's crops; with `fixed_crops` they start again at 0."""
    first = step * config.batch
    positions = range(first, first + config.batch)
    if config.fixed_crops is None:
        return list(positions)
    return [position % config.fixed_crops for position in positions]


def check_texts(pairs: Sequence[Pair], texts: Texts) -> None:
    """Refuse pairs without a caption and embeddings of the wrong width."""
    missing = [pair.pair_id for pair in pairs if pair.pair_id not in texts]
    if missing:
        raise UserError(
            f"{len(missing)} pairs have no caption (first: {missing[0]}); run the caption stage"
        )
    widths = {texts[pair.pair_id][1].shape for pair in pairs} - {(TEXT_DIM,)}
    if widths:
        raise UserError(f"embeddings have shape {widths.pop()}, the networks need ({TEXT_DIM},)")


def _stack(rows: Sequence[TermWeights]) -> dict[str, torch.Tensor]:
    plain = [row.as_dict() for row in rows]
    return {name: torch.tensor([row[name] for row in plain]) for name in plain[0]}
