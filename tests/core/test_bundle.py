"""Bundles: what is saved is what is loaded, and nothing damaged is."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from dtpf import Fuser
from dtpf.core.bundle import load_bundle, save_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import ModelConfig, build
from dtpf.core.storage.store import Store

TINY = ModelConfig(width=4, blocks=(1, 1, 1, 1), refinement=0, ffn_expansion=1.0, text=False)


@pytest.fixture
def store(tmp_path) -> Store:
    torch.manual_seed(1)
    store = Store(tmp_path)
    model = build(TINY)
    save_bundle(store, "models/m/v1", model, provenance={"data": "none"}, metrics={"EN": 7.0})
    return store


def test_round_trip(store):
    bundle = load_bundle(store.uri_of("models/m/v1"))
    torch.manual_seed(1)
    expected = build(TINY).state_dict()
    assert all(torch.equal(expected[k], v) for k, v in bundle.model.state_dict().items())
    assert bundle.info["provenance"] == {"data": "none"}
    assert bundle.info["metrics"] == {"EN": 7.0}
    assert bundle.version == "v1"
    assert "sha256" in store.read_bytes("models/m/v1/card.md").decode()


def test_current_json_leads_to_the_bundle(store):
    store.write_json("models/m/current.json", {"uri": store.uri_of("models/m/v1")})
    assert load_bundle(store.uri_of("models/m/current.json")).version == "v1"


@pytest.mark.parametrize(
    ("key", "data", "words"),
    [
        ("config.json", None, "no bundle there"),
        ("model.safetensors", b"x", "damaged"),
        ("config.json", b"{", "not valid JSON"),
    ],
)
def test_what_is_damaged_is_named(store, key, data, words):
    if data is None:
        store.delete(f"models/m/v1/{key}")
    else:
        store.write_bytes(f"models/m/v1/{key}", data)
    with pytest.raises(UserError, match=words):
        load_bundle(store.uri_of("models/m/v1"))


def test_weights_that_do_not_fit_are_named(store):
    from hashlib import sha256

    weights = save({"conv.weight": torch.zeros(1)})
    document = store.read_json("models/m/v1/config.json")
    store.write_bytes("models/m/v1/model.safetensors", weights)
    digest = sha256(weights).hexdigest()
    store.write_json("models/m/v1/config.json", document | {"sha256": digest})
    with pytest.raises(UserError, match=r"weights do not fit config\.json"):
        load_bundle(store.uri_of("models/m/v1"))


def test_a_teacher_is_no_fuser():
    with pytest.raises(UserError, match="fuse with a student"):
        Fuser.from_bundle("teacher_tiny")


@pytest.mark.parametrize("size", [(16, 16), (37, 91)])
def test_the_result_is_of_the_kind_of_the_visible_image(store, size):
    fuser = Fuser.from_bundle(store.uri_of("models/m/v1"))
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    heat = rgb[..., 1]
    fused = fuser(rgb, heat)
    assert fused.dtype == np.uint8
    assert fused.shape == (*size, 3)
    as_pil = fuser(Image.fromarray(rgb), Image.fromarray(heat))
    np.testing.assert_array_equal(np.asarray(as_pil), fused)
    as_torch = fuser(torch.from_numpy(rgb), torch.from_numpy(heat))
    np.testing.assert_array_equal(as_torch.numpy(), fused)
    as_float = fuser(rgb / 255.0, heat / 255.0)
    np.testing.assert_allclose(as_float, fused / 255.0, atol=1 / 255)


def test_sizes_must_agree(store):
    fuser = Fuser.from_bundle(store.uri_of("models/m/v1"))
    with pytest.raises(UserError, match=r"visible is 20x16 and infrared is 16x20"):
        fuser(np.zeros((16, 20, 3), np.uint8), np.zeros((20, 16), np.uint8))
