"""The command line, on tiny untrained networks and small files made by other means."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dtpf.cameras import batch
from dtpf.cli import fusing
from dtpf.cli.app import app
from dtpf.core import shipped
from dtpf.core.bundle import save_bundle
from dtpf.core.models import PRESETS, build, count_parameters
from dtpf.core.storage.store import Store
from dtpf.serving.tokens import TokenFile
from tests.data.files import file_of, picture, write_pair

STEMS = ("a", "b", "c")


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def error_of(*arguments: object) -> str:
    """The one line on stderr of a command that the user must mend."""
    result = run(*arguments, code=2)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert result.stdout == ""
    return lines[0]


def bundle_at(folder: Path, preset: str = "student_tiny") -> Path:
    torch.manual_seed(0)
    model = build(preset).eval()
    save_bundle(
        Store(folder.parent),
        folder.name,
        model,
        provenance={"data": "none at all"},
        metrics={"VIF": 0.5},
    )
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bundle_at(tmp_path_factory.mktemp("models") / "v7")


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Pairs of 40 x 56 pixels: `vi/a.jpg` and `ir/a.png`, and so on."""
    for seed, stem in enumerate(STEMS):
        write_pair(tmp_path, stem, seed=3 * seed)
    return tmp_path


@pytest.fixture
def one(pairs) -> tuple[Path, Path]:
    return pairs / "vi/a.jpg", pairs / "ir/a.png"


def fuse_tiny(*arguments: object, code: int = 0):
    return run("fuse", *arguments, "--model", "student_tiny", "--device", "cpu", code=code)


# info


def test_info_of_a_preset_as_json():
    facts = json.loads(run("info", "student_tiny", "--size", "64x96", "--json").stdout)
    assert facts["parameters"] == count_parameters(build("student_tiny"))
    assert (facts["height"], facts["width"], facts["stride"]) == (64, 96, 64)
    assert facts["config"] == PRESETS["student_tiny"].as_dict()
    assert facts["flops"] > 0


def test_info_counts_more_operations_for_more_pixels():
    small, large = (
        json.loads(run("info", "student_tiny", "--size", size, "--json").stdout)["flops"]
        for size in ("64x64", "128x128")
    )
    assert large == pytest.approx(4 * small, rel=0.01)  # a few products have no pixels in them


def test_info_of_a_bundle_adds_its_papers(bundle):
    facts = json.loads(run("info", bundle, "--size", "64x64", "--json").stdout)
    assert facts["version"] == "v7"
    assert facts["provenance"] == {"data": "none at all"}
    assert facts["metrics"] == {"VIF": 0.5}
    assert facts["parameters"] == count_parameters(build("student_tiny"))


def test_info_as_text_shows_the_same_facts(bundle):
    lines = run("info", bundle, "--size", "64x64").stdout.splitlines()
    words = [line.split(maxsplit=1) for line in lines]
    assert ["version", "v7"] in words
    assert ["data", "none at all"] in words
    assert ["parameters", f"{count_parameters(build('student_tiny')):,}"] in words
    assert ["VIF", "0.5"] in words


def test_info_names_the_presets_when_there_is_none_of_that_name():
    message = error_of("info", "student_huge")
    assert "student_huge" in message
    assert "student_tiny" in message


@pytest.mark.parametrize("size", ["64", "8x64", "64x-64", "axb", "64x64x3"])
def test_info_rejects_a_size_that_is_none(size):
    assert f"--size {size}" in error_of("info", "student_tiny", "--size", size)


# fuse


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("JPG", "JPEG"), ("tif", "TIFF"), ("webp", "WEBP")]
)
def test_fuse_writes_what_the_suffix_says(one, tmp_path, suffix, kind):
    out = tmp_path / f"new/fused.{suffix}"
    fuse_tiny(*one, "-o", out)
    with Image.open(out) as image:
        assert (image.format, image.mode, image.size) == (kind, "RGB", (56, 40))
    assert [file.name for file in out.parent.iterdir()] == [out.name]  # no temporary file is left


def test_fuse_writes_what_the_network_says(one, bundle, tmp_path):
    run("fuse", *one, "-o", tmp_path / "f.png", "--model", bundle, "--device", "cpu")
    seen, heat = (np.asarray(Image.open(path)) / np.float32(255) for path in one)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = build("student_tiny").eval()(
            torch.from_numpy(seen).permute(2, 0, 1)[None].float(),
            torch.from_numpy(heat)[None, None].float(),
        )
    written = np.asarray(Image.open(tmp_path / "f.png")).astype(float)
    wanted = 255 * expected[0].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(written - wanted).max() <= 0.51
    assert written.std() > 1


def test_fuse_gray_is_the_luminance(one, tmp_path):
    fuse_tiny(*one, "-o", tmp_path / "color.png")
    fuse_tiny(*one, "-o", tmp_path / "gray.png", "--gray")
    gray = Image.open(tmp_path / "gray.png")
    assert gray.mode == "L"
    color = Image.open(tmp_path / "color.png").convert("L")  # BT.601 too
    assert np.abs(np.asarray(gray).astype(int) - np.asarray(color).astype(int)).max() <= 1


def test_fuse_pairs_folders_by_name(pairs, tmp_path):
    for file in (pairs / "ir").iterdir():
        file.rename(file.with_name(file.name.upper()))
    result = fuse_tiny(pairs / "vi", pairs / "ir", "-o", tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]
    assert "fused 3 of 3 pairs" in result.stderr
    fuse_tiny(pairs / "vi/b.jpg", pairs / "ir/B.PNG", "-o", tmp_path / "b.png")
    assert (tmp_path / "out/b.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_fuse_keeps_folders_below_folders(pairs, tmp_path):
    for side in ("vi", "ir"):
        (pairs / side / "night").mkdir()
        source = next((pairs / side).glob("a.*"))
        shutil.copy(source, pairs / side / "night")
    fuse_tiny(pairs / "vi", pairs / "ir", "-o", tmp_path / "out")
    assert (tmp_path / "out/night/a.png").is_file()
    assert (tmp_path / "out/a.png").is_file()


def test_fuse_goes_on_after_a_corrupt_pair_and_reports_it(pairs, tmp_path):
    broken = pairs / "ir/b.png"
    broken.write_bytes(broken.read_bytes()[:100])
    result = fuse_tiny(pairs / "vi", pairs / "ir", "-o", tmp_path / "out", code=1)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    *_, error, summary = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert "ir/b.png" in error
    assert summary == "fused 2 of 3 pairs"


def test_fuse_names_images_without_a_partner_and_fuses_the_others(pairs, tmp_path):
    (pairs / "ir/b.png").unlink()
    (pairs / "vi/c.jpg").unlink()
    result = fuse_tiny(pairs / "vi", pairs / "ir", "-o", tmp_path / "out", code=1)
    alone = [line for line in result.stderr.splitlines() if "no partner" in line]
    assert [line.rpartition("/")[2].split(":")[0] for line in alone] == ["c.png", "b.jpg"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.png"]


def test_fuse_refuses_folders_without_one_common_name(pairs, tmp_path):
    for stem in STEMS:
        (pairs / f"ir/{stem}.png").rename(pairs / f"ir/x{stem}.png")
    assert "no two images" in error_of("fuse", pairs / "vi", pairs / "ir", "-o", tmp_path / "out")


def test_fuse_rejects_two_images_of_one_name(pairs, tmp_path):
    shutil.copy(pairs / "ir/a.png", pairs / "vi/A.png")
    message = error_of("fuse", pairs / "vi", pairs / "ir", "-o", tmp_path / "out")
    assert "same name" in message


def damage_missing(visible: Path, infrared: Path) -> None:
    infrared.unlink()


def damage_text(visible: Path, infrared: Path) -> None:
    visible.write_text("this is no picture")


def damage_empty(visible: Path, infrared: Path) -> None:
    infrared.write_bytes(b"")


def damage_sizes(visible: Path, infrared: Path) -> None:
    infrared.write_bytes(file_of(picture(40, 48, channels=1)))


def damage_small(visible: Path, infrared: Path) -> None:
    for path, channels in ((visible, 3), (infrared, 1)):
        path.write_bytes(file_of(picture(8, 8, channels=channels)))


@pytest.mark.parametrize(
    ("damage", "named", "said"),
    [
        (damage_missing, "ir/a.png", "no such file"),
        (damage_text, "vi/a.jpg", "not an image"),
        (damage_empty, "ir/a.png", "empty"),
        (damage_sizes, "vi/a.jpg", "visible is 56x40 and infrared is 48x40"),
        (damage_small, "vi/a.jpg", "16 pixels"),
    ],
)
def test_fuse_rejects_a_bad_pair(one, tmp_path, damage, named, said):
    damage(*one)
    out = tmp_path / "fused.png"
    message = error_of("fuse", *one, "-o", out, "--model", "student_tiny")
    assert named in message
    assert said in message
    assert not out.exists()


@pytest.mark.parametrize("out", ["fused", "fused.exe", "fused.bmp"])
def test_fuse_rejects_an_output_of_unknown_kind(one, tmp_path, out):
    assert ".png" in error_of("fuse", *one, "-o", tmp_path / out, "--model", "student_tiny")


def test_fuse_never_replaces_an_input(one, pairs):
    before = one[1].read_bytes()
    assert "replace" in error_of("fuse", *one, "-o", one[1], "--model", "student_tiny")
    folders = (pairs / "vi", pairs / "ir")
    assert "replace" in error_of("fuse", *folders, "-o", f"{folders[1]}/")
    assert one[1].read_bytes() == before


def test_fuse_takes_two_files_or_two_folders(one, pairs, tmp_path):
    assert "two folders" in error_of("fuse", one[0], pairs / "ir", "-o", tmp_path / "f.png")
    folders = (pairs / "vi", pairs / "ir")
    assert "a folder" in error_of("fuse", *folders, "-o", tmp_path / "f.png")


def test_fuse_uses_the_shipped_network_by_default(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("fuse", *one, "-o", "f.png", "--device", "cpu")
    run("fuse", *one, "-o", "told.png", "--model", shipped.DEFAULT, "--device", "cpu")
    run("fuse", *one, "-o", "other.png", "--model", "student_tiny", "--device", "cpu")
    assert Path("f.png").read_bytes() == Path("told.png").read_bytes()
    assert Path("f.png").read_bytes() != Path("other.png").read_bytes()


def test_an_unknown_name_lists_trained_and_untrained_networks(one, tmp_path):
    message = error_of("fuse", *one, "-o", tmp_path / "f.png", "--model", "student_5m")
    assert f"trained: {', '.join(shipped.shipped_names())}" in message
    assert "untrained: teacher_40m" in message


def test_fuse_refuses_a_teacher(one, tmp_path):
    message = error_of("fuse", *one, "-o", tmp_path / "f.png", "--model", "teacher_tiny")
    assert "text" in message


def test_fuse_refuses_a_damaged_bundle(one, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert "damaged" in error_of("fuse", *one, "-o", tmp_path / "f.png", "--model", copy)


def test_fuse_says_when_there_is_no_gpu(one, tmp_path, monkeypatch):
    monkeypatch.setattr(fusing.torch.cuda, "is_available", lambda: False)
    arguments = (*one, "-o", tmp_path / "f.png", "--model", "student_tiny", "--device", "cuda")
    assert "--device cpu" in error_of("fuse", *arguments)


# evaluate


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Three pairs to test on and one to train on, of 48 x 64 pixels: metrics need 41 a side."""
    root = tmp_path / "msrs"
    for seed, name in enumerate([*(f"test/{{}}/{stem}.png" for stem in STEMS), "train/{}/d.png"]):
        for side, channels in (("vi", 3), ("ir", 1)):
            path = root / name.format(side)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file_of(picture(48, 64, 5 * seed + channels, channels)))
    return root


def test_evaluate_compares_all_kinds_of_methods(dataset, bundle, tmp_path):
    fuse_tiny(dataset / "test/vi", dataset / "test/ir", "-o", tmp_path / "theirs")
    arguments = ["evaluate", "--data", dataset, "--method", "mean"]
    arguments += ["--method", f"student={bundle}", "--method", f"theirs={tmp_path / 'theirs'}"]
    document = json.loads(run(*arguments, "--json", "-o", tmp_path / "r/report.html").stdout)
    assert document["pairs"] == 3
    means = document["means"]
    assert list(means) == ["mean", "student", "theirs"]
    # One network, once through 8-bit files: rounding moves scores a little.
    for metric, value in means["student"].items():
        assert means["theirs"][metric] == pytest.approx(value, rel=0.05, abs=0.01), metric
    assert means["mean"] != means["student"]
    page = (tmp_path / "r/report.html").read_text()
    assert "Fusion of msrs" in page
    assert page.count("data:image/jpeg;base64,") >= 3 * 5


def test_evaluate_prints_a_table_and_says_what_it_left_out(dataset):
    (dataset / "test/ir/b.png").write_bytes(b"no picture")
    result = run("evaluate", "--data", dataset, "--method", "mean", "--method", "maximum")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["method", "mean", "maximum"]
    assert "mean over 2 pairs" in lines[-1]
    assert "test/ir/b.png" in result.stderr


def test_evaluate_takes_the_split_that_is_told(dataset):
    arguments = ("evaluate", "--data", dataset, "--method", "mean", "--json")
    document = json.loads(run(*arguments, "--split", "train").stdout)
    assert {row["pair_id"] for row in document["scores"]} == {"d"}


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("median", "unknown baseline 'median'"),
        ("=here", "NAME=FOLDER"),
        ("x=", "NAME=FOLDER"),
        ("theirs=/no/such/folder", "no folder"),
    ],
)
def test_evaluate_rejects_a_method_that_it_cannot_open(dataset, method, said):
    assert said in error_of("evaluate", "--data", dataset, "--method", method)


def test_evaluate_refuses_a_teacher(dataset, tmp_path):
    teacher = bundle_at(tmp_path / "teacher", "teacher_tiny")
    message = error_of("evaluate", "--data", dataset, "--method", f"t={teacher}")
    assert "captions" in message


def test_evaluate_names_the_fused_images_that_are_missing(dataset, tmp_path):
    shutil.copytree(dataset / "test/vi", tmp_path / "theirs")
    (tmp_path / "theirs/c.png").unlink()
    arguments = ("evaluate", "--data", dataset, "--method", f"theirs={tmp_path / 'theirs'}")
    assert "missing 1 (c)" in error_of(*arguments)


def test_evaluate_takes_convention_metrics_and_settings(dataset):
    arguments = ("evaluate", "--data", dataset, "--method", "max", "--json")
    more = ("--convention", "evaluator", "--metrics", "MI,AG", "--set", "evaluation.gray=mean")
    document = json.loads(run(*arguments, *more).stdout)
    assert list(document["metrics"]) == ["MI", "AG"]
    assert document["convention"]["name"] == "evaluator with gray mean"
    assert "compat" in error_of(*arguments, "--convention", "mine")
    assert "unknown PSNR" in error_of(*arguments, "--metrics", "PSNR")
    assert "did you mean 'gray'" in error_of(*arguments, "--set", "evaluation.grey=mean")


def test_evaluate_adds_upper_bounds(dataset):
    arguments = ("evaluate", "--data", dataset, "--method", "max", "--json")
    few = ("--set", "evaluation.limit_steps=3", "--set", "data.limit=1")
    means = json.loads(run(*arguments, "--limit", "--mix", "SSIM+2*VIF", *few).stdout)["means"]
    assert list(means) == ["max", "limit VIF+Qabf", "limit SSIM+2*VIF"]
    best = means["limit VIF+Qabf"]
    assert best["VIF"] + best["Qabf"] >= means["max"]["VIF"] + means["max"]["Qabf"]
    assert "EN is without a derivative" in error_of(*arguments, "--mix", "EN")


def test_evaluate_writes_each_format_and_refuses_others_before_it_starts(dataset, tmp_path):
    arguments = ("evaluate", "--data", dataset, "--method", "mean", "--method", "max")
    run(*arguments, "-o", tmp_path / "t.tex", "-o", tmp_path / "all")
    assert "\\toprule" in (tmp_path / "t.tex").read_text()
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"report.html", "table.md", "table.tex", "scores.csv", "scores.json"} <= names
    assert ".html" in error_of(*arguments, "-o", tmp_path / "report.pdf")


def test_evaluate_says_what_lies_there_for_other_splits(dataset, tmp_path):
    theirs = tmp_path / "theirs"
    shutil.copytree(dataset / "test/vi", theirs)
    shutil.copy(dataset / "train/vi/d.png", theirs / "d.png")
    result = run("evaluate", "--data", dataset, "--method", f"theirs={theirs}")
    assert "1 images of other splits: d" in result.stderr
    assert "mean over 3 pairs" in result.stdout


def test_evaluate_rejects_one_name_for_two_methods(dataset):
    arguments = ("evaluate", "--data", dataset, "--method", "mean", "--method", "mean")
    assert "distinct" in error_of(*arguments)


def test_evaluate_says_when_there_are_no_pairs(tmp_path):
    missing = tmp_path / "nowhere"
    assert str(missing) in error_of("evaluate", "--data", missing, "--method", "mean")


# serve


def test_serve_passes_the_address_on(bundle, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "dtpf.serving.local.serve_local", lambda uri, config: calls.append((uri, config))
    )
    result = run("serve", bundle, "--port", 8123)
    ((uri, config),) = calls
    assert uri == {"student": str(bundle)}
    assert (config.host, config.port) == ("127.0.0.1", 8123)
    assert "http://127.0.0.1:8123" in result.stderr


def test_serve_takes_several_models_tokens_and_settings(bundle, monkeypatch):
    calls = []
    monkeypatch.setattr("dtpf.serving.local.serve_local", lambda *given: calls.append(given))
    models = [f"day={bundle}", "night=s3://b/night"]
    run("serve", *models, "--tokens", "tokens.json", "--set", "max_batch_size=3")
    ((sources, config),) = calls
    assert sources == {"day": str(bundle), "night": "s3://b/night"}
    assert (config.tokens_file, config.max_batch_size) == ("tokens.json", 3)
    assert "need names" in error_of("serve", bundle, "night=s3://b/night")


def test_token_is_printed_once_and_its_digest_kept(tmp_path):
    path = tmp_path / "tokens.json"
    first = run("token", path, "lab", "--requests-per-minute", 60).stdout.strip()
    assert first not in path.read_text()
    second = run("token", path, "lab", "--rotate").stdout.strip()
    assert TokenFile(path).find(first) is None
    assert TokenFile(path).find(second).name == "lab"
    assert run("token", path, "lab", "--remove").stdout == ""
    assert TokenFile(path).find(second) is None
    assert "name" in error_of("token", path, "a b")


def test_serve_rejects_a_port_that_is_none(bundle):
    assert "port" in error_of("serve", bundle, "--port", 99999)


def test_serve_rejects_what_is_no_bundle(tmp_path):
    result = run("serve", tmp_path, "--port", 18765, code=2)
    assert "no bundle there" in result.stderr.splitlines()[-1]


# the installed program


def test_the_installed_program_answers_without_loading_torch():
    program = Path(sys.executable).with_name("dtpf")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {"info", "fuse", "evaluate", "serve"} <= set(done.stdout.split())
    script = "import sys, dtpf.cli; print([m for m in ('torch', 'pyarrow') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


def test_a_defect_keeps_its_traceback(one, tmp_path, monkeypatch):
    def broken(*arguments: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(batch, "encode", broken)
    result = CliRunner().invoke(
        app, ["fuse", *map(str, one), "-o", str(tmp_path / "f.png"), "--model", "student_tiny"]
    )
    assert isinstance(result.exception, RuntimeError)
