import numpy as np
import pytest

from dtpf.serving.problems import InputError
from dtpf.serving.resizing import bring_to_one_size
from tests.serving.fakes import infrared_array, infrared_png, visible_array, visible_png


def test_one_size_is_left_alone():
    visible, infrared = visible_array(), infrared_array()
    assert bring_to_one_size(visible, infrared, "infrared") == (visible, infrared)


@pytest.mark.parametrize(("policy", "size"), [("visible", (48, 64)), ("infrared", (24, 32))])
def test_both_get_the_size_of_the_named_one(policy, size):
    visible, infrared = bring_to_one_size(visible_array(48, 64), infrared_array(24, 32), policy)
    assert (visible.shape, infrared.shape) == ((*size, 3), size)
    assert visible.dtype == infrared.dtype == np.float32
    assert min(visible.min(), infrared.min()) >= 0.0
    assert max(visible.max(), infrared.max()) <= 1.0


def test_a_ramp_stays_a_ramp():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
    _, infrared = bring_to_one_size(visible_array(96, 128), ramp, "visible")
    steps = np.diff(infrared[:, 4:-4], axis=1)
    np.testing.assert_allclose(steps, 0.5 / 63, atol=1e-4)


@pytest.mark.parametrize("policy", ["visible", "infrared"])
def test_proportions_that_differ_are_no_registered_pair(policy):
    with pytest.raises(InputError, match="proportions differ: visible is 64 x 48, infrared is"):
        bring_to_one_size(visible_array(48, 64), infrared_array(24, 34), policy)


def test_what_the_network_cannot_take_is_refused():
    with pytest.raises(InputError, match="15 x 40 pixels; sides must have at least 16"):
        bring_to_one_size(visible_array(40, 15), infrared_array(40, 15), "same")


def test_size_is_an_option_of_the_route(client):
    files = {"visible": visible_png(48, 64), "infrared": infrared_png(24, 32)}
    assert client.post("/fuse", files=files).status_code == 422
    assert client.post("/fuse?size=visible", files=files).status_code == 200
    assert client.post("/fuse?size=largest", files=files).json()["field"] == "size"
