import numpy as np
import pytest

from dtpf.caption.config import CaptionConfig
from dtpf.caption.embedder import Embedder
from dtpf.caption.encoders import HashedEncoder
from dtpf.caption.shards import captions_table
from dtpf.core.records import EMBEDDING_SCHEMA, Caption


class CountingEncoder(HashedEncoder):
    """Remembers which texts it was given, call by call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        return super().encode(texts)

    @property
    def texts(self):
        return [text for call in self.calls for text in call]


@pytest.fixture
def encoder():
    return CountingEncoder()


def captions(*texts):
    rows = [Caption(f"pair{n}", text, (), "someone", "1", "1") for n, text in enumerate(texts)]
    return captions_table(rows)


def test_rows_have_the_contract_schema_and_the_order_of_the_captions():
    table = Embedder(CaptionConfig()).table(captions("noise", "stripes", "noise"))
    assert table.schema == EMBEDDING_SCHEMA
    assert table["pair_id"].to_pylist() == ["pair0", "pair1", "pair2"]
    assert set(table["encoder"].to_pylist()) == {"hashed-512"}
    expected = HashedEncoder().encode(["noise", "stripes", "noise"])
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), expected)


def test_no_captions_are_an_empty_table(encoder):
    table = Embedder(CaptionConfig(), encoder).table(captions())
    assert (table.schema, table.num_rows) == (EMBEDDING_SCHEMA, 0)


def test_each_text_is_encoded_once_however_many_tables_it_is_in(encoder):
    embedder = Embedder(CaptionConfig(), encoder)
    first = embedder.table(captions("noise", "stripes", "noise"))
    second = embedder.table(captions("blur", "noise", "stripes"))
    assert encoder.texts == ["noise", "stripes", "blur"]
    assert second["embedding"][1] == first["embedding"][0]


def test_the_new_texts_of_a_table_are_encoded_together(encoder):
    Embedder(CaptionConfig(), encoder).table(captions("noise", "stripes", "blur"))
    assert encoder.calls == [["noise", "stripes", "blur"]]


def test_no_more_vectors_are_kept_than_there_is_room_for(encoder):
    embedder = Embedder(CaptionConfig(), encoder, room=2)
    texts = ["noise", "stripes", "blur"]
    table = embedder.table(captions(*texts))  # more than are kept, and right all the same
    expected = HashedEncoder().encode(texts)
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), expected)
    encoder.calls.clear()
    embedder.table(captions("stripes", "blur"))
    assert encoder.texts == []
    embedder.table(captions("noise"))
    assert encoder.texts == ["noise"]
