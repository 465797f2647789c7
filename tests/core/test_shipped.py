"""Networks that come with the package: complete, small, without text, and as good as they say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from dtpf import Fuser
from dtpf.core import shipped
from dtpf.core.bundle import load_bundle
from dtpf.core.metrics import score
from dtpf.evaluation.baselines import laplacian_pyramid, maximum

REAL = Path(__file__).parents[3] / "shared" / "data" / "roadscene" / "test"
NAMES = ("EN", "SF", "VIF", "Qabf", "SSIM", "Nabf")


@pytest.mark.parametrize("name", shipped.shipped_names())
def test_a_shipped_network_is_small_and_says_where_it_comes_from(name):
    folder = shipped.FOLDER / name
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 20e6
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118
    bundle = load_bundle(name)
    assert not bundle.model.config.text
    assert {"data", "captioner", "text_encoder", "steps", "scores"} <= set(bundle.provenance)
    assert set(NAMES) <= set(bundle.metrics)
    assert "EN" in (folder / "card.md").read_text()


def test_the_small_one_has_at_most_a_million_parameters():
    assert Fuser().info["parameters"] <= 1_000_000


def test_a_folder_of_the_same_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.located(shipped.DEFAULT) == str(shipped.FOLDER / shipped.DEFAULT)
    Path(shipped.DEFAULT).mkdir()
    assert shipped.located(shipped.DEFAULT) == shipped.DEFAULT
    assert shipped.located("s3://a/b") == "s3://a/b"


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real image pairs in ../shared/data")
def test_scores_on_real_pairs_are_those_of_the_card():
    fuser, files = Fuser(), sorted((REAL / "vi").glob("*.jpg"))
    values = {"shipped": [], "maximum": [], "pyramid": []}
    for file in files[::3]:
        seen = np.asarray(Image.open(file).convert("RGB"))
        heat = np.asarray(Image.open(REAL / "ir" / file.name).convert("L"))
        visible, infrared = as_batch(seen), as_batch(heat)
        for name, fused in (
            ("shipped", as_batch(fuser(seen, heat))),
            ("maximum", maximum(visible, infrared)),
            ("pyramid", laplacian_pyramid(visible, infrared)),
        ):
            values[name].append([v.item() for v in score(fused, visible, infrared, NAMES).values()])
    means = {n: dict(zip(NAMES, np.mean(rows, 0), strict=True)) for n, rows in values.items()}
    ours = means["shipped"]
    assert len(values["shipped"]) == 10
    for metric in ("EN", "VIF", "Qabf"):
        assert ours[metric] > max(means["maximum"][metric], means["pyramid"][metric]), metric
    for metric, value in fuser.info["metrics"].items():  # a third of the pairs of the card
        assert ours[metric] == pytest.approx(value, rel=0.35 if metric == "Nabf" else 0.1), metric


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real image pairs in ../shared/data")
def test_no_checkerboard_stands_on_real_pairs():
    """SF rewards pixels that alternate, and whatever looks at Sobel slopes does not see them."""
    fuser, files = Fuser(), sorted((REAL / "vi").glob("*.jpg"))
    for file in files[::3]:
        seen = np.asarray(Image.open(file).convert("RGB"))
        heat = np.asarray(Image.open(REAL / "ir" / file.name).convert("L"))
        planes = [as_batch(fuser(seen, heat)), as_batch(seen), as_batch(heat)]
        fused, *sources = (alternation(plane.mean(1)[0]) for plane in planes)
        assert fused < 1.3 * max(sources), file.name


def alternation(plane: torch.Tensor) -> float:
    """Return the RMS of what changes its sign from pixel to pixel in both directions."""
    return float(plane.diff(dim=0).diff(dim=1).square().mean().sqrt())


def as_batch(image: np.ndarray) -> torch.Tensor:
    planes = torch.from_numpy(image.copy()).float() / 255
    return planes.permute(2, 0, 1)[None] if planes.ndim == 3 else planes[None, None]
