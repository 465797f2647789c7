"""Search for a better student, train the winner in full, score it, publish it and serve it.

ray job submit -- python jobs/tune_student.py --space tune_spaces/joint.yaml [--data URI]
    [--trials N] [--hours H] [--gpu-hours H] [--until STAGE]    (all options: --help)

Stages before the search run where the store has no result of them. Killed at any time, the same
command goes on; with a larger budget it goes on with the trials that are there.
"""

import json
from typing import Annotated

import typer

from dtpf.core.storage.store import Store
from dtpf.pipeline.plan import STAGES, Plan
from jobs.common import (
    DEFAULT_RECIPE,
    DEFAULT_STORE,
    Data,
    DryRun,
    Force,
    Local,
    Recipe,
    Settings,
    StoreUri,
    Strict,
    ending,
    execute,
    resolve_config,
)

Space = Annotated[
    str | None, typer.Option("--space", help="Search space: a file, or a name in tune_spaces/.")
]
Trials = Annotated[int | None, typer.Option("--trials", help="Budget: settings to try.")]
Hours = Annotated[float | None, typer.Option("--hours", help="Budget: wall time.")]
GpuHours = Annotated[float | None, typer.Option("--gpu-hours", help="Budget: GPUs times time.")]
Until = Annotated[str, typer.Option("--until", help="Last stage; tune searches and stops there.")]


def tune(
    space: Space = None,
    trials: Trials = None,
    hours: Hours = None,
    gpu_hours: GpuHours = None,
    until: Until = STAGES[-1],
    recipe: Recipe = DEFAULT_RECIPE,
    data: Data = None,
    store: StoreUri = DEFAULT_STORE,
    settings: Settings = None,
    force: Force = None,
    dry_run: DryRun = False,
    strict: Strict = False,
    local: Local = False,
) -> None:
    """Search for a better student than the untuned one."""
    if until not in STAGES:
        raise typer.BadParameter(f"known: {', '.join(STAGES)}", param_hint="--until")
    given = {"space": space, "trials": trials, "hours": hours, "gpu_hours": gpu_hours}
    asked = [f"tune.{k}={json.dumps(v)}" for k, v in given.items() if v is not None]
    stages = STAGES[: STAGES.index(until) + 1]
    with ending():
        config = resolve_config(recipe, data, [*(settings or []), *asked], strict)
        execute(Plan(config, Store(store)), stages, force, dry_run, local)


if __name__ == "__main__":
    typer.run(tune)
