"""Small textured pairs, as arrays and as indexed files, for the tests of the caption stage."""

import hashlib
from pathlib import Path

import numpy as np
from scipy import ndimage

from dtpf.caption.config import CaptionConfig
from dtpf.caption.shards import CaptionTask, Previous
from dtpf.core.records import Pair, pairs_to_table
from dtpf.core.storage.store import Store
from dtpf.data.images import encode_png


def texture(height=160, width=192, seed=0):
    """Natural-looking texture: power falls with the cube of frequency, full range, float32."""
    rng = np.random.default_rng(seed)
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius = np.maximum(np.hypot(down, across), 1 / max(height, width))
    spectrum = np.fft.fft2(rng.normal(size=(height, width))) / radius**1.5
    image = ndimage.gaussian_filter(np.fft.ifft2(spectrum).real, 0.7)
    low, high = np.quantile(image, (0.002, 0.998))
    unit = np.clip((image - low) / (high - low), 0, 1)
    return (0.05 + 0.93 * unit).astype(np.float32)


def visible_scene(height=160, width=192, seed=0):
    return np.repeat(texture(height, width, seed)[..., None], 3, axis=2)


def write_pairs(folder: Path, count: int, height=64, width=80) -> list[Pair]:
    """Write `count` PNG pairs below `folder` and return their index."""
    pairs = []
    for number in range(count):
        uris, digests = [], []
        for name, image in (
            ("vi", visible_scene(height, width, number)),
            ("ir", texture(height, width, 100 + number)),
        ):
            path = folder / name / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = encode_png(image)
            path.write_bytes(data)
            uris.append(path.as_uri())
            digests.append(hashlib.sha256(data).hexdigest())
        pairs.append(
            Pair(f"pair{number:03d}", "train", *uris, height, width, "uint8", "uint8", *digests)
        )
    return pairs


def caption_task(
    store: Store, pairs: list[Pair], config: CaptionConfig, previous: Previous | None = None
) -> CaptionTask:
    """Write the index and return the task to caption it."""
    store.write_table("datasets/d/1/pairs.parquet", pairs_to_table(pairs), row_group_rows=3)
    return CaptionTask(
        store, "datasets/d/1/pairs.parquet", config, "captions/d/1", "embeddings/d/1", previous
    )


def objects(task: CaptionTask) -> dict[str, bytes]:
    """Return all that the task has written."""
    prefixes = (task.captions, task.embeddings)
    return {
        key: task.store.read_bytes(key) for prefix in prefixes for key in task.store.keys(prefix)
    }
