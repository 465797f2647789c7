"""A search over planted results: what a trial would train is replaced by a formula."""

from collections.abc import Callable
from pathlib import Path

from dtpf.core.errors import UserError
from dtpf.pipeline.specs import search_target
from dtpf.training.group import Group
from dtpf.tuning.config import TuneConfig, TuneResources
from dtpf.tuning.search import OnRound
from dtpf.tuning.space import Domain, Setting, Space
from dtpf.tuning.trials import RoundReport, SearchTask, Trial
from tests.small import small_config

SCORES = {"VIF": 0.8, "Qabf": 0.5, "SSIM": 1.0}
SPACE = Space(
    "planted",
    {
        "model.width": Domain("choice", (4, 8, 12)),
        "distill.feature": Domain("loguniform", (0.01, 1.0)),
    },
)


def planted_task(folder: Path, space: Space = SPACE, **settings) -> SearchTask:
    settings = {"trials": 4, "steps": 8, "max_parameter_share": 1.0, "startup": 3, **settings}
    base = search_target(small_config()).model_copy(
        update={"store": f"file://{folder}", "root": "runs/r/search-1"}
    )
    return SearchTask(base, space, TuneConfig(**settings), TuneResources(), SCORES, 2_000_000)


class Planted:
    """Runs a trial by `formula(setting)`; remembers which settings ran."""

    def __init__(self, formula: Callable[[Setting], float]) -> None:
        self.formula, self.ran = formula, []

    def __call__(self, task: SearchTask, trial: Trial, group: Group, on_round: OnRound) -> None:
        self.ran.append(trial.setting)
        value = self.formula(trial.setting)
        for number in range(1, task.config.rounds + 1):
            reached = value * number / task.config.rounds
            scores = {name: reached * score for name, score in SCORES.items()}
            step = number * task.steps_per_round
            on_round(RoundReport(number, step, task.objective(scores), scores))


def failing(setting: Setting) -> float:
    if setting["model.width"] == 8:
        raise UserError("width 8 cannot be trained")
    return 0.5 + setting["model.width"] / 100
