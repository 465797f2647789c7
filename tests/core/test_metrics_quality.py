"""Metrics without reference: our door to pyiqa with a stand-in, and pyiqa itself where installed.

pyiqa fetches trained weights. The tests with the real library give it small files of its own
formats instead: features drawn at random, so the scores mean nothing but the code is the real one.
"""

import sys
from types import ModuleType

import numpy as np
import pytest
import scipy.io
import torch

from dtpf.core.errors import UserError
from dtpf.core.metrics import QUALITY_METRICS, find_metric, quality, score

NAMES = ("BRISQUE", "NIQE", "MUSIQ", "CLIP-IQA")


@pytest.fixture(autouse=True)
def forget_models():
    quality._model.cache_clear()
    yield
    quality._model.cache_clear()


def picture(batch=2, side=96):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def stand_in(monkeypatch, create):
    library = ModuleType("pyiqa")
    library.create_metric = create
    monkeypatch.setitem(sys.modules, "pyiqa", library)


def test_each_metric_asks_the_library_for_its_own_name_once(monkeypatch):
    asked = []

    def create(name, device):
        print("Downloading weights")
        asked.append((name, str(device)))
        return lambda image: image.mean(dim=(1, 2, 3))[:, None]  # (B, 1), as some of pyiqa's give

    stand_in(monkeypatch, create)
    image = picture()
    for _ in range(2):
        values = score(image, image, image[:, :1], NAMES)
    assert asked == [(name, "cpu") for name in ("brisque", "niqe", "musiq", "clipiqa")]
    assert list(values) == list(NAMES) == list(QUALITY_METRICS)
    eight_bit = (image * 255).round() / 255
    for value in values.values():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, eight_bit.mean(dim=(1, 2, 3)).double(), rtol=1e-5, atol=0)


def test_gray_results_are_judged_as_gray_pictures(monkeypatch):
    shapes = []
    stand_in(monkeypatch, lambda name, device: lambda x: shapes.append(x.shape) or x[:, 0, 0, 0])
    gray = picture()[:, :1]
    score(gray, gray, gray, ("NIQE",))
    assert shapes == [torch.Size([2, 3, 96, 96])]


def test_nothing_goes_to_stdout_while_weights_are_fetched(monkeypatch, capsys):
    stand_in(monkeypatch, lambda name, device: print("progress") or (lambda x: x[:, 0, 0, 0]))
    score(picture(), picture(), picture(), ("NIQE",))
    assert capsys.readouterr().out == ""


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # importing it raises ImportError
    with pytest.raises(UserError, match=r"musiq needs the extra: pip install 'dtpf\[iqa\]'"):
        score(picture(), picture(), picture(), ("MUSIQ",))


@pytest.mark.parametrize(
    "failure", [OSError("Name or service not known"), RuntimeError("bad file")]
)
def test_without_weights_it_says_where_to_put_them(monkeypatch, failure):
    def create(name, device):
        raise failure

    stand_in(monkeypatch, create)
    with pytest.raises(UserError, match=r"niqe: its weights .*pyiqa.*put them there") as caught:
        score(picture(), picture(), picture(), ("NIQE",))
    assert str(failure) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_small_pictures_are_refused():
    small = picture(side=95)
    with pytest.raises(ValueError, match="brisque needs 96 pixels a side"):
        score(small, small, small, ("BRISQUE",))


def test_directions():
    lower = [name for name in NAMES if not find_metric(name).higher_is_better]
    assert lower == ["BRISQUE", "NIQE"]


@pytest.fixture
def real_library(tmp_path, monkeypatch):
    """The real pyiqa, with torch's hub folder in a temporary place."""
    try:
        import pyiqa
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"pyiqa does not run here: {error}")
    from pyiqa.utils import download_util

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path))
    assert pyiqa.__version__
    return tmp_path


def test_real_library_scores_with_weights_that_are_there(real_library):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 36))
    scipy.io.savemat(
        real_library / "niqe_modelparameters.mat",
        {"mu_prisparam": features.mean(0)[None], "cov_prisparam": np.cov(features.T)},
    )
    support = torch.from_numpy(generator.normal(size=(20, 36))).float()
    torch.save((torch.ones(20), support), real_library / "brisque_svm_weights.pth")
    image = picture(side=192)
    values = score(image, image, image, ("NIQE", "BRISQUE"))
    alone = score(image[1:], image[1:], image[1:], ("NIQE", "BRISQUE"))
    for name, value in values.items():
        assert value.shape == (2,)
        assert torch.isfinite(value).all(), name
        assert alone[name].item() == pytest.approx(value[1].item(), rel=1e-4)


@pytest.mark.parametrize("name", ["BRISQUE", "NIQE", "MUSIQ"])
def test_real_library_without_weights_and_network_is_a_users_line(real_library, monkeypatch, name):
    def unreachable(*arguments, **options):
        raise OSError("no such host")

    monkeypatch.setattr("pyiqa.utils.download_util.download_url_to_file", unreachable)
    with pytest.raises(UserError, match="its weights can neither be found"):
        score(picture(), picture(), picture(), (name,))
