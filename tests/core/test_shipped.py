"""Networks that come with the package: complete, small, without text, and as good as they say."""

from collections.abc import Iterator
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
from dtpf.core.ops.color import rgb_to_ycbcr
from dtpf.evaluation.baselines import laplacian_pyramid, maximum

MEDICAL = {f"harvard_{kind}_mri": kind for kind in ("ct", "pet", "spect")}
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
    assert Fuser.from_bundle("roadscene_1m").info["parameters"] <= 1_000_000


def test_a_folder_of_the_same_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.located(shipped.DEFAULT) == str(shipped.FOLDER / shipped.DEFAULT)
    Path(shipped.DEFAULT).mkdir()
    assert shipped.located(shipped.DEFAULT) == shipped.DEFAULT
    assert shipped.located("s3://a/b") == "s3://a/b"


def real_pairs(first: Path, second: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Colour and grey image of all pairs of two folders."""
    for file in sorted(first.iterdir()):
        (other,) = second.glob(f"{file.stem}.*")
        seen = np.asarray(Image.open(file).convert("RGB"))
        yield seen, np.asarray(Image.open(other).convert("L"))


def means(fuser: Fuser, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Mean scores of the network and of the trivial methods."""
    values = {"shipped": [], "maximum": [], "pyramid": []}
    for seen, heat in pairs:
        visible, infrared = as_batch(seen), as_batch(heat)
        for name, fused in (
            ("shipped", as_batch(fuser(seen, heat))),
            ("maximum", maximum(visible, infrared)),
            ("pyramid", laplacian_pyramid(visible, infrared)),
        ):
            values[name].append([v.item() for v in score(fused, visible, infrared, NAMES).values()])
    return {n: dict(zip(NAMES, np.mean(rows, 0), strict=True)) for n, rows in values.items()}


@pytest.mark.real
def test_scores_on_real_pairs_are_those_of_the_card(real_data):
    roads = real_data / "roadscene" / "test"
    fuser, pairs = Fuser(), list(real_pairs(roads / "vi", roads / "ir"))[::3]
    found = means(fuser, pairs)
    assert len(pairs) == 10
    for metric in ("EN", "VIF", "Qabf"):
        assert found["shipped"][metric] > max(found["maximum"][metric], found["pyramid"][metric])
    for metric, value in fuser.info["metrics"].items():  # a third of the pairs of the card
        tolerance = 0.35 if metric == "Nabf" else 0.1
        assert found["shipped"][metric] == pytest.approx(value, rel=tolerance), metric


@pytest.mark.real
def test_a_student_of_a_twentieth_keeps_its_teachers_scores(real_data):
    roads = real_data / "roadscene" / "test"
    pairs = list(real_pairs(roads / "vi", roads / "ir"))  # all: what is said is said of these
    teacher, student = (Fuser.from_bundle(f"roadscene_{size}") for size in ("1m", "50k"))
    assert student.info["parameters"] < teacher.info["parameters"] / 10
    wanted, found = (means(fuser, pairs)["shipped"] for fuser in (teacher, student))
    for metric in ("EN", "SF", "VIF", "Qabf", "SSIM"):
        assert found[metric] >= 0.98 * wanted[metric], metric


@pytest.mark.real
@pytest.mark.parametrize("name", MEDICAL)
def test_medical_networks_score_as_their_cards_say_and_keep_colours(name, real_data):
    kind = MEDICAL[name]
    folder = real_data / "harvard" / f"{kind}-mri" / "test"
    fuser, pairs = Fuser.from_bundle(name), list(real_pairs(folder / kind, folder / "mri"))
    found = means(fuser, pairs)
    assert found["shipped"]["Qabf"] > max(found["maximum"]["Qabf"], found["pyramid"]["Qabf"])
    for metric, value in fuser.info["metrics"].items():
        assert found["shipped"][metric] == pytest.approx(value, rel=0.01), metric
    for seen, heat in pairs:
        cast = chroma(as_batch(fuser(seen, heat))) - chroma(as_batch(seen))
        # Saturated colours leave the gamut where their brightness changes, and are clamped.
        assert cast.abs().mean() < 5 / 255
        assert cast.mean((0, 2, 3)).abs().max() < 4 / 255


def chroma(image: torch.Tensor) -> torch.Tensor:
    """Return the colour differences, Cb and Cr."""
    return rgb_to_ycbcr(image)[:, 1:]


def as_batch(image: np.ndarray) -> torch.Tensor:
    planes = torch.from_numpy(image.copy()).float() / 255
    return planes.permute(2, 0, 1)[None] if planes.ndim == 3 else planes[None, None]
