"""The evaluation report: one self-contained HTML page that opens offline and prints.

`render_report` is pure: it turns `ReportData` into text. `collect` gathers the data that
needs pictures.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from dtpf.core.metrics import find_metric
from dtpf.core.records import Pair
from dtpf.evaluation.baselines import ALIASES, BASELINES
from dtpf.evaluation.batches import Load
from dtpf.evaluation.compare import Comparison, Retention
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.limit import is_limit
from dtpf.evaluation.methods import Method
from dtpf.evaluation.panels import Panel, make_panels, spread
from dtpf.evaluation.peers import Peer
from dtpf.evaluation.plots import Curve, curves, distribution
from dtpf.evaluation.score import in_split
from dtpf.evaluation.score_table import ScoreTable
from dtpf.evaluation.tables import DIGITS, heading, places


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows; empty parts are left out.

    Attributes:
        title: heading of the page.
        dataset: name of the data set; the paper's rows appear where the paper measured it.
        table: all scores.
        subject: the method that the report is about; its worst cases are shown.
        panels: pairs with pictures.
        worst: pairs on which the subject does worst.
        comparisons: the subject held against other methods.
        retention: the student's share of its teacher.
        curves: training curves, named `plot/line`.
        tuning: `<section id="tuning">` about the search, as trusted HTML.
        run: what was run, in short: commit, data, captioner, text encoder, hardware.
        receipts: the same in full, by stage or by what it concerns.
        notes: sentences that a reader must know, such as which defaults stood in.
        peers: methods that others scored on the same pairs.
    """

    title: str
    dataset: str
    table: ScoreTable
    subject: str
    panels: Sequence[Panel] = ()
    worst: Sequence[Panel] = ()
    comparisons: Sequence[Comparison] = ()
    retention: Retention | None = None
    curves: Sequence[Curve] = ()
    tuning: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    receipts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    peers: Sequence[Peer] = ()


def collect_panels(
    methods: Sequence[Method],
    pairs: Sequence[Pair],
    load: Load,
    table: ScoreTable,
    subject: str,
    config: EvalConfig,
) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of typical pairs (all methods) and of the subject's worst (it alone)."""
    chosen = in_split(pairs, config)
    by_id = {pair.pair_id: pair for pair in chosen}
    worst = [by_id[pair_id] for pair_id in table.worst_pairs(subject, config.worst)]
    alone = [method for method in methods if method.name == subject]
    return (
        make_panels(methods, spread(chosen, config.panels), load, config.sources),
        make_panels(alone, worst, load, config.sources),
    )


def render_report(data: ReportData) -> str:
    """Return the page as one HTML document without any outside reference."""
    table = data.table
    page = _environment().get_template("report.html")
    return page.render(
        data=data,
        table=table,
        headings=[heading(metric) for metric in table.metrics],
        places=places(table),
        trivial={*BASELINES, *ALIASES},
        limits={method for method in table.methods if is_limit(method)},
        convention=table.convention,
        metrics=[find_metric(metric) for metric in table.metrics],
        peers=[peer for peer in data.peers if peer.method not in table.methods],
        paper=paper_rows(data.dataset),
        citation=_paper_tables()["citation"],
        distributions={metric: Markup(distribution(table, metric)) for metric in table.metrics},
        loss_plots=_loss_plots(data.curves),
        tuning=Markup(data.tuning),
        versus=_by_second(data.comparisons),
        worst_scores={panel.pair_id: _scores_of(data, panel.pair_id) for panel in data.worst},
        receipts={stage: _flat(facts) for stage, facts in data.receipts.items()},
    )


def paper_rows(dataset: str) -> dict[str, Any] | None:
    """Return the paper's table for a data set by name (`roadscene`, `msrs`, ...), or None."""
    return _paper_tables()["sets"].get(dataset.lower())


def _paper_tables() -> dict[str, Any]:
    source = resources.files("dtpf.evaluation") / "paper_tables.json"
    return json.loads(source.read_text(encoding="utf-8"))


def template_environment(package: str) -> Environment:
    """Return an environment for the templates of a package: escaped, nothing left undefined."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _environment() -> Environment:
    environment = template_environment("dtpf.evaluation")
    environment.filters["fixed"] = lambda value: f"{value:.{DIGITS}f}"
    environment.filters["signed"] = lambda value: f"{value:+.{DIGITS}f}"
    environment.filters["plain"] = _plain
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}%"
    return environment


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def _by_second(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    groups: dict[str, list[Comparison]] = {}
    for row in comparisons:
        groups.setdefault(row.second, []).append(row)
    return groups


def _scores_of(data: ReportData, pair_id: str) -> str:
    """Return the subject's scores on one pair, each with its mean over all pairs."""
    table = data.table
    place = table.pair_ids.index(pair_id)
    return ", ".join(
        f"{metric} {table.values(data.subject, metric)[place]:.{DIGITS}f} "
        f"({table.mean(data.subject, metric):.{DIGITS}f})"
        for metric in table.metrics
    )


def _loss_plots(lines: Sequence[Curve]) -> dict[str, Markup]:
    groups = groupby(lines, key=lambda curve: curve.name.partition("/")[0])
    return {title: Markup(curves(title, list(group))) for title, group in groups}


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested facts as `a.b` keys; lists stay in one cell."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = (
                json.dumps(value) if isinstance(value, (list, dict)) else value
            )
    return flat
