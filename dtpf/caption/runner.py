"""Captions for an index of pairs: read, decode, caption, encode, publish, one shard at a time.

Everything here runs in one process; `on_ray.py` runs the same `caption_shard` on many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dtpf.caption.captioner import Captioner, build_captioner
from dtpf.caption.config import CaptionConfig
from dtpf.caption.encoders import TextEncoder, build_encoder
from dtpf.caption.shards import CaptionTarget, Shard, plan_shards
from dtpf.caption.text import NEUTRAL_CAPTION
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import Scaling
from dtpf.core.records import CAPTION_SCHEMA, EMBEDDING_SCHEMA, Caption, Pair
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_infrared, decode_visible

Progress = Callable[[int, int], None]  # pairs finished, pairs in all

# Reading errors that concern one file; any other means that the storage does not answer, and
# rows written then would call readable pairs unreadable for ever.
_ABOUT_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class CaptionReport:
    """Counts of pairs: captioned now, found in the store, and of those captioned the unreadable."""

    done: int
    skipped: int
    failed: int


def caption_rows(
    pairs: Sequence[Pair], captioner: Captioner, encoder: TextEncoder, scaling: Scaling
) -> tuple[pa.Table, pa.Table]:
    """Caption and encode pairs.

    A pair that cannot be read gets the status `unreadable: <why>`, no degradations, and the
    neutral caption with its embedding; the other rows are not affected.

    Returns:
        Tables in CAPTION_SCHEMA and EMBEDDING_SCHEMA, in the order of `pairs`.

    Raises:
        UserError: the storage does not answer; nothing is wrong with a single pair then.
    """
    captions = [_caption(pair, captioner, scaling) for pair in pairs]
    texts = list(dict.fromkeys(caption.caption for caption in captions))  # each encoded once
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    embeddings = [
        {
            "pair_id": caption.pair_id,
            "embedding": vectors[caption.caption],
            "encoder": encoder.id,
        }
        for caption in captions
    ]
    return (
        pa.Table.from_pylist([caption.as_row() for caption in captions], schema=CAPTION_SCHEMA),
        pa.Table.from_pylist(embeddings, schema=EMBEDDING_SCHEMA),
    )


def caption_shard(
    shard: Shard,
    captioner: Captioner,
    encoder: TextEncoder,
    scaling: Scaling,
    target: CaptionTarget,
) -> int:
    """Caption one shard, publish it, and return how many of its pairs were unreadable."""
    captions, embeddings = caption_rows(shard.pairs, captioner, encoder, scaling)
    target.publish(shard.number, captions, embeddings)
    return sum(status != "ok" for status in captions["status"].to_pylist())


def caption_pairs(
    pairs: Sequence[Pair],
    config: CaptionConfig,
    store: Store,
    captions_prefix: str,
    embeddings_prefix: str,
    progress: Progress | None = None,
) -> CaptionReport:
    """Caption all pairs in this process, skipping the shards that are in the store.

    Raises:
        UserError: a `pair_id` occurs twice, or the storage or the encoder is not usable.
    """
    target = CaptionTarget(store, captions_prefix, embeddings_prefix)
    pending = target.pending(plan_shards(pairs, config.shard_rows))
    skipped = len(pairs) - sum(len(shard.pairs) for shard in pending)
    done = failed = 0
    if pending:
        captioner, encoder = build_captioner(config), build_encoder(config)
    for shard in pending:
        failed += caption_shard(shard, captioner, encoder, config.infrared_scaling, target)
        done += len(shard.pairs)
        if progress:
            progress(skipped + done, len(pairs))
    return CaptionReport(done, skipped, failed)


def _caption(pair: Pair, captioner: Captioner, scaling: Scaling) -> Caption:
    try:
        visible_data, infrared_data = read_bytes(pair.visible_uri), read_bytes(pair.infrared_uri)
    except UserError as error:
        if not isinstance(error.__context__, _ABOUT_ONE_FILE):
            raise
        return _unreadable(pair, captioner, error)
    try:
        visible = decode_visible(visible_data, pair.visible_uri)
        infrared = decode_infrared(infrared_data, pair.infrared_uri, scaling=scaling)
        if visible.shape[:2] != infrared.shape:
            raise UserError(f"sizes differ: {visible.shape[:2]} and {infrared.shape}")
        return captioner.caption(pair.pair_id, visible, infrared)
    except ValueError as error:
        return _unreadable(pair, captioner, error)


def _unreadable(pair: Pair, captioner: Captioner, error: ValueError) -> Caption:
    return Caption(
        pair_id=pair.pair_id,
        caption=NEUTRAL_CAPTION,
        degradations=(),
        captioner=captioner.name,
        revision=captioner.revision,
        prompt_version=captioner.prompt_version,
        status=f"unreadable: {error}",
    )
