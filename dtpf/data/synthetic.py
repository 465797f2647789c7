"""The default data set: seeded road scenes, part of them with known degradations, in the store.

Every scene depends on (seed, split, index) alone, so more pairs leave the others as they are.
Layout below the prefix: `<split>/{visible,infrared}/<pair_id>.png`, `visible_guide` and
`infrared_guide` beside them for the clean originals of degraded images, and `truth.json`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from pydantic import Field

from dtpf.core.config import Config
from dtpf.core.ops.pixels import FloatImage
from dtpf.core.records import MODALITIES, SPLITS, Degradation, Pair
from dtpf.core.storage.store import Store
from dtpf.data.degrade import apply
from dtpf.data.images import encode_png
from dtpf.data.scenes.render import LIGHTINGS, RoadScene, render_scene

SCENE_REVISION = 2  # raise it whenever the same seed gives other pixels: indexes are made again
TRUTH = "truth.json"

Progress = Callable[[int, int], None]  # pairs done, pairs in all

_WORKERS = 4
# By night the clean picture is dark already, and nothing is exposed too long.
_CANDIDATES = {
    "day": ("low_light", "over_exposure", "noise", "motion_blur"),
    "dusk": ("low_light", "noise", "motion_blur"),
    "night": ("noise", "motion_blur"),
}
_INFRARED_CANDIDATES = ("low_contrast", "noise", "stripes")


class SyntheticConfig(Config):
    """How many scenes of which size, and how many of them are degraded."""

    train: int = Field(48, ge=1)
    val: int = Field(8, ge=0)
    test: int = Field(8, ge=0)
    height: int = Field(128, ge=32, le=2048)
    width: int = Field(160, ge=32, le=2048)
    degraded_fraction: float = Field(0.5, ge=0.0, le=1.0)
    seed: int = Field(0, ge=0)

    def names(self) -> list[tuple[str, int]]:
        """Return (split, index) of every scene."""
        return [(split, index) for split in SPLITS for index in range(getattr(self, split))]


@dataclass(frozen=True)
class SyntheticPair:
    """A scene and what its two cameras deliver: `visible` (H, W, 3) and `infrared` (H, W)."""

    pair_id: str
    split: str
    scene: RoadScene
    visible: FloatImage
    infrared: FloatImage
    degradations: tuple[Degradation, ...]

    def truth(self) -> dict[str, Any]:
        """Return what is known of the pair, as plain JSON types."""
        return {
            "pair_id": self.pair_id,
            "split": self.split,
            "lighting": self.scene.lighting,
            "degradations": [asdict(degradation) for degradation in self.degradations],
            "targets": [asdict(target) for target in self.scene.targets],
        }


def make_pair(config: SyntheticConfig, split: str, index: int) -> SyntheticPair:
    """Return one pair of the data set; lightings take turns within a split."""
    rng = np.random.default_rng([config.seed, SPLITS.index(split), index])
    scene = render_scene(rng, config.height, config.width, LIGHTINGS[index % len(LIGHTINGS)])
    degradations = _draw_degradations(scene.lighting, config.degraded_fraction, rng)
    visible, infrared = apply((scene.visible, scene.infrared), degradations, rng)
    return SyntheticPair(f"{split}_{index:05d}", split, scene, visible, infrared, degradations)


def write_synthetic(
    config: SyntheticConfig, store: Store, prefix: str, progress: Progress | None = None
) -> list[Pair]:
    """Render the data set into the store below `prefix` and return its pairs.

    Writing it again gives the same bytes, so an interrupted run is simply repeated.
    """
    names = config.names()

    def render(name: tuple[str, int]) -> tuple[Pair, dict[str, Any]]:
        made = make_pair(config, *name)
        return _write_pair(made, store, prefix), made.truth()

    pairs, truths = [], []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for done, (pair, truth) in enumerate(pool.map(render, names), start=1):
            pairs.append(pair)
            truths.append(truth)
            if progress:
                progress(done, len(names))
    store.write_json(f"{prefix}/{TRUTH}", {"pairs": truths, "config": config.as_dict()})
    return pairs


def _draw_degradations(
    lighting: str, fraction: float, rng: np.random.Generator
) -> tuple[Degradation, ...]:
    """Draw one degradation of one image, or now and then one of each."""
    if rng.random() >= fraction:
        return ()
    sides = (("visible",), ("infrared",), MODALITIES)[rng.choice(3, p=(0.4, 0.35, 0.25))]
    candidates = {"visible": _CANDIDATES[lighting], "infrared": _INFRARED_CANDIDATES}
    return tuple(
        Degradation(side, str(rng.choice(candidates[side])), round(float(rng.uniform(0.4, 0.9)), 2))
        for side in sides
    )


def _write_pair(made: SyntheticPair, store: Store, prefix: str) -> Pair:
    degraded = {degradation.modality for degradation in made.degradations}
    uris, digests = {}, {}
    for side, image, clean in (
        ("visible", made.visible, made.scene.visible),
        ("infrared", made.infrared, made.scene.infrared),
    ):
        key, data = f"{prefix}/{made.split}/{side}/{made.pair_id}.png", encode_png(image)
        store.write_bytes(key, data)
        uris[side], digests[side] = store.uri_of(key), sha256(data).hexdigest()
        if side in degraded:
            guide = f"{prefix}/{made.split}/{side}_guide/{made.pair_id}.png"
            store.write_bytes(guide, encode_png(clean))
            uris[f"{side}_guide"] = store.uri_of(guide)
    return Pair(
        pair_id=made.pair_id,
        split=made.split,
        visible_uri=uris["visible"],
        infrared_uri=uris["infrared"],
        height=made.infrared.shape[0],
        width=made.infrared.shape[1],
        visible_dtype="uint8",
        infrared_dtype="uint8",
        visible_sha256=digests["visible"],
        infrared_sha256=digests["infrared"],
        visible_guide_uri=uris.get("visible_guide"),
        infrared_guide_uri=uris.get("infrared_guide"),
    )
