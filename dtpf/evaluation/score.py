"""Run methods over a set of pairs and collect every score."""

from collections.abc import Callable, Sequence

import torch

from dtpf.core.errors import UserError
from dtpf.core.metrics import score
from dtpf.core.records import Pair
from dtpf.evaluation.batches import Batch, Load, group_pairs
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import Method
from dtpf.evaluation.score_table import Row, ScoreTable

Progress = Callable[[int, int], None]
Scoring = Callable[
    [Sequence[Method], Sequence[Pair], Load, EvalConfig, Progress | None], ScoreTable
]


def evaluate(
    methods: Sequence[Method],
    pairs: Sequence[Pair],
    load: Load,
    config: EvalConfig,
    progress: Progress | None = None,
) -> ScoreTable:
    """Fuse and score every pair of the config's split with every method, in this process.

    Args:
        methods: what to compare; their names must differ.
        pairs: an index; other splits are left out.
        load: reads one pair.
        config: metrics, reference, convention.
        progress: called as (pairs done, pairs in all) after each batch.

    Raises:
        UserError: no pair in the split, a name twice, or a pair that cannot be scored.
    """
    chosen = in_split(pairs, config)
    check_names(methods)
    rows: list[Row] = []
    done = 0
    for group in group_pairs(chosen, config.resources.batch):
        rows += score_group(methods, group, load, config)
        done += len(group)
        if progress:
            progress(done, len(chosen))
    return collect(rows, chosen, config)


def in_split(pairs: Sequence[Pair], config: EvalConfig) -> list[Pair]:
    """Return the pairs of the config's split.

    Raises:
        UserError: there is none.
    """
    chosen = [pair for pair in pairs if pair.split == config.split]
    if not chosen:
        known = ", ".join(sorted({pair.split for pair in pairs})) or "no pairs at all"
        raise UserError(f"the index has no pair in split {config.split!r}; it has: {known}")
    return chosen


def check_names(methods: Sequence[Method]) -> None:
    """Raise UserError unless there are methods and their names differ."""
    names = [method.name for method in methods]
    if not names or len(set(names)) != len(names):
        raise UserError(f"methods need distinct names and at least one, got {names}")


def score_group(
    methods: Sequence[Method], group: Sequence[Pair], load: Load, config: EvalConfig
) -> list[Row]:
    """Load pairs of one size as a batch and return their rows of the score table."""
    batch = Batch.join([load(pair) for pair in group]).to(_device(config))
    return [row for method in methods for row in _scores(method, batch, config)]


def collect(rows: Sequence[Row], pairs: Sequence[Pair], config: EvalConfig) -> ScoreTable:
    """Return the table with its rows in the order of the pairs."""
    place = {pair.pair_id: index for index, pair in enumerate(pairs)}
    ordered = sorted(rows, key=lambda row: place[row["pair_id"]])
    return ScoreTable.from_rows(ordered, config.rules())


def _scores(method: Method, batch: Batch, config: EvalConfig) -> list[Row]:
    fused = method.fuse(batch)
    try:
        values = score(fused, *batch.references(config.reference), config.metrics, config.rules())
    except UserError:  # of a library or weights, no fault of the pair
        raise
    except ValueError as error:
        first = batch.pairs[0].pair_id
        raise UserError(f"{first}, method {method.name}: {error}") from None
    columns = {name: scores.tolist() for name, scores in values.items()}
    return [
        {"pair_id": pair.pair_id, "method": method.name, "metric": name, "value": column[index]}
        for index, pair in enumerate(batch.pairs)
        for name, column in columns.items()
    ]


def _device(config: EvalConfig) -> torch.device:
    wanted, available = config.resources.device, torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("device cuda: no CUDA GPU is available here; use cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
