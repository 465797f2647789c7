"""Pairs to questions: read, decode, check, scale down; a pair that cannot be asked never is.

A pair whose row is known before (unreadable, taken over, kept in a draft) travels with that row
and passes the engine by.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dtpf.caption.captioner import maker_of
from dtpf.caption.config import VlmConfig
from dtpf.caption.known import KnownCaptions
from dtpf.caption.reading import UnusablePair, read_images
from dtpf.caption.shards import CaptionTask, Shard
from dtpf.caption.vlm.answers import answer_schema
from dtpf.caption.vlm.drafts import Drafts
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, unit_to_dtype
from dtpf.core.records import MODALITIES, Caption, Pair
from dtpf.core.storage.patience import STORAGE_PATIENCE

GRID = 28  # pixels a side that Qwen2-VL makes one token of

# Marks a row as failed before the engine: Ray's stages let such rows pass untouched.
PASS_BY = "__inference_error__"

Row = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is asked of every pair.

    Attributes:
        prompt: text with the places of the images, as the model reads it.
        images: modalities of the images, in the order of these places.
        sampling: of the answer.
    """

    prompt: str
    images: tuple[str, ...]
    sampling: dict[str, Any]


def sampling_params(config: VlmConfig, temperature: float) -> dict[str, Any]:
    """Return how vLLM answers; `temperature` is 0 but for second tries."""
    return {
        "max_tokens": config.max_tokens,
        "temperature": temperature,
        "seed": 0,
        "structured_outputs": {"json": answer_schema()},
    }


class QuestionMaker:
    """Turns shards into rows for the engine, `batch_size` at a time.

    A row has shard, rows (of the shard), place and pair_id; `ready`, its finished row as JSON where
    it needs no answer; `fatal`, what ends the whole run; and what the engine takes: prompt,
    multimodal_data, sampling_params. All rows have all keys: of those that some rows lack, Ray
    Data makes None for the others.
    """

    def __init__(self, task: CaptionTask, request: Request) -> None:
        self._task = task
        self._request = request
        self._known = KnownCaptions(task)
        self._drafts = Drafts(task)
        self._maker = maker_of(task.config)

    def __call__(self, shard: Shard) -> Iterator[list[Row]]:
        """Yield the rows of a shard; of a storage that is not usable, one that says so."""
        try:
            yield from self._questions(shard)
        except UserError as error:
            yield [_passing(shard, fatal=str(error))]

    def _questions(self, shard: Shard) -> Iterator[list[Row]]:
        pairs = self._task.pairs_of(shard)
        known = self._known.find(pairs) | self._drafts.read(shard)
        size = self._task.config.vlm.engine.batch_size
        for start in range(0, len(pairs), size):
            some = enumerate(pairs[start : start + size], start)
            yield [self._row(shard, place, pair, known.get(pair.pair_id)) for place, pair in some]

    def _row(self, shard: Shard, place: int, pair: Pair, known: Caption | None) -> Row:
        config = self._task.config
        if known is None:
            try:
                images = read_images(pair, config.infrared_scaling, STORAGE_PATIENCE)
            except UnusablePair as error:
                known = self._maker.failed(pair.pair_id, str(error))
        if known is not None:
            ready = json.dumps(known.as_row())
            return _passing(shard, place=place, pair_id=pair.pair_id, ready=ready)
        scaled = dict(
            zip(MODALITIES, (scale(i, config.vlm.image_pixels) for i in images), strict=True)
        )
        return {
            **_passing(shard, place=place, pair_id=pair.pair_id),
            "prompt": self._request.prompt,
            "multimodal_data": {"image": [scaled[name] for name in self._request.images]},
            "sampling_params": dict(self._request.sampling),
            PASS_BY: "",
        }


def _passing(shard: Shard, **values: Any) -> Row:
    """Return a row that the engine does not see."""
    names = ("place", "pair_id", "ready", "fatal", "prompt", "multimodal_data", "sampling_params")
    row = {"shard": shard.number, "rows": len(shard), PASS_BY: "no question"}
    return {**row, **dict.fromkeys(names), **values}


def scale(image: FloatImage, most_pixels: int) -> Image.Image:
    """Return an image (H, W[, 3]) in [0, 1] as one in RGB of at most so many pixels.

    Both sides become multiples of GRID, at least two of them, with about the same aspect; of a
    very long image the aspect gives way.
    """
    height, width = image.shape[:2]
    factor = min(1.0, (most_pixels / (height * width)) ** 0.5)
    most = most_pixels // (2 * GRID * GRID)  # of the longer side, in steps of the grid
    sides = [min(max(2, int(side * factor) // GRID), most) * GRID for side in (width, height)]
    pixels = Image.fromarray(unit_to_dtype(image, np.dtype(np.uint8)))
    return pixels.resize((sides[0], sides[1]), Image.Resampling.BICUBIC).convert("RGB")


class Finishing:
    """Turns what left the engine, or passed it by, into a row of the same few columns.

    Args:
        column: holds everything that Ray's stages know of a row.
    """

    def __init__(self, column: str) -> None:
        self._column = column

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return shard, rows, place, pair_id, ready, fatal, text, tokens and error."""
        data = row[self._column]
        passed_by = data["ready"] or data["fatal"]
        return {
            **{name: data[name] for name in ("shard", "rows", "place", "pair_id")},
            **{name: data[name] or "" for name in ("ready", "fatal")},
            "text": data.get("generated_text") or "",
            "tokens": int(data.get("num_generated_tokens") or 0),
            "error": "" if passed_by else data.get(PASS_BY) or "",
        }
