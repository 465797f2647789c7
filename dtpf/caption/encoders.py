"""Text encoders: captions to unit vectors of 512 floats.

`HashedEncoder` needs no weights; `OpenClipEncoder` is CLIP by open_clip. An encoder's `id` is
stored beside each vector, so the one never passes for the other.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from dtpf.caption.config import CaptionConfig
from dtpf.core.errors import UserError
from dtpf.core.records import TEXT_DIM

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SPECIAL_TOKENS = 2  # start and end of text


class TextEncoder(Protocol):
    """Maps texts to vectors; equal texts give equal vectors."""

    id: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, 512) float32, each row of Euclidean length 1."""
        ...


class HashedEncoder:
    """Signed feature hashing of words and word pairs (Weinberger et al. 2009)."""

    id = f"hashed-{TEXT_DIM}"

    def __init__(self) -> None:
        self._vectorizer = HashingVectorizer(n_features=TEXT_DIM, ngram_range=(1, 2), norm="l2")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, 512) float32 of length 1; ValueError for a text without any word."""
        if not texts:  # which scikit-learn refuses
            return np.empty((0, TEXT_DIM), np.float32)
        vectors = self._vectorizer.transform(texts).toarray().astype(np.float32)
        for text, vector in zip(texts, vectors, strict=True):
            if not vector.any():
                raise ValueError(f"cannot encode a text without words: {text!r}")
        return vectors


class ClipTokenizer(Protocol):
    """The part of open_clip's tokenizers that is used here."""

    context_length: int

    def encode(self, text: str) -> list[int]:
        """Return the token ids without start and end."""
        ...

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return (N, context_length) ids with start, end and padding."""
        ...


class OpenClipEncoder:
    """Text tower of a CLIP model.

    Args:
        model: has `encode_text(ids (N, L)) -> (N, 512)`.
        tokenizer: of that model.
        identity: what is stored as `id`: model, weights.
        batch_size: texts per forward pass.
    """

    def __init__(
        self, model: Any, tokenizer: ClipTokenizer, identity: str, batch_size: int = 64
    ) -> None:
        self.id = identity
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._batch_size = batch_size

    @classmethod
    def load(cls, model_name: str, pretrained: str, batch_size: int = 64) -> "OpenClipEncoder":
        """Load model and weights; on a GPU if there is one.

        Raises:
            UserError: open_clip is not installed, or the model or weights cannot be had.
        """
        open_clip = _import_open_clip()
        if model_name not in open_clip.list_models():
            raise UserError(f"caption.clip_model: open_clip knows no model {model_name!r}")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = open_clip.create_model(model_name, pretrained=pretrained, device=device)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"caption.clip_pretrained: cannot load {pretrained!r} for {model_name}"
                f" ({str(error).splitlines()[0]}); give the path of a local checkpoint,"
                " or use caption.encoder=hashed"
            ) from None
        identity = f"open_clip/{model_name}/{_weights_name(pretrained)}"
        return cls(model, open_clip.get_tokenizer(model_name), identity, batch_size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, 512) float32 of length 1; texts too long keep their leading sentences."""
        fitted = [self._fit(text) for text in texts]
        starts = range(0, len(fitted), self._batch_size)
        parts = [self._forward(fitted[start : start + self._batch_size]) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, TEXT_DIM), np.float32)

    def _forward(self, texts: list[str]) -> NDArray[np.float32]:
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            vectors = self._model.encode_text(self._tokenizer(texts).to(device)).float()
        if vectors.shape[1] != TEXT_DIM:
            raise UserError(
                f"caption.clip_model: {self.id} gives {vectors.shape[1]} floats per text,"
                f" {TEXT_DIM} are needed; use ViT-B-32"
            )
        return torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()

    def _fit(self, text: str) -> str:
        """Drop trailing sentences, and only of a lone sentence trailing words, until it fits."""
        pieces = _SENTENCE_END.split(text)
        while len(pieces) > 1 and not self._fits(" ".join(pieces)):
            pieces.pop()
        words = pieces[0].split() if len(pieces) == 1 else []
        while len(words) > 1 and not self._fits(" ".join(words)):
            words.pop()
        return " ".join(words or pieces)

    def _fits(self, text: str) -> bool:
        return len(self._tokenizer.encode(text)) + _SPECIAL_TOKENS <= self._tokenizer.context_length


def build_encoder(config: CaptionConfig) -> TextEncoder:
    """Return the text encoder that the config names, ready for use."""
    if config.encoder == "hashed":
        return HashedEncoder()
    return OpenClipEncoder.load(config.clip_model, config.clip_pretrained, config.batch_size)


def _import_open_clip() -> Any:
    try:
        import open_clip
    except ImportError:
        raise UserError(
            "caption.encoder=open_clip: open_clip is not installed; run"
            " `pip install 'dtpf[clip]'`, or use caption.encoder=hashed"
        ) from None
    return open_clip


def _weights_name(pretrained: str) -> str:
    """Return a tag as it is; a local file as its digest, since paths differ between machines."""
    path = Path(pretrained)
    if not path.is_file():
        return pretrained
    with path.open("rb") as source:
        return f"sha256-{hashlib.file_digest(source, 'sha256').hexdigest()[:16]}"
