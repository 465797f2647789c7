"""What `dtpf tune show` prints: a search and its trials, from the store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from dtpf.core.errors import UserError
from dtpf.core.storage import keys
from dtpf.core.storage.store import Store
from dtpf.tuning.ledger import SEARCH, SPENT, read_trials
from dtpf.tuning.trials import Trial
from dtpf.tuning.winner import pareto_front

_COLOURS = {"finished": "green", "failed": "red", "running": "yellow", "stopped": "dim"}

_ANY_WIDTH = 10_000


def as_json(store: Store, root: str) -> dict[str, Any]:
    """Return a search, what it spent and its trials as JSON types."""
    facts, spent = _read(store, root)
    rows = [trial.as_dict() for trial in read_trials(store, root)]
    return {"search": root, "spent": spent, **facts, "trials": rows}


def print_search(store: Store, root: str, console: Console) -> None:
    """Print a search and its trials."""
    (facts, spent), trials = _read(store, root), read_trials(store, root)
    console.print(_headline(root, facts, trials, spent), markup=False, highlight=False)
    table = trial_table(facts, trials)
    needed = Measurement.get(console, console.options.update(width=_ANY_WIDTH), table).maximum
    if not console.is_terminal:  # in a pipe nothing needs to be cut to a width
        console.width = max(console.width, needed)
    narrow = needed > console.width
    console.print(trial_table(facts, trials, one_column=True) if narrow else table)


def _read(store: Store, root: str) -> tuple[dict[str, Any], dict[str, float]]:
    spent = store.read_json(f"{root}/{SPENT}") if store.exists(f"{root}/{SPENT}") else {}
    return store.read_json(f"{root}/{SEARCH}"), spent


def find_search(store: Store, run: str) -> str:
    """Return the prefix of a search: the one that is named, or the newest of a run.

    Raises:
        UserError: there is none; lists the runs that have one.
    """
    name = run.strip("/").removeprefix("runs/")
    prefix = f"runs/{name}" if "/" in name else keys.searches_prefix(name)
    known = sorted(key.rpartition("/")[0] for key in store.keys("runs") if key.endswith(SEARCH))
    found = [root for root in known if root.startswith(prefix)]
    if not found:
        runs = ", ".join(sorted({root.split("/")[1] for root in known})) or "none"
        raise UserError(f"{run}: no search in {store.uri}; runs that have one: {runs}")
    return max(found, key=lambda root: store.read_json(f"{root}/{SEARCH}")["begun"])


def trial_table(
    facts: Mapping[str, Any], trials: Sequence[Trial], one_column: bool = False
) -> Table:
    """Return the trials, the best retention first; `*` marks the Pareto front.

    Args:
        facts: what `search.json` says.
        trials: of that search.
        one_column: put all parameters into one column, for narrow terminals.
    """
    by_latency = facts["config"]["cost"] == "latency"
    ranked = sorted(trials, key=lambda trial: -(trial.retention or -1.0))
    whole = [trial for trial in ranked if trial.status == "finished"]
    costs = [(trial.latency_ms or 0.0) if by_latency else trial.parameters for trial in whole]
    points = [(cost, trial.retention or 0.0) for cost, trial in zip(costs, whole, strict=True)]
    front = {whole[index].name for index in pareto_front(points)}
    timed = any(trial.latency_ms is not None for trial in trials)
    table = Table(box=box.SIMPLE_HEAD, caption="* no other trial beats it in retention and cost")
    heads = ["trial", "status", "retention", "parameters", *(["ms"] if timed else [])]
    for head in [*heads, "steps", "seconds"]:
        table.add_column(head, justify="left" if head == "status" else "right", no_wrap=True)
    for name in ["setting"] if one_column else facts["names"]:
        # A name takes a line for each of its parts: many parameters fit side by side.
        table.add_column(name.replace(".", ".\n"), justify="left" if one_column else "right")
    for trial in ranked:
        color = _COLOURS.get(trial.status, "")
        settings = [_number(trial.setting[name]) for name in facts["names"]]
        table.add_row(
            f"{trial.number}{'*' if trial.name in front else ' '}",
            f"[{color}]{trial.status}[/]" if color else trial.status,
            _number(trial.retention),
            f"{trial.parameters:,}",
            *([_number(trial.latency_ms)] if timed else []),
            str(trial.steps),
            f"{trial.seconds:.0f}",
            *([trial.shown] if one_column else settings),
        )
    return table


def _headline(
    root: str, facts: Mapping[str, Any], trials: Sequence[Trial], spent: Mapping[str, float]
) -> str:
    config = facts["config"]
    counts = Counter(trial.status for trial in trials)
    done = ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing yet"
    lines = [
        f"{root}: space {facts['space']}, search {config['search']}, stopping {config['stopping']}",
        f"{len(trials)} of {config['trials']} trials: {done}; {_spent(config, spent)}",
        f"limit {facts['parameter_limit']:,.0f} parameters of the teacher's "
        f"{facts['teacher_parameters']:,}",
    ]
    lines += [f"trial {trial.number}: {trial.error}" for trial in trials if trial.error]
    return "\n".join(lines)


def _spent(config: Mapping[str, Any], spent: Mapping[str, float]) -> str:
    shown = []
    for unit, name in (("hours", "seconds"), ("gpu_hours", "gpu_seconds")):
        hours, limit = spent.get(name, 0.0) / 3600, config[unit]
        if unit == "hours" or limit or hours:
            shown.append(f"{hours:.2f}{f' of {limit:g}' if limit else ''} {unit.replace('_', '-')}")
    return ", ".join(shown)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
