"""Which stages there are, what each depends on, and under which key its result lies.

A stage's fingerprint covers its settings and the fingerprints of the stages before it; a stage
whose receipt exists is skipped. So changing a setting redoes that stage and those after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dtpf.caption.captioner import maker_of
from dtpf.core.config import fingerprint
from dtpf.core.errors import UserError
from dtpf.core.storage import keys
from dtpf.core.storage.keys import StageKeys
from dtpf.core.storage.receipts import Receipt, read_receipt
from dtpf.core.storage.store import Store
from dtpf.data.index import listing_fingerprint
from dtpf.pipeline.config import PipelineConfig
from dtpf.pipeline.specs import search_target
from dtpf.tuning.space import Space
from dtpf.tuning.space_file import find_space, load_space

STAGES = ("data", "caption", "teacher", "student", "tune", "evaluate", "deploy")
BEFORE = dict(zip(STAGES[1:], STAGES, strict=False))

# Raised when a stage's code changes what it writes, so that older results are not taken for new.
VERSIONS = dict.fromkeys(STAGES, 1) | {"caption": 2, "tune": 3, "evaluate": 2}

TITLES = {
    "data": "index image pairs",
    "caption": "name degradations, encode texts",
    "teacher": "train the text-guided teacher",
    "student": "distil the text-free student",
    "tune": "search loss weights and width, choose the winner",
    "evaluate": "score on the test split, write the report",
    "deploy": "publish the winner and serve it",
}


@dataclass(frozen=True)
class Step:
    """One stage of a plan: its keys, and its receipt if it is complete."""

    name: str
    keys: StageKeys
    receipt: Receipt | None


class Plan:
    """The stages of one configuration over one store.

    Raises:
        UserError: the search space does not fit the config, or the data source cannot be listed.
    """

    def __init__(self, config: PipelineConfig, store: Store) -> None:
        self.config = config
        self.store = store
        self._listing = listing_fingerprint(config.data)
        self._settings: Mapping[str, Callable[[], Any]] = {
            "data": lambda: [config.data.as_dict(), self._listing],
            "caption": lambda: {
                **config.caption.identity(),
                "revision": self._caption_revision,
            },
            "teacher": lambda: [config.teacher.as_dict(), config.loss.as_dict()],
            "student": lambda: [config.student.as_dict(), config.loss.as_dict()],
            "tune": self._tune_settings,
            "evaluate": config.evaluation.identity,
            "deploy": lambda: config.serve.name,
        }
        self.space()

    def step(self, name: str) -> Step | None:
        """Return a stage's keys and receipt; None while the stage before it is not complete."""
        before = self._digest_before(name)
        if before is None:
            return None
        digest = fingerprint(name, VERSIONS[name], self._settings[name](), before)
        place = keys.stage_keys(name, digest, run=self.config.run, dataset=self.config.data.name)
        return Step(name, place, read_receipt(self.store, place))

    def need(self, name: str) -> Receipt:
        """Return the receipt of a complete stage.

        Raises:
            UserError: it has not been run with these settings; names the job that does.
        """
        step = self.step(name)
        if step is None or step.receipt is None:
            raise UserError(
                f"stage {name} has no result with these settings in {self.store.uri}; "
                f"run jobs/{JOBS[name]}.py, or jobs/pipeline.py for all of them"
            )
        return step.receipt

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings of a stage, for its receipt."""
        settings = self._settings[name]()
        return settings if isinstance(settings, dict) else {"settings": settings}

    def space(self) -> Space:
        """Return the search space, checked against the student's training spec."""
        return load_space(find_space(self.config.tune.space), search_target(self.config))

    def search_root(self) -> str:
        """Return where the trials of the search lie; a larger budget goes on with them.

        Only of use once the stage before is complete.
        """
        digest = fingerprint(
            "search",
            VERSIONS["tune"],
            self.config.tune.trial_identity(),
            self.space().as_dict(),
            self._digest_before("tune"),
        )
        return keys.search_prefix(self.config.run, digest)

    def forget(self, name: str) -> list[str]:
        """Delete the results of a stage and of all after it; returns the names of the stages."""
        if name not in STAGES:
            raise UserError(f"--force {name}: unknown stage; known: {', '.join(STAGES)}")
        dropped = [step for step in map(self.step, STAGES[STAGES.index(name) :]) if step]
        for step in reversed(dropped):  # the last first: what is left is always a whole prefix
            self.store.delete(step.keys.receipt)
            self.store.delete(step.keys.root)
            if step.name == "tune":
                self.store.delete(self.search_root())
            stored = step.receipt.outputs.get("teacher_outputs") if step.receipt else None
            if step.name == "student" and stored:
                self.store.delete(stored)
            if step.name == "caption":
                dataset = self.config.data.name
                self.store.delete(keys.embeddings_prefix(dataset, step.keys.digest))
        return [step.name for step in dropped]

    @cached_property
    def _caption_revision(self) -> str:
        """Once a plan: a model's folder has to be read for it, on S3 perhaps."""
        return maker_of(self.config.caption).revision

    def _tune_settings(self) -> dict[str, Any]:
        space = self.space()
        table = list(space.table.metrics) if space.table else []
        return {**self.config.tune.identity(), "space": space.as_dict(), "table": table}

    def _digest_before(self, name: str) -> str | None:
        if name == "data":
            return ""
        step = self.step(BEFORE[name])
        if step is None or step.receipt is None:
            return None
        # What an index contains counts, not when its files were listed.
        return step.receipt.outputs.get("digest", step.keys.digest)


JOBS = {
    "data": "index",
    "caption": "caption",
    "teacher": "train_teacher",
    "student": "distill_student",
    "tune": "tune_student",
    "evaluate": "evaluate",
    "deploy": "deploy",
}
