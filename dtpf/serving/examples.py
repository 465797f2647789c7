"""Example pairs for the page: small synthetic scenes, drawn on first request."""

from functools import lru_cache

import numpy as np

from dtpf.core.records import MODALITIES
from dtpf.data.images import encode_png
from dtpf.data.scenes.render import render_scene

HEIGHT, WIDTH = 240, 320

# The name of a pair says its lighting and its seed.
_TITLES = {"night-4": "Glare at night", "dusk-3": "Bush at dusk", "day-4": "Smoke by day"}


class ExamplePairs:
    """The pairs that `GET /examples` lists."""

    def listing(self) -> list[dict[str, str]]:
        """Return name, title and the relative addresses of both images of each pair."""
        return [
            {"name": name, "title": title}
            | {modality: f"examples/{name}/{modality}.png" for modality in MODALITIES}
            for name, title in _TITLES.items()
        ]

    def image(self, name: str, modality: str) -> bytes:
        """Return one image as PNG; KeyError for an unknown name or modality."""
        if name not in _TITLES:
            raise KeyError(name)
        return _encoded_pair(name)[modality]


@lru_cache(maxsize=len(_TITLES))
def _encoded_pair(name: str) -> dict[str, bytes]:
    lighting, seed = name.rsplit("-", 1)
    scene = render_scene(np.random.default_rng(int(seed)), HEIGHT, WIDTH, lighting)
    return {"visible": encode_png(scene.visible), "infrared": encode_png(scene.infrared)}
