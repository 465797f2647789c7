import builtins
import hashlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import torch

from dtpf.caption.config import CaptionConfig
from dtpf.caption.encoders import HashedEncoder, OpenClipEncoder, build_encoder
from dtpf.core.errors import UserError

TEXTS = ["The visible image has mild noise.", "The visible image is clean.", "low light"]


def assert_unit_rows(vectors, rows):
    assert vectors.shape == (rows, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


class WordTokenizer:
    """One token a word, as long a context as CLIP has."""

    context_length = 77

    def encode(self, text):
        return [hash(word) % 1000 + 1 for word in text.split()]

    def __call__(self, texts):
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = self.encode(text)[: self.context_length]
            row[: len(ids)] = torch.tensor(ids)
        return rows


class BagModel(torch.nn.Module):
    """Sums random word vectors; remembers what it was given."""

    def __init__(self, width=512):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(1001, width, padding_idx=0)
        self.batches = []

    def encode_text(self, ids):
        self.batches.append(ids)
        return self.embedding(ids).sum(1)


def test_hashed_vectors_are_unit_deterministic_and_independent_of_the_batch():
    vectors = HashedEncoder().encode(TEXTS)
    assert_unit_rows(vectors, 3)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_array_equal(HashedEncoder().encode([text])[0], vector)


def test_hashed_vectors_of_similar_texts_are_nearer_than_of_different_ones():
    similar, other, _ = HashedEncoder().encode(
        ["The visible image has mild noise.", "Stripes!", "The visible image has severe noise."]
    )
    third = HashedEncoder().encode(["The visible image has severe noise."])[0]
    assert similar @ third > 0.5 > similar @ other


def test_hashed_encoder_refuses_a_text_without_words():
    with pytest.raises(ValueError, match="without words"):
        HashedEncoder().encode(["noise", " . "])


def test_clip_vectors_are_unit_in_the_order_of_the_texts_whatever_the_batch():
    model = BagModel()
    small = OpenClipEncoder(model, WordTokenizer(), "clip/test", batch_size=2).encode(TEXTS)
    assert [len(batch) for batch in model.batches] == [2, 1]
    whole = OpenClipEncoder(BagModel(), WordTokenizer(), "clip/test").encode(TEXTS)
    assert_unit_rows(whole, 3)
    np.testing.assert_allclose(small, whole, atol=1e-6)


def test_clip_texts_too_long_lose_whole_trailing_sentences():
    model, tokenizer = BagModel(), WordTokenizer()
    first, second, third = (" ".join([word] * 35) + "." for word in "abc")
    OpenClipEncoder(model, tokenizer, "clip/test").encode([f"{first} {second} {third}"])
    torch.testing.assert_close(model.batches[0], tokenizer([f"{first} {second}"]))


def test_clip_sentence_too_long_alone_is_cut_between_words():
    model, tokenizer = BagModel(), WordTokenizer()
    OpenClipEncoder(model, tokenizer, "clip/test").encode(["word " * 100])
    assert int((model.batches[0] != 0).sum()) == 75  # 77 less start and end


def test_clip_model_of_another_width_is_refused():
    with pytest.raises(UserError, match="640 floats"):
        OpenClipEncoder(BagModel(640), WordTokenizer(), "clip/test").encode(["a"])


def test_clip_encodes_no_texts():
    vectors = OpenClipEncoder(BagModel(), WordTokenizer(), "clip/test").encode([])
    assert vectors.shape == (0, 512)


@pytest.fixture
def open_clip_module(monkeypatch):
    """A stand-in for the package: loads `BagModel`, knows one model, has no network."""

    def create_model(name, pretrained, device):
        if pretrained == "openai":
            raise OSError("Name or service not known\nmore lines")
        return BagModel()

    module = types.ModuleType("open_clip")
    module.create_model = create_model
    module.list_models = lambda: ["ViT-B-32"]
    module.get_tokenizer = lambda name: WordTokenizer()
    monkeypatch.setitem(sys.modules, "open_clip", module)


@pytest.mark.usefixtures("open_clip_module")
def test_clip_of_a_local_file_is_named_by_its_content(tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    config = CaptionConfig(encoder="open_clip", clip_pretrained=str(weights))
    encoder = build_encoder(config)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert encoder.id == f"open_clip/ViT-B-32/sha256-{digest[:16]}"
    assert_unit_rows(encoder.encode(TEXTS), 3)


@pytest.mark.usefixtures("open_clip_module")
def test_clip_weights_out_of_reach_are_one_line_with_a_remedy():
    with pytest.raises(UserError, match=r"'openai'.*local checkpoint.*hashed") as caught:
        build_encoder(CaptionConfig(encoder="open_clip"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("open_clip_module")
def test_clip_model_unknown_is_named():
    with pytest.raises(UserError, match="no model 'ViT-X'"):
        build_encoder(CaptionConfig(encoder="open_clip", clip_model="ViT-X"))


def test_clip_not_installed_is_one_line_with_a_remedy(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "open_clip":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"not installed.*dtpf\[clip\]"):
        build_encoder(CaptionConfig(encoder="open_clip"))


@pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None,
    reason="open_clip is not installed (pip install 'dtpf[clip]')",
)
def test_real_open_clip_model_with_random_weights_saved_to_a_file(tmp_path):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    encoder = OpenClipEncoder.load("ViT-B-32", str(tmp_path / "clip.pt"))
    long = "The visible image has severe low light and mild noise. " * 12
    vectors = encoder.encode([*TEXTS, long])
    assert_unit_rows(vectors, 4)
    kept = "The visible image has severe low light and mild noise. " * 6
    np.testing.assert_allclose(vectors[3], encoder.encode([kept.strip()])[0], atol=1e-5)
