"""Exported networks: what onnxruntime makes of them, what the file says, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dtpf import Fuser
from dtpf.cli.app import app
from dtpf.core.bundle import Bundle, load_bundle, save_bundle
from dtpf.core.errors import UserError
from dtpf.core.export import PRECISIONS, Exported, export_onnx
from dtpf.core.fusion import fuse_tensors
from dtpf.core.models import ModelConfig, build
from dtpf.core.storage.store import Store

TINY = ModelConfig(width=4, blocks=(1, 1, 1, 1), refinement=0, ffn_expansion=1.0, text=False)
EXAMPLE = Path(__file__).parents[2] / "docs/examples/fuse_onnx.py"

# What is left of torch's accuracy: rounding in another order; 11 bits of each weight; 8 bits.
BOUNDS = {"float32": 1e-4, "float16": 2e-3, "int8": 2e-2}


def bundle_of(config: ModelConfig | str) -> Bundle:
    """Return a network whose every weight matters, also those that start at zero or one."""
    torch.manual_seed(0)
    model = build(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return Bundle(model, "memory:tests/v3", "0" * 64)


def session_of(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.enable_mem_reuse = False  # to plan it takes most of the time of loading
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def inputs_of(batch: int, height: int, width: int, text: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * height + width)
    images = torch.rand(batch, 4, height, width, generator=generator)
    inputs = {"visible": images[:, :3], "infrared": images[:, 3:]}
    return inputs | ({"text": torch.randn(batch, 512, generator=generator)} if text else {})


def run(session: onnxruntime.InferenceSession, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])


def difference(session, bundle: Bundle, inputs: dict[str, torch.Tensor]) -> float:
    expected = fuse_tensors(bundle.model, *inputs.values())
    fused = run(session, inputs)
    assert fused.shape == expected.shape
    return (fused - expected).abs().max().item()


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    return bundle_of(TINY)


@pytest.fixture(scope="module")
def files(tiny) -> dict[str, bytes]:
    return {precision: export_onnx(tiny, precision).data for precision in PRECISIONS}


@pytest.fixture(scope="module")
def session(files) -> onnxruntime.InferenceSession:
    return session_of(files["float32"])


@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [(1, 16, 17), (1, 64, 64), (2, 63, 70), (1, 129, 33), (3, 64, 200)],
)
def test_any_size_and_batch_as_in_torch(tiny, session, batch, height, width):
    assert difference(session, tiny, inputs_of(batch, height, width)) < BOUNDS["float32"]


def test_an_image_does_not_see_its_batch(session):
    inputs = inputs_of(3, 70, 64)
    together = run(session, inputs)
    for n in range(3):
        alone = run(session, {name: x[n : n + 1] for name, x in inputs.items()})
        torch.testing.assert_close(alone[0], together[n], rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_a_valid_file_within_its_bound(tiny, files, precision):
    onnx.checker.check_model(onnx.load_from_string(files[precision]), full_check=True)
    found = difference(session_of(files[precision]), tiny, inputs_of(1, 63, 70))
    assert found < BOUNDS[precision]
    assert precision == "float32" or found > 1e-6  # something was rounded


def test_no_product_of_signed_with_unsigned_bytes(files):
    """A processor without VNNI adds those in pairs of 16 bits, which overflow."""
    graph = onnx.load_from_string(files["int8"]).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = {weights[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"}
    assert found == {onnx.TensorProto.UINT8}


def test_nothing_is_computed_twice(files):
    graph = onnx.load_from_string(files["float32"]).graph
    said = [
        (node.op_type, *node.input, *(part.SerializeToString() for part in node.attribute))
        for node in graph.node
    ]
    assert len(said) == len(set(said)) > 100
    assert "Constant" not in {node.op_type for node in graph.node}


def weight_bytes(data: bytes) -> int:
    return sum(len(tensor.raw_data) for tensor in onnx.load_from_string(data).graph.initializer)


def test_smaller_precisions_hold_smaller_weights(files):
    whole, half, quarter = (weight_bytes(files[precision]) for precision in PRECISIONS)
    assert half < 0.6 * whole
    assert quarter < 0.9 * half


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_says_what_it_is(tiny, files, precision):
    model = onnx.load_from_string(files[precision])
    said = {item.key: item.value for item in model.metadata_props}
    assert (said["version"], said["sha256"]) == ("v3", "0" * 64)
    assert (said["precision"], said["stride"], said["smallest_side"]) == (precision, "64", "16")
    assert all("in [0, 1]" in said[name] for name in ("visible", "infrared", "fused"))
    assert json.loads(said["config"]) == tiny.model.config.as_dict()
    assert [item.name for item in model.graph.input] == ["visible", "infrared"]
    assert [item.name for item in model.graph.output] == ["fused"]


OTHERS = {
    "text": {"text": True, "channel_heads": (2, 1, 4, 1), "head_dim": 6},
    "windows": {"window": 6, "overlap": 0.0, "start": "brighter", "fusion": "multiscale"},
    "pyramid": {"start": "pyramid", "overlap": 1.0, "fusion": "dynamic"},
    "bands": {"start": "bands"},
    "restoration": {"restoration": 4},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_network(name):
    # Measured on two sizes and batches that the graph was not recorded with.
    exported = export_onnx(bundle_of(TINY.model_copy(update=OTHERS[name])))
    assert exported.difference < BOUNDS["float32"]


def test_the_student_of_the_paper():
    assert export_onnx(bundle_of("student_4m")).difference < BOUNDS["float32"]


def test_a_pyramid_that_depends_on_the_size_is_refused():
    bundle = bundle_of(TINY.model_copy(update={"start": "pyramid", "window": 4}))
    with pytest.raises(UserError, match="window of 8 or more"):
        export_onnx(bundle)


def test_missing_packages_are_named(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'dtpf\[onnx\]'"):
        export_onnx(tiny)


# The command, and the example without torch.


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_bundle(Store(folder), "v1", tiny.model, provenance={"data": "none"})
    return folder / "v1"


def export(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_command_writes_one_file(saved, tmp_path):
    result = export(saved, "--precision", "float16", "-o", tmp_path / "new/student.onnx")
    assert "float16" in result.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["student.onnx"]
    model = onnx.load(tmp_path / "new/student.onnx")
    said = {item.key: item.value for item in model.metadata_props}
    assert (said["version"], said["sha256"]) == ("v1", load_bundle(saved).sha256)


@pytest.mark.parametrize(
    ("bundle", "options", "out", "words"),
    [
        (None, ("--format", "tflite"), "s.onnx", "--format tflite: unknown; use onnx"),
        (None, ("--precision", "int4"), "s.onnx", "--precision int4: unknown; use float32"),
        (None, (), "s.bin", "s.bin: end it in .onnx"),
        ("elsewhere", (), "s.onnx", "no bundle there (config.json is missing)"),
    ],
)
def test_the_command_refuses_and_writes_nothing(saved, tmp_path, bundle, options, out, words):
    source = tmp_path / bundle if bundle else saved
    result = export(source, *options, "-o", tmp_path / out, code=2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(saved, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dtpf.core.storage.store.os.replace", full)
    monkeypatch.setattr("dtpf.cli.exporting.export_onnx", lambda *_: Exported(b"a model", 0.0))
    result = export(saved, "-o", tmp_path / "student.onnx", code=2)
    assert "the disk is full" in result.stderr
    assert list(tmp_path.iterdir()) == []


WITHOUT_TORCH = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "dtpf"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_example_fuses_without_torch(saved, files, tmp_path):
    rng = np.random.default_rng(0)
    visible, infrared = (
        Image.fromarray(rng.integers(0, 256, (61, 83, *channels), np.uint8))
        for channels in ((3,), ())
    )
    names = [tmp_path / name for name in ("vi.png", "ir.png", "student.onnx", "fused.png")]
    visible.save(names[0])
    infrared.save(names[1])
    names[2].write_bytes(files["float32"])
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, EXAMPLE, *names], check=True)
    expected = np.asarray(Fuser.from_bundle(saved)(visible, infrared)).astype(int)
    assert np.abs(np.asarray(Image.open(names[3])).astype(int) - expected).max() <= 1
    assert expected.std() > 1
