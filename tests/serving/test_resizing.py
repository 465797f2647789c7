import io

import pytest
from PIL import Image

from dtpf.serving.problems import InputError
from dtpf.serving.resizing import check_sizes
from tests.serving.fakes import infrared_png, visible_png


@pytest.mark.parametrize("policy", ["same", "visible", "infrared"])
def test_pairs_of_one_size_pass(policy):
    check_sizes((48, 64), (48, 64), policy)


@pytest.mark.parametrize(("policy", "size"), [("visible", (64, 48)), ("infrared", (32, 24))])
def test_the_result_has_the_size_of_the_named_one(client, policy, size):
    files = {"visible": visible_png(48, 64), "infrared": infrared_png(24, 32)}
    answer = client.post(f"/fuse?size={policy}", files=files)
    assert Image.open(io.BytesIO(answer.content)).size == size


@pytest.mark.parametrize("policy", ["visible", "infrared"])
def test_proportions_that_differ_are_no_registered_pair(policy):
    with pytest.raises(InputError, match="proportions differ: visible is 64 x 48, infrared is"):
        check_sizes((48, 64), (24, 34), policy)


def test_what_the_network_cannot_take_is_refused():
    with pytest.raises(InputError, match="15 x 40 pixels; sides must have at least 16"):
        check_sizes((40, 15), (40, 15), "same")


def test_size_is_an_option_of_the_route(client):
    files = {"visible": visible_png(48, 64), "infrared": infrared_png(24, 32)}
    assert client.post("/fuse", files=files).status_code == 422
    assert client.post("/fuse?size=visible", files=files).status_code == 200
    assert client.post("/fuse?size=largest", files=files).json()["field"] == "size"
