"""What bounds the shipped networks beyond metrics, and the page with their tables."""

import importlib
from pathlib import Path

import pytest
import torch

from dtpf.core import shipped
from dtpf.core.metrics.gradient import spatial_frequency
from dtpf.core.records import Degradation
from dtpf.evaluation.loading import load_pair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("shipped_networks")


@pytest.fixture
def scene():
    """A busy left half, and on the right a plain one with a little noise in the first source."""
    torch.manual_seed(0)
    first, second = torch.rand(2, 1, 1, 64, 64, dtype=torch.float64)
    first[..., 32:] = 0.5 + 0.02 * (first[..., 32:] - 0.5)
    second[..., 32:] = 0.5
    return first, second


def test_grain_of_flat_regions_is_beside_the_rougher_source(bench, scene):
    first, second = scene
    assert bench.flat_grain(first, first, second) == pytest.approx(1.0)
    rougher = first.clone()
    rougher[..., 32:] = 0.5 + 3 * (rougher[..., 32:] - 0.5)
    assert bench.flat_grain(rougher, first, second) == pytest.approx(3.0, rel=1e-6)
    busier = first.clone()
    busier[..., :28] = 0.5 + 3 * (busier[..., :28] - 0.5)
    assert bench.flat_grain(busier, first, second) == pytest.approx(1.0, rel=1e-6)


def test_alternation_sees_a_checkerboard_and_no_slope(bench):
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).view(1, 1, 1, -1).expand(1, 1, 32, 32)
    signs = 1.0 - 2.0 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    assert bench.alternation(ramp) < 1e-12
    assert bench.alternation(ramp + 0.01 * signs) == pytest.approx(0.04)


def test_the_page_has_a_place_for_every_table(bench):
    page = (ROOT / "docs" / "models.md").read_text()
    for name in bench.TABLES:
        assert f"<!-- shipped: {name} -->\n\n|" in page, name


def test_peers_have_the_means_of_their_scores(bench, tmp_path):
    path = tmp_path / "peers.csv"
    path.write_text("pair_id,method,EN,SF,VIF\na,X,7.0,10.0,0.5\nb,X,8.0,11.0,0.6\na,Y,1,2,3\n")
    assert bench.peer_lines(path) == [
        ["X", "7.500", "10.50", "0.550", "", "", "", "", ""],
        ["Y", "1.000", "2.00", "3.000", "", "", "", "", ""],
    ]


@pytest.mark.real
def test_the_shipped_network_adds_neither_grain_nor_checkerboards(bench, real_data):
    """SF rewards pixels that alternate, and whatever looks at Sobel slopes does not see them.

    They may gain what all slopes gain, by which SF exceeds the sources', and little more.
    """
    session = bench.session_of(real_data / "roadscene", [shipped.DEFAULT])
    (network,) = session.methods
    grains = []
    for pair in session.pairs[::3]:
        batch = load_pair(pair)
        planes = bench.planes_of(network.fuse(batch), batch)
        grains.append(bench.flat_grain(*planes))
        sharper = bench.ratio(*(float(spatial_frequency(plane[0])) for plane in planes))
        assert bench.ratio(*map(bench.alternation, planes)) < 1.2 * sharper, pair.pair_id
    assert sum(grains) / len(grains) < 1.0
    assert max(grains) < 1.06


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("infrared/noise", 0.3),
        ("infrared/stripes", 0.4),
        ("visible/noise", 0.15),
        ("visible/haze", 0.1),
        ("visible/over_exposure", 0.1),
        ("visible/snow", 0.05),
    ],
)
def test_the_network_that_cleans_keeps_more_of_degraded_pairs(bench, real_data, kind, more):
    robustness = importlib.import_module("robustness")  # `bench` has made it known
    names = ["roadscene_2m", "roadscene_1m"]
    session = bench.session_of(real_data / "roadscene", names)
    clean, spoilt = (
        robustness.mean_scores(session.methods, session.pairs[::10], degradations)
        for degradations in ((), (Degradation(*kind.split("/"), bench.SEVERITY),))
    )
    # Both beside the clean score of the one that does not clean.
    cleaning, plain = (robustness.share(spoilt[name], clean["roadscene_1m"]) for name in names)
    assert cleaning > plain + more
    assert robustness.share(clean["roadscene_2m"], clean["roadscene_1m"]) > 0.99
