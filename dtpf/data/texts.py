"""Captions and text embeddings of a data set, read from the store."""

import numpy as np
from numpy.typing import NDArray

from dtpf.core.errors import UserError
from dtpf.core.records import TEXT_DIM, Caption
from dtpf.core.storage.store import Store

Texts = dict[str, tuple[Caption, NDArray[np.float32]]]


def read_texts(store: Store, captions_prefix: str, embeddings_prefix: str) -> Texts:
    """Return caption and embedding (512,) of every pair, by pair_id.

    Raises:
        UserError: a pair occurs twice, or has a caption and no embedding (or the reverse).
    """
    captions = [Caption.from_row(row) for row in store.read_table(captions_prefix).to_pylist()]
    table = store.read_table(embeddings_prefix)
    flat = table.column("embedding").combine_chunks().flatten().to_numpy()
    vectors = flat.reshape(-1, TEXT_DIM).astype(np.float32)
    embeddings = dict(zip(table.column("pair_id").to_pylist(), vectors, strict=True))
    named = {caption.pair_id: caption for caption in captions}
    where = store.uri_of(captions_prefix)
    if len(named) < len(captions) or len(embeddings) < table.num_rows:
        raise UserError(f"{where}: a pair is captioned twice; redo it with --force caption")
    if set(named) != set(embeddings):
        one_sided = sorted(set(named) ^ set(embeddings))[0]
        raise UserError(
            f"{where}: {one_sided} lacks a caption or an embedding; redo it with --force caption"
        )
    return {pair_id: (caption, embeddings[pair_id]) for pair_id, caption in named.items()}
