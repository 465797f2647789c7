"""Gray conversion, rounding and named conventions; golden values; the field's own scores."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtpf.core.metrics import CONVENTIONS, METRICS, score, to_gray_255
from tests.golden.metrics import make

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
REAL = Path(__file__).parents[3] / "shared" / "data"


def read(path):
    array = np.asarray(Image.open(path), dtype=np.float32) / 255
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def test_gray_is_bt601_of_eight_bit_channels():
    image = torch.tensor([[[[10.0]], [[200.0]], [[77.0]]]]) / 255
    gray = to_gray_255(image)
    assert gray.dtype == torch.float64
    assert gray.item() == round(0.299 * 10 + 0.587 * 200 + 0.114 * 77)
    assert to_gray_255(image, "none").item() == pytest.approx(
        0.299 * 10 + 0.587 * 200 + 0.114 * 77, abs=1e-4
    )


def test_rounding_is_selectable():
    image = torch.tensor([[[[100.7, 100.2, -5.0, 300.0]]]]) / 255
    assert to_gray_255(image).flatten().tolist() == [101, 100, 0, 255]
    assert to_gray_255(image, "floor").flatten().tolist() == [100, 100, 0, 255]
    assert to_gray_255(image, "none").flatten().tolist() == pytest.approx(
        [100.7, 100.2, 0, 255], abs=1e-4
    )


def test_float32_and_float64_score_alike():
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(2, c, 45, 50, generator=generator) for c in (3, 3, 1)]
    single, double = score(*images), score(*(image.double() for image in images))
    assert {n: v.tolist() for n, v in single.items()} == {n: v.tolist() for n, v in double.items()}


def test_a_fused_image_scores_what_its_saved_png_scores(tmp_path):
    generator = torch.Generator().manual_seed(1)
    fused, visible = (torch.rand(1, 3, 45, 50, generator=generator) for _ in range(2))
    infrared = torch.rand(1, 1, 45, 50, generator=generator)
    eight_bit = (fused[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(eight_bit).save(tmp_path / "fused.png")
    saved = read(tmp_path / "fused.png")
    assert score(fused, visible, infrared) == score(saved, visible, infrared)


def test_conventions_differ_where_they_say_and_only_there():
    names = [name for name in METRICS if name != "MS-SSIM"]
    generator = torch.Generator().manual_seed(2)
    images = [torch.rand(1, 1, 45, 50, generator=generator) for _ in range(3)]
    standard = score(*images, names=names)
    for convention, changed in (("compat", {"AG"}), ("interior", {"Qabf"})):
        other = score(*images, names=names, convention=convention)
        assert {n for n in names if other[n] != standard[n]} == changed
    # Equal edge strengths are rare between noise images: in a copied one they are everywhere.
    copied = [images[1] / 300, images[1] / 300, images[2] / 300]
    pair = [score(*copied, ("Qabf",), convention)["Qabf"] for convention in ("standard", "compat")]
    assert pair[0] != pair[1]
    assert score(*images, names=names, convention="unrounded")["SF"] != standard["SF"]
    assert score(*images, names=names, convention="truncated")["SF"] != standard["SF"]


def test_central_average_gradient_follows_numpy():
    generator = torch.Generator().manual_seed(3)
    gray = torch.rand(1, 1, 20, 30, generator=generator)
    levels = to_gray_255(gray)[0].numpy()
    down, across = np.gradient(levels)
    expected = np.sqrt((down**2 + across**2) / 2).sum() / (19 * 29)
    actual = score(gray, gray, gray, ("AG",), "compat")["AG"].item()
    assert actual == pytest.approx(expected, rel=1e-12)


def test_metric_of_unrounded_images_is_differentiable_through_score():
    generator = torch.Generator().manual_seed(4)
    fused = torch.rand(1, 3, 45, 45, generator=generator).requires_grad_()
    visible, infrared = (torch.rand(1, c, 45, 45, generator=generator) for c in (3, 1))
    values = score(fused, visible, infrared, ("VIF", "Qabf"), "unrounded")
    sum(values.values()).sum().backward()
    assert torch.isfinite(fused.grad).all()
    assert fused.grad.abs().sum() > 0


def test_wrong_input_is_named():
    image = torch.rand(1, 1, 45, 45)
    with pytest.raises(ValueError, match=r"unknown metrics .*PSNR.*known: EN"):
        score(image, image, image, ("PSNR",))
    with pytest.raises(ValueError, match=r"unknown convention 'mine'.*standard"):
        score(image, image, image, ("EN",), "mine")
    with pytest.raises(ValueError, match="match in batch and size"):
        score(image, image, image[..., 1:], ("EN",))
    with pytest.raises(ValueError, match="got \\(1, 2, 45, 45\\)"):
        to_gray_255(torch.rand(1, 2, 45, 45))
    with pytest.raises(ValueError, match="NaN"):
        score(image * float("nan"), image, image, ("EN",))


def golden_rows():
    with (GOLDEN / "values.csv").open() as file:
        return list(csv.DictReader(file))


def test_golden_values_hold_for_every_convention():
    images = [read(GOLDEN / f"{name}.png") for name in ("fused", "visible", "infrared")]
    rows = golden_rows()
    assert [row["metric"] for row in rows] == list(METRICS)
    assert set(rows[0]) == {"metric", *make.columns()}
    assert {rules.name for rules, _ in make.columns().values()} >= set(CONVENTIONS)
    for name in make.columns():
        actual = make.values(*images, name)
        for row in rows:
            expected = float(row[name])
            assert actual[row["metric"]].item() == pytest.approx(expected, rel=1e-9), (row, name)


def test_golden_values_differ_between_conventions():
    """A convention that nothing tells apart from another could not be checked by anybody."""
    rows = golden_rows()
    columns = {name: tuple(row[name] for row in rows) for name in rows[0] if name != "metric"}
    assert len(set(columns.values())) == len(columns)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real image pairs in ../shared/data")
@pytest.mark.parametrize(("convention", "tolerance"), [("standard", 5e-3), ("compat", 1e-4)])
def test_the_fields_own_scores_of_mean_and_maximum_on_roadscene(convention, tolerance):
    with (REAL / "peers" / "roadscene_test.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] in ("mean", "max")]
    assert len(rows) == 60
    for row in rows:
        folder, name = REAL / "roadscene" / "test", f"{row['pair_id']}.jpg"
        visible, infrared = read(folder / "vi" / name), read(folder / "ir" / name)
        gray = 0.299 * visible[:, :1] + 0.587 * visible[:, 1:2] + 0.114 * visible[:, 2:]
        fused = torch.maximum(gray, infrared) if row["method"] == "max" else (gray + infrared) / 2
        for metric, value in score(
            fused, visible, infrared, ("EN", "MI", "SF", "VIF", "Qabf"), convention
        ).items():
            assert value.item() == pytest.approx(float(row[metric]), rel=tolerance), (row, metric)
