"""Which trials are chosen, and which ones no other beats in both objectives."""

from collections.abc import Sequence

from dtpf.core.errors import UserError
from dtpf.tuning.trials import SearchTask, Trial


def choose_finalists(task: SearchTask, trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials of best retention within the limits, the best first.

    As many as `tune.finalists` allows; of equals, the smaller student comes first.

    Raises:
        UserError: no trial finished within the limits; says what would help.
    """
    finished = [trial for trial in trials if trial.status == "finished"]
    allowed = [trial for trial in finished if within_limits(task, trial)]
    if allowed:
        ranked = sorted(allowed, key=lambda trial: (-(trial.retention or 0.0), trial.parameters))
        return ranked[: task.config.finalists]
    limits = f"{task.parameter_limit:,.0f} parameters"
    remedy = "raise tune.max_parameter_share or lower the widths of the space"
    if task.config.max_latency_ms is not None:
        limits += f" and {task.config.max_latency_ms:g} ms"
        remedy += ", or raise tune.max_latency_ms"
    if not finished:
        remedy = "raise the budget (tune.trials, tune.hours, tune.gpu_hours) and run it again"
    errors = [f"trial {trial.number}: {trial.error}" for trial in trials if trial.error]
    raise UserError(
        f"tune: none of {len(trials)} trials finished within {limits} "
        f"({len(finished)} finished); {remedy}" + (f"; first error: {errors[0]}" if errors else "")
    )


def within_limits(task: SearchTask, trial: Trial) -> bool:
    """Say whether a trial's student may win: small enough, and fast enough if a cap is set."""
    cap = task.config.max_latency_ms
    fast = cap is None or (trial.latency_ms is not None and trial.latency_ms <= cap)
    return fast and trial.parameters <= task.parameter_limit


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the positions of the (cost, gain) that no other beats in both, by rising cost.

    A point is beaten by one that costs no more and gains no less, and differs in one of them.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        same = bool(front) and points[index] == points[front[-1]]
        if not front or same or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
