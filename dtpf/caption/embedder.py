"""Captions to rows of the embeddings table, each text encoded once."""

from collections import OrderedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dtpf.caption.config import CaptionConfig
from dtpf.caption.encoders import TextEncoder, build_encoder
from dtpf.core.records import EMBEDDING_SCHEMA

ROOM = 16_384  # vectors that are kept: 32 MB


class Embedder:
    """Encodes the captions of shards; texts that come again, as they often do, come from memory.

    Raises:
        UserError: the encoder cannot be loaded.
    """

    def __init__(
        self, config: CaptionConfig, encoder: TextEncoder | None = None, room: int = ROOM
    ) -> None:
        self._encoder = encoder or build_encoder(config)
        self._room = room
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def table(self, captions: pa.Table) -> pa.Table:
        """Return the embeddings of a table of captions in EMBEDDING_SCHEMA, in its order."""
        texts = captions["caption"].to_pylist()
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors.update(zip(new, self._encoder.encode(new), strict=True))
        vectors = [self._vectors[text] for text in texts]
        while len(self._vectors) > self._room:
            self._vectors.popitem(last=False)
        return pa.table(
            [captions["pair_id"], vectors, [self._encoder.id] * len(texts)],
            schema=EMBEDDING_SCHEMA,
        )
