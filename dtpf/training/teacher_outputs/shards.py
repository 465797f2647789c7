"""Shards of teacher outputs: which crops they hold, where they lie, how they are checked.

Shard k holds the crops at positions k * SHARD_CROPS and after, whatever `fixed_crops` is: more
crops, or a longer training, go on with the shards that are there. Values are float16, safetensors
alone. Legend: N = crops of a shard, S = side of a crop.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from dtpf.core.bundle import read_bundle_config
from dtpf.core.config import fingerprint
from dtpf.core.errors import UserError
from dtpf.core.models import ModelConfig
from dtpf.core.models.config import LEVELS
from dtpf.core.records import Pair
from dtpf.core.storage.keys import teacher_outputs_key, teacher_outputs_prefix
from dtpf.core.storage.store import Store
from dtpf.training.config import (
    TrainConfig,
    TrainSpec,
    required_fixed_crops,
    required_teacher_bundle,
)

# A killed job repeats so many crops at most, and a worker that trains reads so many for one.
SHARD_CROPS = 4

# Raised when a shard's content or form changes, so that older ones are not taken for new.
VERSION = 2

NAMES = ("fused", *(f"features{level}" for level in range(1, LEVELS + 1)))


@dataclass(frozen=True)
class OutputShards:
    """What one teacher makes of one sequence of crops.

    Attributes:
        store: where it lies.
        network: the teacher's config.
        teacher: sha256 of the teacher's weights.
        digest: fingerprint of all else that the values depend on.
    """

    store: Store
    network: ModelConfig
    teacher: str
    digest: str

    @property
    def prefix(self) -> str:
        """Prefix of all shards in the store."""
        return teacher_outputs_prefix(self.teacher, self.digest)

    def pending(self, train: TrainConfig) -> list[int]:
        """Return the shards that a training needs and that are not there."""
        there = set(self.store.keys(self.prefix))
        return [
            shard
            for shard in shards_needed(train)
            if teacher_outputs_key(self.prefix, shard) not in there
        ]

    def write(self, shard: int, outputs: Sequence[Tensor]) -> None:
        """Write one shard atomically, rounded to float16.

        Args:
            shard: its number.
            outputs: fused image (N, 3, S, S) and the decoder's four features, as `run_teacher`.

        Raises:
            UserError: a value is not finite, or too large for float16.
        """
        halves = [value.detach().half().cpu().contiguous() for value in outputs]
        if not all(torch.isfinite(half).all() for half in halves):
            raise UserError(
                f"teacher {self.teacher[:12]}: outputs beyond the range of float16 in shard "
                f"{shard}; set student.teacher_outputs=live"
            )
        document = self._document(shard) | {"crc32": _checksum(halves)}
        # In one entry, since safetensors writes several in any order: equal shards, equal bytes.
        metadata = {"shard": json.dumps(document)}
        data = save_safetensors(dict(zip(NAMES, halves, strict=True)), metadata=metadata)
        self.store.write_bytes(teacher_outputs_key(self.prefix, shard), data)

    def read(self, shard: int) -> tuple[Tensor, ...]:
        """Return what `write` was given, as float16 on the CPU.

        Raises:
            UserError: the shard is missing, damaged, or of another teacher or other crops.
        """
        key = teacher_outputs_key(self.prefix, shard)
        data, uri = self.store.read_bytes(key), self.store.uri_of(key)
        try:
            tensors, document = load_safetensors(data), _document_of(data)
        except (SafetensorError, json.JSONDecodeError) as error:
            raise UserError(f"{uri}: damaged ({error}); {_REMEDY}") from None
        checksum = document.pop("crc32", None)
        if document != self._document(shard) or set(tensors) != set(NAMES):
            raise UserError(f"{uri}: holds outputs of another teacher or other crops; {_REMEDY}")
        halves = tuple(tensors[name] for name in NAMES)
        if checksum != _checksum(halves):
            raise UserError(f"{uri}: damaged (its checksum differs); {_REMEDY}")
        return halves

    def _document(self, shard: int) -> dict[str, Any]:
        return {"teacher": self.teacher, "crops": self.digest, "shard": shard}


_REMEDY = "delete it and run the same command again, which writes it anew"


def shards_of(spec: TrainSpec, store: Store, pairs: Sequence[Pair]) -> OutputShards:
    """Return the shards that a student's spec names.

    Args:
        spec: of the student.
        store: the spec's.
        pairs: the index's training pairs, in its order.

    Raises:
        UserError: the spec names no teacher, or its bundle is missing.
    """
    network, sha256 = read_bundle_config(store.uri_of(required_teacher_bundle(spec)))
    contents = [[pair.pair_id, pair.visible_sha256, pair.infrared_sha256] for pair in pairs]
    train, refine = spec.train, spec.distill.refine
    digest = fingerprint(
        VERSION,
        SHARD_CROPS,
        contents,
        spec.embeddings,
        spec.infrared_scaling,
        train.cutting,
        train.precision,
        spec.distill.teacher_sees,
        *((refine, spec.loss.as_dict()) if refine else ()),
    )
    return OutputShards(store, network, sha256, digest)


def shards_needed(train: TrainConfig) -> range:
    """Return the numbers of the shards that hold all fixed crops of a training.

    Raises:
        UserError: crops never repeat.
    """
    return range(-(-required_fixed_crops(train) // SHARD_CROPS))


def bytes_per_crop(teacher: ModelConfig, side: int) -> int:
    """Return what one crop of `side` pixels takes in the store, headers left out."""
    padded = -(-side // teacher.stride) * teacher.stride
    levels = zip(teacher.feature_widths, range(LEVELS), strict=True)
    values = 3 * side**2 + sum(width * (padded >> level) ** 2 for width, level in levels)
    return values * torch.finfo(torch.float16).bits // 8


def _checksum(halves: Sequence[Tensor]) -> int:
    checksum = 0
    for half in halves:
        checksum = zlib.crc32(half.numpy().data, checksum)
    return checksum


def _document_of(data: bytes) -> dict[str, Any]:
    """Return what a shard says of itself; the library reads metadata of files, not of bytes."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    document: dict[str, Any] = json.loads(metadata.get("shard", "{}"))
    return document
