"""A whole evaluation from its settings: data by folder names, files written, what was run."""

import json

import numpy as np
import pytest

from dtpf.core.bundle import save_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import build
from dtpf.core.storage.store import Store
from dtpf.data.images import encode_png
from dtpf.evaluation.files import NAMES
from dtpf.evaluation.score import evaluate
from dtpf.evaluation.session import EvaluationSpec, Session

LOSSES = [{"step": 1.0, "loss": 20.0, "ssim": 0.5}, {"step": 2.0, "loss": 9.0, "ssim": 0.4}]


def write_pairs(root, folders=("vi", "ir"), splits=("test", "train"), count=2):
    generator = np.random.default_rng(0)
    for split in splits:
        for index in range(count):
            for folder, shape in zip(folders, ((48, 56, 3), (48, 56)), strict=True):
                path = root / split / folder / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(generator.random(shape).astype(np.float32)))
    return root


@pytest.fixture
def data(tmp_path):
    return write_pairs(tmp_path / "roads")


def prepare(data, methods, *settings):
    return Session.prepare(EvaluationSpec.from_options(str(data), methods, settings))


def silent(done, total):
    pass


@pytest.fixture
def student(tmp_path):
    """A bundle as a run leaves it: its loss curve lies beside it."""
    store = Store(tmp_path / "run")
    provenance = {"captioner": "statistics", "text_encoder": "hashed"}
    save_bundle(store, "bundle", build("student_tiny"), provenance=provenance)
    store.write_json("losses.json", LOSSES)
    return tmp_path / "run" / "bundle"


def test_a_report_tells_what_was_run(data, student):
    session = prepare(data, ["max", f"student={student}"], "evaluation.panels=1")
    assert session.subject == "student"
    page = session.report(session.run(silent))
    for fact in ("statistics", "hashed", session.index.digest, "standard: gray bt601", "Training"):
        assert fact in page, fact
    assert "student against max" in page
    assert "evaluation.reference" in page  # the whole config is there


def test_a_folder_gets_every_format_and_a_suffix_one(data, tmp_path):
    session = prepare(data, ["mean", "max"])
    table = session.run(silent)
    written = session.write(table, str(tmp_path / "out"))
    assert [uri.rpartition("/")[2] for uri in written] == list(NAMES.values())
    assert (tmp_path / "out" / "table.tex").read_text().startswith("% mean over 2 pairs")
    document = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {row["second"] for row in document["comparisons"]} == {"max"}
    (single,) = session.write(table, str(tmp_path / "more" / "t.md"))
    assert single.endswith("/more/t.md")
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["t.md"]
    with pytest.raises(UserError, match=r"r\.pdf: end it in \.html"):
        session.write(table, "r.pdf")


def test_folders_may_be_told_by_name(tmp_path):
    data = write_pairs(tmp_path / "odd", ("left", "right"))
    with pytest.raises(UserError, match=r"--set data\.visible_folder=NAME"):
        prepare(data, ["mean"])
    told = ("data.visible_folder=left", "data.infrared_folder=right")
    assert len(prepare(data, ["mean"], *told).pairs) == 2
    with pytest.raises(UserError, match="did you mean 'visible_folder'"):
        prepare(data, ["mean"], "data.visible_folders=left")


@pytest.mark.parametrize("scan", ["pet", "spect", "ct"])
def test_medical_pairs_are_called_by_their_scans_and_stand_beside_the_papers(tmp_path, scan):
    data = write_pairs(tmp_path / f"{scan}-mri", (scan, "mri"))
    session = prepare(data, ["mean", "max"], "evaluation.panels=1", "evaluation.worst=0")
    page = session.report(session.run(silent))
    assert f"<figcaption>{scan.upper()}</figcaption>" in page
    assert "<figcaption>MRI</figcaption>" in page
    assert "<figcaption>visible</figcaption>" not in page
    assert "Table II of the paper" in page


def test_what_was_left_out_is_told(data, tmp_path):
    (data / "test" / "ir" / "test1.png").write_bytes(b"no picture")
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("test0", "train0"):
        (folder / f"{name}.png").write_bytes((data / f"{name[:-1]}/vi/{name}.png").read_bytes())
    session = prepare(data, [f"theirs={folder}"])
    remarks = list(session.remarks)
    assert "test1.png" in remarks[0]
    assert remarks[1] == "theirs: 1 images of other splits: train0"
    page = session.report(session.run(silent))
    assert "theirs: 1 images of other splits" in page


def test_retention_where_a_student_and_a_teacher_are_named(data, student, tmp_path):
    folder = tmp_path / "fused"
    folder.mkdir()
    for index in range(2):
        (folder / f"test{index}.png").write_bytes((data / f"test/vi/test{index}.png").read_bytes())
    session = prepare(data, [f"student={student}", f"teacher={folder}"])
    assert "Student keeps of its teacher" in session.report(session.run(silent))
    session = prepare(
        data, [f"student={student}", f"teacher={folder}"], 'evaluation.metrics=["EN"]'
    )
    assert "Student keeps of its teacher" not in session.report(session.run(silent))


def test_limits_stand_beside_the_methods(data):
    session = prepare(data, ["max"], 'evaluation.limit=["VIF"]', "evaluation.limit_steps=3")
    table = session.run(silent, evaluate)
    assert table.methods == ("max", "limit VIF")
    assert session.comparisons(table) == []
    page = session.report(table)
    assert "upper bound" in page
    assert "1 methods, 1 upper bound;" in page
    with pytest.raises(UserError, match="names that start with 'limit '"):
        prepare(data, ["limit x=somewhere"])


def test_a_name_of_the_data_is_made_fit_for_a_key():
    spec = EvaluationSpec.from_options("/some/Meine Bilder (neu)", ["mean"], [])
    assert spec.data.name == "Meine-Bilder-neu-"
    with pytest.raises(UserError, match="convention"):
        EvaluationSpec.from_options("/x", ["mean"], ["evaluation.convention=mine"])
