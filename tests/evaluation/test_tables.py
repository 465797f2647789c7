"""The score table in every format; best and second best marked; comparisons and retention."""

import csv
import io
import json

import numpy as np
import pytest

from dtpf.core.errors import UserError
from dtpf.evaluation.compare import compare, retention_in
from dtpf.evaluation.score_table import ScoreTable
from dtpf.evaluation.tables import FORMATS, places, to_csv, to_json, to_latex, to_markdown, to_text

SCORES = {
    "net_a": {"EN": [7.0, 7.2], "Nabf": [0.20, 0.10]},
    "net_b": {"EN": [6.0, 6.0], "Nabf": [0.02, 0.02]},
    "mean": {"EN": [6.5, 6.9], "Nabf": [0.05, 0.05]},
}


def make(scores=SCORES):
    rows = [
        {"pair_id": f"p{i}", "method": method, "metric": metric, "value": value}
        for method, metrics in scores.items()
        for metric, values in metrics.items()
        for i, value in enumerate(values)
    ]
    return ScoreTable.from_rows(rows, "standard")


def test_best_and_second_follow_the_direction():
    marked = places(make())
    assert {key: place for key, place in marked.items() if place} == {
        ("net_a", "EN"): 1,
        ("mean", "EN"): 2,
        ("net_b", "Nabf"): 1,
        ("mean", "Nabf"): 2,
    }


def test_equal_print_is_equal_place_and_one_method_is_not_ranked():
    scores = {"a": {"EN": [7.0]}, "b": {"EN": [7.0001]}, "c": {"EN": [5.0]}}
    assert places(make(scores)) == {("a", "EN"): 1, ("b", "EN"): 1, ("c", "EN"): 2}
    assert places(make({"a": {"EN": [7.0]}})) == {("a", "EN"): None}


def test_text():
    lines = to_text(make()).splitlines()
    assert lines[0].split() == ["method", "EN", "↑", "Nabf", "↓"]
    assert lines[1].split() == ["net_a", "7.100*", "0.150"]
    assert lines[2].split() == ["net_b", "6.000", "0.020*"]
    assert lines[3].split() == ["mean", "6.700+", "0.050+"]
    assert "mean over 2 pairs, convention standard" in lines[4]


def test_markdown():
    lines = to_markdown(make()).splitlines()
    assert lines[:4] == [
        "| method | EN ↑ | Nabf ↓ |",
        "| --- | ---: | ---: |",
        "| net_a | **7.100** | 0.150 |",
        "| net_b | 6.000 | **0.020** |",
    ]
    assert lines[4] == "| mean | <u>6.700</u> | <u>0.050</u> |"


def test_latex():
    text = to_latex(make())
    assert r"method & EN $\uparrow$ & Nabf $\downarrow$ \\" in text
    assert r"net\_a & \textbf{7.100} & 0.150 \\" in text
    assert r"mean & \underline{6.700} & \underline{0.050} \\" in text
    assert text.count(r"\begin{tabular}{lrr}") == text.count(r"\end{tabular}") == 1


def test_names_cannot_break_latex_or_markdown():
    table = make({"a|b_50%": {"EN": [7.0]}, "{x}": {"EN": [6.0]}})
    assert r"a|b\_50\% & " in to_latex(table)
    assert r"\{x\} & " in to_latex(table)
    assert r"| a\|b_50% | **7.000** |" in to_markdown(table)


def test_a_limit_takes_no_place():
    marked = places(make({"a": {"EN": [6.0]}, "b": {"EN": [5.0]}, "limit SD": {"EN": [8.0]}}))
    assert marked == {("a", "EN"): 1, ("b", "EN"): 2, ("limit SD", "EN"): None}


def test_json_holds_the_comparisons():
    table = make()
    document = json.loads(to_json(table, compare(table, "net_a", "mean")))
    first = document["comparisons"][0]
    assert (first["first"], first["second"], first["metric"]) == ("net_a", "mean", "EN")
    assert first["wins"] == 2
    assert first["verdict"] == "better"
    assert len(first["interval"]) == 2


def test_csv_and_json_hold_every_value():
    table = make()
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 12
    assert rows[0] == {"pair_id": "p0", "method": "net_a", "metric": "EN", "value": "7"}
    document = json.loads(to_json(table))
    assert document["means"]["mean"] == pytest.approx({"EN": 6.7, "Nabf": 0.05})
    assert document["metrics"]["Nabf"]["direction"] == "lower"
    assert len(document["scores"]) == 12
    assert document["convention"]["name"] == "standard"
    assert "BT.601" in document["convention"]["summary"]
    assert set(FORMATS) == {"txt", "md", "tex", "csv", "json"}


def test_comparison_counts_wins_by_direction():
    entropy, artefacts = compare(make(), "net_a", "mean")
    assert (entropy.wins, entropy.losses, entropy.pairs) == (2, 0, 2)
    assert entropy.median_difference == pytest.approx(0.4)
    assert (artefacts.wins, artefacts.losses) == (0, 2)
    assert artefacts.median_difference == pytest.approx(0.1)
    assert artefacts.verdict == "worse"
    assert entropy.verdict == "better"


def test_interval_covers_the_true_median_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(40):
        noise = generator.normal(0.3, 1.0, 60).tolist()
        table = make({"a": {"EN": noise}, "b": {"EN": [0.0] * 60}})
        low, high = compare(table, "a", "b", seed=trial)[0].interval
        covered += low <= 0.3 <= high
    assert 34 <= covered <= 40


def test_comparison_is_repeatable_and_open_without_evidence():
    table = make({"a": {"EN": [1.0, 2.0, 3.0]}, "b": {"EN": [2.0, 1.0, 3.0]}})
    first = compare(table, "a", "b")
    assert first == compare(table, "a", "b")
    assert (first[0].wins, first[0].losses, first[0].pairs) == (1, 1, 3)
    assert first[0].verdict == "open"
    single = compare(make({"a": {"EN": [1.0]}, "b": {"EN": [2.0]}}), "a", "b")[0]
    assert single.interval is None
    assert single.verdict == "open"


def test_retention_is_the_share_of_the_teachers_mean():
    scores = {
        "teacher": {
            "VIF": [1.0, 1.0],
            "Qabf": [0.8, 0.8],
            "SSIM": [1.5, 1.5],
            "Nabf": [0.02, 0.02],
        },
        "student": {
            "VIF": [0.9, 0.9],
            "Qabf": [0.6, 1.0],
            "SSIM": [1.2, 1.2],
            "Nabf": [0.04, 0.04],
        },
    }
    kept = retention_in(make(scores), "student", "teacher")
    assert kept.shares == pytest.approx({"VIF": 0.9, "Qabf": 1.0, "SSIM": 0.8})
    assert kept.overall == pytest.approx(0.9)
    assert retention_in(make(scores), "student", "teacher", ("Nabf",)).overall == pytest.approx(0.5)


def test_wrong_names_are_user_errors():
    with pytest.raises(UserError, match="no method 'nobody' in the table; it has: net_a"):
        compare(make(), "nobody", "mean")
    with pytest.raises(UserError, match="retention needs VIF, Qabf, SSIM: add them"):
        retention_in(make(), "net_a", "net_b")
    zero = {"teacher": {"EN": [0.0]}, "student": {"EN": [1.0]}}
    with pytest.raises(UserError, match="retention of EN: scores must be positive"):
        retention_in(make(zero), "student", "teacher", ("EN",))
