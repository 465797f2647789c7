"""The report: complete, self-contained, escaped; the inset where the target is."""

import base64
import io
import re
from html import unescape
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from dtpf.evaluation.baselines import BASELINES
from dtpf.evaluation.compare import compare, retention_in
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import BaselineMethod
from dtpf.evaluation.panels import Inset, hottest_window, make_panels, spread
from dtpf.evaluation.peers import Peer
from dtpf.evaluation.plots import Curve, curves
from dtpf.evaluation.report import (
    ReportData,
    collect_panels,
    paper_rows,
    render_report,
)
from dtpf.evaluation.running import curves_of
from dtpf.evaluation.score import evaluate
from tests.evaluation.support import PAIRS, load

METHODS = [BaselineMethod(name) for name in BASELINES]
CONFIG = EvalConfig(panels=2, worst=3)
VOID = {"meta", "link", "img", "br", "hr", "input", "use", "path"}


class Page(HTMLParser):
    """Collects tags, ids, links and text; fails on tags that do not nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.tags.append((tag, facts))
        self.ids += [facts["id"]] if "id" in facts else []
        self.links += [facts[key] for key in ("href", "src", "xlink:href") if key in facts]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def table():
    return evaluate(METHODS, PAIRS, load, CONFIG)


@pytest.fixture(scope="module")
def html(table):
    panels, worst = collect_panels(METHODS, PAIRS, load, table, "maximum", CONFIG)
    return render_report(
        ReportData(
            title="Streets <by night> & day",
            dataset="RoadScene",
            table=table,
            subject="maximum",
            panels=panels,
            worst=worst,
            comparisons=compare(table, "maximum", "mean"),
            retention=retention_in(table, "mean", "maximum"),
            curves=[
                Curve("teacher/total", range(1000), [1 / (1 + i) for i in range(1000)]),
                Curve("teacher/gradient", [0, 1, 2], [3.0, 2.0, 1.0]),
                Curve("student/total", [0, 1], [1.0, 0.5]),
            ],
            tuning='<section id="tuning"><h2>Tuning</h2></section>',
            run={"commit": "abc1234", "captioner": "statistics"},
            receipts={"evaluate": {"config": {"split": "test"}, "gpu": None}},
            notes=["Captions come from <statistics>."],
        )
    )


def test_the_page_nests_and_refers_to_nothing_outside(html):
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    for link in page.links:
        assert link.startswith(("data:image/", "#")), link
    for anchor in (link[1:] for link in page.links if link.startswith("#")):
        assert anchor in page.ids
    assert not re.search(r"url\((?!#)", html)
    assert "<script" not in html
    assert "@import" not in html


def test_every_part_is_there_and_escaped(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "Streets &lt;by night&gt; &amp; day" in html
    assert "Captions come from &lt;statistics&gt;." in html
    for part in (
        *("Scores", "Pair by pair", "Distributions", "Pictures", "Worst cases of maximum"),
        *("Training", "Tuning", "What was run", "Metrics", "abc1234", "config.split"),
    ):
        assert part in text, part
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_papers_rows_are_marked_as_the_papers(html, table):
    assert html.count("paper, 4.10 M") == 1
    assert "From the paper, not measured here." in html
    assert "0.634" in html  # the paper's student in Qabf on RoadScene
    other = render_report(ReportData("t", "synthetic", table, "mean"))
    assert "From the paper" not in other
    assert paper_rows("MSRS")["rows"][-1]["VIF"] == 1.075
    assert paper_rows("synthetic") is None


def test_empty_parts_are_left_out(table):
    text = render_report(ReportData("t", "synthetic", table, "mean"))
    for part in ("pictures", "worst", "training", "tuning", "run", "paired"):
        assert f'id="{part}"' not in text


def test_marks_match_the_table(html, table):
    row = re.search(r"<td>mean<span.*?</tr>", html, re.DOTALL).group()
    best = re.findall(r'class="best">([\d.]+)', row)
    expected = [
        f"{table.mean('mean', metric):.3f}"
        for metric in table.metrics
        if table.mean("mean", metric) == max(table.mean(m, metric) for m in table.methods)
    ]
    assert best == expected


def test_panels_show_every_method_and_the_worst_the_subject(html, table):
    panels, worst = collect_panels(METHODS, PAIRS, load, table, "maximum", CONFIG)
    assert [panel.pair_id for panel in panels] == ["p00", "p04"]
    assert [picture.label for picture in panels[0].pictures] == [
        *("visible", "infrared", "mean", "maximum", "laplacian_pyramid")
    ]
    assert tuple(panel.pair_id for panel in worst) == table.worst_pairs("maximum", 3)
    assert [picture.label for picture in worst[0].pictures] == ["visible", "infrared", "maximum"]


class Copy:
    """A method that leaves the infrared image out."""

    name = "copy"

    def fuse(self, batch):
        return batch.visible


def test_a_picture_that_ignores_a_source_bears_a_warning(table):
    (panel,) = make_panels([*METHODS[:1], Copy()], PAIRS[:1], load)
    *others, copy = panel.pictures
    assert not any(picture.warnings for picture in others)
    assert "hardly anything of the infrared image is left" in copy.warnings[0]
    page = render_report(ReportData("t", "d", table, "maximum", panels=[panel]))
    assert f"Warning: {copy.warnings[0]}" in unescape(page)


def test_pictures_are_at_native_size_and_crops_show_the_inset():
    (panel,) = make_panels(METHODS[:1], PAIRS[:1], load)
    infrared = panel.pictures[1]
    image, crop = (
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        for uri in (infrared.image, infrared.crop)
    )
    assert image.size == (64, 48)
    assert crop.size == (round(panel.inset.width * 64), round(panel.inset.height * 48))
    assert max(crop.convert("L").getextrema()) > 200


@pytest.mark.parametrize("corner", [(0, 0), (5, 90), (60, 3), (70, 110), (37, 55)])
def test_inset_finds_the_target_that_stands_out(corner):
    infrared = torch.full((1, 1, 80, 120), 0.3)
    infrared[..., :20] += 0.2  # a large warm area is no target
    row, column = corner
    infrared[..., row : row + 8, column : column + 6] = 1.0
    top, left, side = hottest_window(infrared)
    assert 0 <= top <= 80 - side
    assert 0 <= left <= 120 - side
    assert top <= row + 4 <= top + side
    assert left <= column + 3 <= left + side


def test_inset_of_tiny_and_flat_images_stays_inside():
    for size in ((8, 8), (9, 200), (30, 31)):
        top, left, side = hottest_window(torch.zeros(1, 1, *size))
        assert 0 <= top <= size[0] - side
        assert 0 <= left <= size[1] - side


def test_inset_is_drawn_in_the_corner_farthest_from_the_target():
    assert Inset(0.1, 0.1, 0.2, 0.2).corner == "bottom-right"
    assert Inset(0.7, 0.1, 0.2, 0.2).corner == "bottom-left"
    assert Inset(0.7, 0.7, 0.2, 0.2).corner == "top-left"


def test_spread_takes_evenly_spaced_pairs():
    assert spread(PAIRS, 99) == PAIRS
    assert spread(PAIRS, 2) == [PAIRS[0], PAIRS[-1]]
    assert spread(PAIRS, 0) == []


def test_long_curves_are_thinned_and_plots_follow_the_theme():
    long = curves("t", [Curve("t/total", range(100_000), [0.5] * 100_000)])
    assert len(long) < 40_000
    assert "var(--series-1)" in long
    assert not re.search(r"#0[1-5]0\d0\d", long)


def test_terms_of_different_size_share_a_logarithmic_axis():
    def drawn(*levels):
        lines = [Curve(f"t/{index}", [1, 2], [level, level]) for index, level in enumerate(levels)]
        return curves("t", lines)

    assert "$10^" in drawn(20.0, 0.1) or "mathdefault{10^" in drawn(20.0, 0.1)
    for linear in (drawn(20.0, 10.0), drawn(20.0, 0.0)):
        assert "10^" not in linear


def test_worst_cases_show_their_scores(html, table):
    worst = table.worst_pairs("maximum", 1)[0]
    place = table.pair_ids.index(worst)
    shown = f"VIF {table.values('maximum', 'VIF')[place]:.3f} ({table.mean('maximum', 'VIF'):.3f})"
    assert shown in html


def test_comparisons_are_grouped_by_the_other_method(html):
    assert html.count("maximum against mean") == 1


def test_bundled_loss_rows_become_curves_with_the_total_first():
    rows = [{"step": 1.0, "color": 0.1, "loss": 20.0}, {"step": 2.0, "color": 0.2, "loss": 9.0}]
    found = curves_of("student", rows)
    assert [curve.name for curve in found] == ["student/loss", "student/color"]
    assert found[0].values == [20.0, 9.0]
    assert curves_of("student", []) == []


def test_without_sources_the_panels_are_of_fused_pictures_alone(table):
    config = CONFIG.model_copy(update={"sources": False})
    panels, worst = collect_panels(METHODS, PAIRS, load, table, METHODS[0].name, config)
    assert {picture.label for panel in panels for picture in panel.pictures} == set(BASELINES)
    assert {picture.label for panel in worst for picture in panel.pictures} == {METHODS[0].name}


def test_peers_stand_in_the_table_but_for_those_scored_here(table):
    peers = [
        Peer("theirs", {table.metrics[0]: 1.2345}),
        Peer(METHODS[0].name, {table.metrics[0]: 9.8765}),
    ]
    page = Page(render_report(ReportData("t", "d", table, METHODS[0].name, peers=peers)))
    text = " ".join(page.text)
    assert "theirs" in text
    assert "1.234" in text or "1.235" in text
    assert "9.87" not in text
