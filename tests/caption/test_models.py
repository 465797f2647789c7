import shutil
import sys
import types

import pytest

from dtpf.caption.config import VlmConfig
from dtpf.caption.models import PRESETS, local_model, model_revision
from dtpf.core.errors import UserError

CACHE = VlmConfig().cache
BIG = 2_000_000  # bytes; weights of that size count by name and size


@pytest.fixture
def model(tmp_path):
    """A folder that looks like a model: config, tokenizer, weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (folder / "tokenizer.json").write_text("{}")
    write_weights(folder, BIG)
    return folder


def write_weights(folder, size, name="model.safetensors", start=b""):
    with (folder / name).open("wb") as sink:
        sink.write(start)
        sink.truncate(size)


@pytest.mark.parametrize("name", PRESETS)
def test_the_revision_of_a_preset_is_repository_and_commit(name):
    repository, _, commit = model_revision(name).partition("@")
    assert repository == PRESETS[name].repository
    assert len(commit) == 12
    assert PRESETS[name].commit.startswith(commit)


def test_presets_have_revisions_of_their_own():
    assert len({model_revision(name) for name in PRESETS}) == len(PRESETS)


def test_the_default_model_is_a_preset():
    assert VlmConfig().model in PRESETS


def test_the_revision_of_a_folder_does_not_depend_on_where_it_lies(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "elsewhere" / "copy")
    revision = model_revision(str(model))
    assert revision.startswith("folder-")
    assert model_revision(str(copy)) == model_revision(model.as_uri()) == revision


def change_config(folder):
    (folder / "config.json").write_text('{"model_type": "qwen2_vx"}')  # of the same size


def change_size_of_weights(folder):
    write_weights(folder, BIG + 1)


def rename_weights(folder):
    (folder / "model.safetensors").rename(folder / "tuned.safetensors")


def change_small_weights(folder):
    write_weights(folder, 500, "adapter.safetensors", b"tuned")


@pytest.mark.parametrize(
    "change", [change_config, change_size_of_weights, rename_weights, change_small_weights]
)
def test_the_revision_of_a_folder_changes_with_the_model(model, change):
    write_weights(model, 500, "adapter.safetensors")
    before = model_revision(str(model))
    change(model)
    assert model_revision(str(model)) != before


def test_large_weights_are_not_read(model):
    before = model_revision(str(model))
    write_weights(model, BIG, start=b"other numbers")
    assert model_revision(str(model)) == before


@pytest.mark.parametrize("call", [model_revision, lambda model: local_model(model, CACHE)])
def test_a_folder_without_config_is_refused_with_the_remedy(model, call):
    (model / "config.json").unlink()
    with pytest.raises(UserError, match=r"nor a folder with config\.json, weights") as caught:
        call(str(model))
    assert str(model) in str(caught.value)
    assert all(name in str(caught.value) for name in PRESETS)


def test_a_name_that_is_no_preset_is_refused_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="qwen2_vl_9b is neither one of qwen2_vl_2b, qwen2_vl_7b"):
        model_revision("qwen2_vl_9b")


def test_a_folder_on_disk_is_used_where_it_lies(model, tmp_path):
    cache = tmp_path / "cache"
    assert local_model(str(model), str(cache)) == str(model)
    assert local_model(model.as_uri(), str(cache)) == str(model)
    assert not cache.exists()


def test_a_preset_without_vllm_on_the_node_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install") as caught:
        local_model("qwen2_vl_2b", CACHE)
    assert "\n" not in str(caught.value)


def test_a_preset_out_of_reach_is_one_line_with_a_remedy(monkeypatch):
    def snapshot_download(repository, revision):
        raise OSError(f"cannot reach the hub for {revision}\nmore lines")

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(UserError, match=r"Qwen2-VL-2B-Instruct.*s3:// URI of a folder") as caught:
        local_model("qwen2_vl_2b", CACHE)
    assert PRESETS["qwen2_vl_2b"].commit in str(caught.value)
    assert "\n" not in str(caught.value)
