"""One evaluation from its settings: pairs indexed, methods opened, scored, reported.

`dtpf evaluate` and `jobs/evaluate.py` are this module, in one process or on a cluster.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dtpf.core.bundle import CONFIG, Bundle, load_bundle
from dtpf.core.config import Config, apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.records import Pair
from dtpf.core.shipped import located, shipped_names
from dtpf.core.storage.keys import CURRENT
from dtpf.core.storage.receipts import environment
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import normalise_uri
from dtpf.data.index import DataConfig, IndexReport, build_index
from dtpf.evaluation.baselines import ALIASES, BASELINES
from dtpf.evaluation.batches import Load
from dtpf.evaluation.compare import Comparison, Retention, compare, retention_in
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.files import contents, write_files
from dtpf.evaluation.folders import FolderMethod
from dtpf.evaluation.limit import PixelLimit, is_limit
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import BaselineMethod, Method, NetworkMethod
from dtpf.evaluation.peers import Peer, read_peers
from dtpf.evaluation.report import ReportData, collect_panels, render_report
from dtpf.evaluation.running import bundle_curves, bundle_facts, run_facts
from dtpf.evaluation.score import Progress, Scoring, evaluate, in_split
from dtpf.evaluation.score_table import ScoreTable

STUDENT, TEACHER = "student", "teacher"


class EvaluationSpec(Config):
    """What to evaluate, on what, and how.

    Attributes:
        data: the pairs.
        methods: each a baseline, `NAME=BUNDLE` or `NAME=FOLDER`.
        evaluation: metrics, convention, limits.
    """

    data: DataConfig
    methods: tuple[str, ...]
    evaluation: EvalConfig = EvalConfig()

    @classmethod
    def from_options(
        cls, data: str, methods: Sequence[str], settings: Sequence[str]
    ) -> "EvaluationSpec":
        """Return the settings of a command line; `settings` are KEY=VALUE, the last word.

        Raises:
            UserError: an unknown key, or a value of the wrong type.
        """
        source = normalise_uri(data)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.rpartition("/")[2]).lstrip(".-_") or "data"
        spec = cls(data=DataConfig(source=source, name=name), methods=tuple(methods))
        return apply_overrides(spec, settings)


@dataclass(frozen=True)
class Session:
    """Methods and the pairs that they are scored on. Build with `prepare`.

    Attributes:
        spec: the settings.
        index: all pairs of the data, and those left out.
        pairs: those of the split.
        methods: opened.
        bundles: the networks among them, by name.
        peers: methods that others scored on the same pairs.
    """

    spec: EvaluationSpec
    index: IndexReport
    pairs: Sequence[Pair]
    methods: Sequence[Method]
    bundles: dict[str, Bundle] = field(default_factory=dict)
    peers: Sequence[Peer] = ()

    @classmethod
    def prepare(cls, spec: EvaluationSpec) -> "Session":
        """Index the pairs and open every method.

        Raises:
            UserError: no pairs, or a method or the peers' scores that cannot be opened.
        """
        # Nothing is written: an index of two folders keeps no images of its own.
        index = build_index(spec.data, Store(spec.data.source), "")
        pairs = in_split(index.pairs, spec.evaluation)
        others = [pair for pair in index.pairs if pair.split != spec.evaluation.split]
        bundles: dict[str, Bundle] = {}
        opened = [_open(method, pairs, others, bundles) for method in spec.methods]
        peers = read_peers(spec.evaluation, [pair.pair_id for pair in pairs])
        return cls(spec, index, pairs, [*opened, *limits(spec.evaluation)], bundles, peers)

    @property
    def remarks(self) -> Iterator[str]:
        """What a person should know: pairs left out, files set aside."""
        for item in self.index.rejected:
            yield f"left out: {item.file}: {item.reason}"
        for method in self.methods:
            if isinstance(method, FolderMethod) and method.set_aside:
                names = ", ".join(method.set_aside)
                yield f"{method.name}: {len(method.set_aside)} images of other splits: {names}"

    @property
    def subject(self) -> str:
        """The method that the report is about: the first network, else the first that counts."""
        ranked = [method.name for method in self.methods if not is_limit(method.name)]
        candidates = [*self.bundles, *(n for n in ranked if n not in {*BASELINES, *ALIASES})]
        return next(iter([*candidates, *ranked, *(method.name for method in self.methods)]))

    def run(self, progress: Progress, scoring: Scoring = evaluate) -> ScoreTable:
        """Score all methods."""
        return scoring(self.methods, self.pairs, self._load, self.spec.evaluation, progress)

    def comparisons(self, table: ScoreTable) -> list[Comparison]:
        """Return the subject held against every other method."""
        others = [name for name in table.methods if name != self.subject and not is_limit(name)]
        return [item for other in others for item in compare(table, self.subject, other)]

    def report(self, table: ScoreTable) -> str:
        """Return the HTML report."""
        config = self.spec.evaluation
        panels, worst = collect_panels(
            self.methods, self.pairs, self._load, table, self.subject, config
        )
        provenance = self.bundles[self.subject].provenance if self.subject in self.bundles else {}
        curves = [
            curve for name, bundle in self.bundles.items() for curve in bundle_curves(name, bundle)
        ]
        papers = {name: bundle_facts(bundle) for name, bundle in self.bundles.items()}
        return render_report(
            ReportData(
                title=f"Fusion of {self.spec.data.name}",
                dataset=self.spec.data.name,
                table=table,
                subject=self.subject,
                panels=panels,
                worst=worst,
                comparisons=self.comparisons(table),
                retention=self._retention(table),
                curves=curves,
                run=run_facts(table, self.spec.data.source, self.index.digest, provenance),
                receipts={
                    "config": self.spec.as_dict(),
                    "environment": environment(),
                    **papers,
                },
                notes=list(self.remarks),
                peers=self.peers,
            )
        )

    def write(self, table: ScoreTable, out: str) -> list[str]:
        """Write what `out` says (see `files.write_files`); returns the URIs written."""
        made = contents(table, self.comparisons(table), partial(self.report, table))
        return write_files(out, made)

    @property
    def _load(self) -> Load:
        return partial(load_pair, scaling=self.spec.data.infrared_scaling)

    def _retention(self, table: ScoreTable) -> Retention | None:
        if not {STUDENT, TEACHER} <= set(table.methods):
            return None
        try:
            return retention_in(table, STUDENT, TEACHER)
        except UserError:  # a metric of retention is not in the table
            return None


def limits(config: EvalConfig) -> list[PixelLimit]:
    """Return the limits that a config asks for."""
    rules = config.rules()
    return [PixelLimit(mix, config.limit_steps, config.reference, rules) for mix in config.limit]


def _open(
    text: str, pairs: Sequence[Pair], others: Sequence[Pair], bundles: dict[str, Bundle]
) -> Method:
    """Return the method that `BASELINE`, a shipped network, or `NAME=BUNDLE|FOLDER` means."""
    name, separator, place = text.partition("=")
    if not separator:
        if name not in shipped_names():
            return BaselineMethod(name)
        place = name
    if not name or not place:
        raise UserError(f"--method {text}: expected a baseline, NAME=BUNDLE or NAME=FOLDER")
    if is_limit(name):
        raise UserError(f"--method {text}: names that start with 'limit ' are taken")
    place = located(place)
    if not place.endswith(f"/{CURRENT}") and not Store(place).exists(CONFIG):
        return FolderMethod.open(name, place, pairs, others)
    bundles[name] = load_bundle(place)
    model = bundles[name].model
    if model.config.text:
        raise UserError(
            f"--method {text}: this network needs captions (it is a teacher); evaluate it with "
            "jobs/evaluate.py, which has them, or give a folder of its fused images"
        )
    return NetworkMethod(name, model)
