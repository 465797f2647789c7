"""`dtpf evaluate`: methods named on the command line, scored on a folder of pairs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from tqdm import tqdm

from dtpf.core.bundle import CONFIG, load_bundle
from dtpf.core.errors import UserError
from dtpf.core.records import Pair
from dtpf.core.storage.keys import CURRENT
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path, normalise_uri
from dtpf.data.index import DataConfig, build_index
from dtpf.evaluation.baselines import BASELINES
from dtpf.evaluation.compare import compare
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import BaselineMethod, FolderMethod, Method, NetworkMethod
from dtpf.evaluation.report import ReportData, collect_panels, render_report
from dtpf.evaluation.score import ScoreTable, evaluate, in_split


@dataclass(frozen=True)
class Evaluation:
    """Methods and the pairs that they are scored on. Build with `prepare`."""

    dataset: str
    pairs: Sequence[Pair]
    methods: Sequence[Method]
    config: EvalConfig

    @classmethod
    def prepare(
        cls, data: str, split: Literal["train", "val", "test"], methods: Sequence[str]
    ) -> Self:
        """Index the pairs and open every method; pairs that cannot be used are reported.

        Raises:
            UserError: no pairs, or a method that cannot be opened.
        """
        config = EvalConfig(split=split)
        source = normalise_uri(data)
        # Nothing is written: an index of two folders keeps no images of its own.
        index = build_index(DataConfig(source=source), Store(source), "")
        for item in index.rejected:
            print(f"left out: {item.file}: {item.reason}", file=sys.stderr)
        pairs = in_split(index.pairs, config)
        opened = [_open_method(method, pairs) for method in methods]
        return cls(source.rpartition("/")[2], pairs, opened, config)

    def run(self) -> ScoreTable:
        """Score all methods, with a progress bar on a terminal."""
        with tqdm(total=len(self.pairs), unit="pair", disable=None) as bar:
            return evaluate(
                self.methods, self.pairs, load_pair, self.config, lambda done, total: bar.update()
            )

    def write_report(self, table: ScoreTable, out: str) -> None:
        """Write the HTML report; it is about the first method that is no baseline."""
        subject = next((name for name in table.methods if name not in BASELINES), table.methods[0])
        panels, worst = collect_panels(
            self.methods, self.pairs, load_pair, table, subject, self.config
        )
        others = [name for name in table.methods if name != subject]
        page = render_report(
            ReportData(
                title=f"Fusion of {self.dataset}",
                dataset=self.dataset,
                table=table,
                subject=subject,
                panels=panels,
                worst=worst,
                comparisons=[item for other in others for item in compare(table, subject, other)],
            )
        )
        folder, _, name = normalise_uri(out).rpartition("/")
        Store(folder).write_bytes(name, page.encode())


def _open_method(text: str, pairs: Sequence[Pair]) -> Method:
    """Return the method that `BASELINE`, `NAME=BUNDLE` or `NAME=FOLDER` means."""
    name, separator, place = text.partition("=")
    if not separator:
        return BaselineMethod(name)
    if not name or not place:
        raise UserError(f"--method {text}: expected a baseline, NAME=BUNDLE or NAME=FOLDER")
    folder = local_path(place)
    if folder is None or folder.name == CURRENT or (folder / CONFIG).is_file():
        return _network(name, place)
    return FolderMethod.open(name, Path(folder), pairs)


def _network(name: str, place: str) -> NetworkMethod:
    model = load_bundle(place).model
    if model.config.text:
        raise UserError(
            f"--method {name}={place}: this network needs captions (it is a teacher); "
            "evaluate it with jobs/evaluate.py"
        )
    return NetworkMethod(name, model)
