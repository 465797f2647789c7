"""Pairs to questions: read, decode, check, scale down; a pair that cannot be asked never is.

A pair whose row is known before (unreadable, taken over, kept in a draft) travels with that row
and passes the engine by.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from dtpf.caption.captioner import maker_of
from dtpf.caption.config import VlmConfig
from dtpf.caption.known import KnownCaptions
from dtpf.caption.reading import UnusablePair, read_images
from dtpf.caption.shards import CaptionTask, Shard
from dtpf.caption.vlm.answers import answer_schema
from dtpf.caption.vlm.drafts import Drafts
from dtpf.caption.vlm.prompts import as_messages, read_prompt
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, unit_to_dtype
from dtpf.core.records import MODALITIES, Caption, Pair
from dtpf.core.storage.patience import STORAGE_PATIENCE
from dtpf.data.images import encode_png

GRID = 28  # pixels a side that Qwen2-VL makes one token of

# One row a pair; `ready` is its finished row as JSON, `fatal` what ends the whole run.
QUESTION_SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ("shard", "rows", "place")]
    + [(name, pa.string()) for name in ("pair_id", "ready", "fatal")]
    + [(name, pa.binary()) for name in MODALITIES]
)
# Marks a row as failed before the engine: Ray's stages let such rows pass untouched.
PASS_BY = "__inference_error__"


class QuestionMaker:
    """Actor: turns shards into tables of questions of `batch_size` rows each."""

    def __init__(self, task: CaptionTask) -> None:
        self._task = task
        self._known = KnownCaptions(task)
        self._drafts = Drafts(task)
        self._maker = maker_of(task.config)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield the questions of the shards of a table, a few at a time."""
        for row in batch.to_pylist():
            shard = Shard(**row)
            try:
                yield from self.questions(shard)
            except UserError as error:
                fatal = {"shard": shard.number, "rows": len(shard), "fatal": str(error)}
                yield pa.Table.from_pylist([fatal], schema=QUESTION_SCHEMA)

    def questions(self, shard: Shard) -> Iterator[pa.Table]:
        """Yield the questions of one shard in QUESTION_SCHEMA.

        Raises:
            UserError: the storage is not usable.
        """
        pairs = self._task.pairs_of(shard)
        known = self._known.find(pairs) | self._drafts.read(shard)
        size = self._task.config.vlm.engine.batch_size
        for start in range(0, len(pairs), size):
            rows = [
                {"shard": shard.number, "rows": len(pairs), "place": start + place}
                | self._question(pair, known.get(pair.pair_id))
                for place, pair in enumerate(pairs[start : start + size])
            ]
            yield pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)

    def _question(self, pair: Pair, known: Caption | None) -> dict[str, Any]:
        config = self._task.config
        if known is None:
            try:
                images = read_images(pair, config.infrared_scaling, STORAGE_PATIENCE)
            except UnusablePair as error:
                known = self._maker.failed(pair.pair_id, str(error))
        if known is not None:
            return {"pair_id": pair.pair_id, "ready": json.dumps(known.as_row())}
        scaled = (as_png(image, config.vlm.image_pixels) for image in images)
        return {"pair_id": pair.pair_id, **dict(zip(MODALITIES, scaled, strict=True))}


class Asking:
    """Turns a question row into a request; `temperature` is 0 but for second tries."""

    def __init__(self, config: VlmConfig, prompt_version: str, temperature: float) -> None:
        self._prompt = read_prompt(config.prompt, prompt_version)
        self._sampling = {
            "max_tokens": config.max_tokens,
            "temperature": temperature,
            "seed": 0,
            "structured_outputs": {"json": answer_schema()},
        }

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what is added to the row: messages and sampling parameters, or the mark."""
        if row["ready"] or row["fatal"]:
            return {"messages": None, "sampling_params": None, PASS_BY: "no question"}
        images = {name: _data_url(row[name]) for name in MODALITIES}
        return {
            "messages": as_messages(self._prompt, images),
            "sampling_params": self._sampling,
            # Stated, since a missing one becomes None beside marked rows, which counts as a mark.
            PASS_BY: "",
            **dict.fromkeys(MODALITIES),  # the pixels travel once, not twice
        }


def as_png(image: FloatImage, most_pixels: int) -> bytes:
    """Return an image (H, W[, 3]) in [0, 1] as PNG of at most so many pixels.

    Both sides become multiples of GRID, at least two of them, with about the same aspect; of a
    very long image the aspect gives way.
    """
    height, width = image.shape[:2]
    scale = min(1.0, (most_pixels / (height * width)) ** 0.5)
    most = most_pixels // (2 * GRID * GRID)  # of the longer side, in steps of the grid
    sides = [min(max(2, int(side * scale) // GRID), most) * GRID for side in (width, height)]
    pixels = Image.fromarray(unit_to_dtype(image, np.dtype(np.uint8)))
    return encode_png(np.asarray(pixels.resize((sides[0], sides[1]), Image.Resampling.BICUBIC)))


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


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
