"""A published table reproduced by a space: every trial scored on the test split."""

from collections.abc import Sequence
from dataclasses import dataclass

from dtpf.core.bundle import load_bundle
from dtpf.core.records import Pair
from dtpf.core.storage.store import Store
from dtpf.evaluation.batches import Load
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import NetworkMethod
from dtpf.evaluation.score import Scoring, evaluate
from dtpf.tuning.space import Space
from dtpf.tuning.trials import SearchTask, Trial

DIGITS = 3


@dataclass(frozen=True)
class TableRow:
    """A trial and its mean scores over the split, by metric."""

    trial: Trial
    scores: dict[str, float]


def score_trials(
    task: SearchTask,
    trials: Sequence[Trial],
    pairs: Sequence[Pair],
    load: Load,
    config: EvalConfig,
    score: Scoring = evaluate,
) -> list[TableRow]:
    """Score the bundles of all finished trials with the metrics of the space's table.

    Args:
        task: a search whose space has a table.
        trials: of that search.
        pairs: an index; the split of `config` is scored.
        load: reads one pair.
        config: its metrics are replaced by those of the table.
        score: what scores, in this process or on a cluster.
    """
    assert task.space.table is not None, "only a space with a table is scored"
    finished = [trial for trial in trials if trial.status == "finished"]
    if not finished:
        return []
    store = Store(task.base.store)
    methods = [
        NetworkMethod(
            trial.name, load_bundle(store.uri_of(f"{task.spec(trial).root}/bundle")).model
        )
        for trial in finished
    ]
    chosen = config.model_copy(update={"metrics": task.space.table.metrics, "limit": ()})
    means = score(methods, pairs, load, chosen, None).means()
    return [TableRow(trial, dict(means[trial.name])) for trial in finished]


def as_text(space: Space, rows: Sequence[TableRow]) -> str:
    """Return aligned columns for the terminal, the published rows below."""
    lines = _lines(space, rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(space: Space, rows: Sequence[TableRow]) -> str:
    """Return a GitHub table under the title of the space's table."""
    assert space.table is not None, "only a space with a table has rows"
    header, *body = _lines(space, rows)
    ruler = ["---", *["---:"] * (len(header) - 1)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [header, ruler, *body])
    return f"# {space.table.title}\n\n{table}\n"


def _lines(space: Space, rows: Sequence[TableRow]) -> list[list[str]]:
    table = space.table
    assert table is not None, "only a space with a table has rows"
    measured = [
        [
            row.trial.shown,
            f"{row.trial.parameters / 1e6:.2f}",
            *(f"{row.scores[metric]:.{DIGITS}f}" for metric in table.metrics),
        ]
        for row in rows
    ]
    printed = [
        [f"paper, {table.source}: {row.method}", "", *(_printed(row.scores, table.metrics))]
        for row in table.paper
    ]
    return [["Setting", "Params (M)", *table.metrics], *measured, *printed]


def _printed(scores: dict[str, float], metrics: Sequence[str]) -> list[str]:
    return [f"{scores[name]:.{DIGITS}f}" if name in scores else "-" for name in metrics]
