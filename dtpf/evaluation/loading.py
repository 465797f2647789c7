"""Pairs of an index as the float tensors that methods and metrics take."""

import torch
from torch import Tensor

from dtpf.core.ops.pixels import Scaling
from dtpf.core.records import Pair
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_infrared, decode_visible
from dtpf.evaluation.batches import Batch


def load_pair(pair: Pair, scaling: Scaling = "percentile", text: Tensor | None = None) -> Batch:
    """Read and decode one pair, and its clean originals where the index knows them.

    Args:
        pair: a row of the index.
        scaling: how 16-bit infrared comes to [0, 1].
        text: its text embedding (1, 512), for methods that read text.

    Raises:
        UserError: a file is missing or damaged.
    """
    guided = pair.visible_guide_uri is not None or pair.infrared_guide_uri is not None
    return Batch(
        (pair,),
        *_read(pair.visible_uri, pair.infrared_uri, scaling),
        guides=_read(*pair.guide_uris, scaling) if guided else None,
        text=text,
    )


def _read(visible_uri: str, infrared_uri: str, scaling: Scaling) -> tuple[Tensor, Tensor]:
    """Return visible (1, 3, H, W) and infrared (1, 1, H, W) in [0, 1]."""
    visible = decode_visible(read_bytes(visible_uri), visible_uri)
    infrared = decode_infrared(read_bytes(infrared_uri), infrared_uri, scaling)
    seen = torch.from_numpy(visible).permute(2, 0, 1)[None].contiguous()
    return seen, torch.from_numpy(infrared)[None, None]
