"""What tells over-exposed scenes, fitted to made-up ones and to real ones."""

import numpy as np
import pytest
import torch

from dtpf.core.models.exposure import Exposure
from dtpf.core.records import Degradation
from dtpf.core.storage.store import Store
from dtpf.data.dataset import LoadedImages, PairDataset
from dtpf.data.degrade import apply
from dtpf.data.index import DataConfig, build_index
from dtpf.training.exposure import IMAGES, fit_exposure


class Scenes:
    """Bright and dark patches in any image, of which few are clipped."""

    def __init__(self, count: int) -> None:
        self.read: list[int] = []
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> LoadedImages:
        self.read.append(index)
        generator = torch.Generator().manual_seed(index)
        seen, heat = (
            torch.nn.functional.interpolate(
                torch.rand(1, channels, 6, 8, generator=generator), (48, 64), mode="bilinear"
            )[0]
            for channels in (3, 1)
        )
        return LoadedImages(str(index), seen, heat, seen, heat)


def probability(exposure: Exposure, images: LoadedImages, severity: float) -> float:
    pair = images.visible.permute(1, 2, 0).numpy(), images.infrared[0].numpy()
    wanted = [Degradation("visible", "over_exposure", severity)]
    seen, _ = apply(pair, wanted, np.random.default_rng(0))
    means = exposure.means(torch.from_numpy(seen).permute(2, 0, 1)[None])
    return exposure.judged(means)[0, 0].sigmoid().item()


def test_scenes_that_were_not_seen_are_told():
    exposure, scenes = Exposure(), Scenes(30)
    fit_exposure(exposure, scenes, seed=0)
    for number in range(100, 105):
        assert probability(exposure, scenes[number], 0.0) < 0.3
        assert probability(exposure, scenes[number], 0.8) > 0.7


def test_the_same_seed_gives_the_same_bits():
    first, second, other = Exposure(), Exposure(), Exposure()
    for exposure, seed in ((first, 1), (second, 1), (other, 2)):
        fit_exposure(exposure, Scenes(3), seed)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert not torch.equal(first.weight, other.weight)


def test_of_many_images_some_are_read(monkeypatch):
    monkeypatch.setattr("dtpf.training.exposure.IMAGES", 5)
    scenes = Scenes(IMAGES + 1)
    fit_exposure(Exposure(), scenes, seed=0)
    assert scenes.read == [0, 50, 100, 150, 200]


@pytest.mark.real
def test_real_scenes_that_were_not_seen_are_told(real_data):
    folder = str(real_data / "roadscene")
    pairs = build_index(DataConfig(source=folder, name="roadscene"), Store(folder), "").pairs
    train, val = ([pair for pair in pairs if pair.split == name] for name in ("train", "val"))
    exposure = Exposure()
    fit_exposure(exposure, PairDataset(train), seed=0)
    held_out = PairDataset(val[::3])
    clean, spoilt = (
        [probability(exposure, held_out[number], severity) for number in range(len(held_out))]
        for severity in (0.0, 0.6)
    )
    assert max(clean) < 0.65  # from there on a scene is changed
    assert np.median(spoilt) > 0.95
