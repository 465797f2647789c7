"""What people see of a search: the page, TensorBoard's HParams view, the terminal, the table."""

import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import plugin_data_pb2

from dtpf.cli import searches
from dtpf.core.errors import UserError
from dtpf.core.storage.store import Store
from dtpf.tuning.report import as_page, render_section
from dtpf.tuning.search import search_in_process
from dtpf.tuning.space import Domain, PaperRow, Space, TableSpec
from dtpf.tuning.table import TableRow, as_markdown, as_text
from dtpf.tuning.winner import choose_finalists
from tests.tuning.support import Planted, failing, planted_task


@pytest.fixture
def searched(tmp_path):
    space = Space(
        "shown<&>",
        {
            "model.width": Domain("choice", (4, 8, 12)),
            "distill.feature": Domain("loguniform", (0.01, 1.0)),
            "loss.preset": Domain("choice", ("paper", "released")),
        },
    )
    task = planted_task(tmp_path, space, trials=8)
    trials = search_in_process(task, run=Planted(failing))
    trials[0] = trials[0].model_copy(update={"status": "stopped", "retention": 0.31})
    return task, trials


class Page(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.links, self.text, self.rows = [], "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.rows += tag == "tr"
        self.links += [value for key, value in attrs if key in ("href", "src")]

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_every_trial_and_every_plot_and_needs_nothing_else(searched):
    task, trials = searched
    winner = choose_finalists(task, trials)[0]
    html = as_page(task, render_section(task, trials, winner))
    page = Page(html)
    assert page.links == []
    assert page.rows == len(trials) + 1
    for title in ("Retention against parameters", "Retention by round", "Parallel coordinates"):
        assert title in page.text
    assert html.count("<svg") == 3 + 3
    assert "shown<&>" in page.text
    assert f"trial {winner.number}" in page.text
    assert "width 8 cannot be trained" in page.text
    assert not re.search(r"#0[1-5]0[1-5]0[1-6]", html)


def test_the_effect_of_a_parameter_has_its_rank_correlation(searched):
    task, trials = searched
    good = [trial.model_copy(update={"retention": trial.number / 10}) for trial in trials]
    good = [
        trial.model_copy(
            update={"setting": {**trial.setting, "distill.feature": trial.number / 10}}
        )
        for trial in good
    ]
    assert "Rank correlation with retention +1.00" in render_section(task, good)


def test_a_search_without_results_still_has_a_page(tmp_path):
    task = planted_task(tmp_path)
    assert "<svg" not in render_section(task, [])
    one = task.trial(1, {"model.width": 4, "distill.feature": 0.1})
    assert "<svg" not in render_section(task, [one])
    single = one.model_copy(update={"retention": 0.5, "history": ((1, 0.5),), "status": "stopped"})
    assert "<svg" in render_section(task, [single])


def test_tensorboard_reads_settings_and_results_of_every_trial(searched, tmp_path):
    task, trials = searched
    root = tmp_path / task.base.root / "trials"
    runs = EventMultiplexer().AddRunsFromDirectory(str(root)).Reload()
    seen = {}
    for run in runs.Runs():
        name = run.split("/")[0]
        data = runs.SummaryMetadata(run, "_hparams_/session_start_info").plugin_data.content
        info = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
        seen[name] = dict(info.hparams.items())
    assert set(seen) == {trial.name for trial in trials}
    whole = next(trial for trial in trials if trial.status == "finished")
    hparams = seen[whole.name]
    assert hparams["model.width"].number_value == whole.setting["model.width"]
    assert hparams["loss.preset"].string_value == whole.setting["loss.preset"]
    (event,) = runs.Tensors(f"{whole.name}/tensorboard", "trial/retention")
    assert event.tensor_proto.float_val[0] == pytest.approx(whole.retention)
    failed = next(trial for trial in trials if trial.status == "failed")
    assert seen[failed.name]["status"].string_value == "failed"


def test_the_terminal_shows_a_runs_newest_search(searched, tmp_path):
    task, trials = searched
    store = Store(tmp_path)
    assert searches.find_search(store, "r") == task.base.root
    assert searches.find_search(store, "runs/r/search-1") == task.base.root
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    searches.print_search(store, task.base.root, console)
    text = console.export_text()
    assert "8 of 8 trials" in text
    assert "width 8 cannot be trained" in text
    best = max(t.retention for t in trials if t.retention is not None)
    assert f"{best:.4g}" in text
    assert "*" in text
    facts = searches.as_json(store, task.base.root)
    assert len(json.loads(json.dumps(facts))["trials"]) == 8
    with pytest.raises(UserError, match="runs that have one: r"):
        searches.find_search(store, "other")


def test_a_reproduced_table_stands_beside_the_published_one(tmp_path):
    paper = (PaperRow(method="48-dim", scores={"EN": 6.78, "VIF": 1.071}),)
    table = TableSpec(title="Table V", metrics=("EN", "VIF"), source="MSRS", paper=paper)
    space = Space("t", {"model.width": Domain("choice", (4, 8))}, table=table)
    task = planted_task(tmp_path, space)
    rows = [TableRow(task.trial(1, {"model.width": 4}), {"EN": 5.0, "VIF": 0.5})]
    text = as_text(space, rows).splitlines()
    assert [line.split()[-2:] for line in text] == [
        ["EN", "VIF"],
        ["5.000", "0.500"],
        ["6.780", "1.071"],
    ]
    assert "paper, MSRS: 48-dim" in text[2]
    markdown = as_markdown(space, rows)
    assert markdown.startswith("# Table V\n")
    assert "| model.width 4 | " in markdown
