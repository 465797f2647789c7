"""Restorer: what it sees and does against plain loops, and what it promises at the start."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dtpf.core.models import FusionNet, ModelConfig, build, preset
from dtpf.core.models.restoration import Restorer


def restorer(dtype: torch.dtype = torch.float32) -> Restorer:
    """One that changes what it is given."""
    torch.manual_seed(0)
    result = Restorer(4).to(dtype)
    with torch.no_grad():
        for weight in result.out.parameters():
            weight.normal_(std=0.05)
    return result


def pair(height: int = 24, width: int = 40, batch: int = 1, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(height * width)
    rand = lambda channels: torch.rand(  # noqa: E731
        batch, channels, height, width, generator=generator, dtype=dtype
    )
    return rand(3), rand(1)


@pytest.mark.parametrize("size", [(16, 16), (24, 136)])
@torch.no_grad()
def test_every_shape_is_kept(size):
    visible, infrared = pair(*size, batch=2)
    seen, heat = restorer()(visible, infrared)
    for own, given in ((seen, visible), (heat, infrared)):
        assert own.shape == given.shape
        assert not torch.equal(own, given)


@torch.no_grad()
def test_a_new_network_changes_nothing():
    visible, infrared = pair()
    seen, heat = Restorer(4)(visible, infrared)
    assert torch.equal(seen, visible)
    assert torch.equal(heat, infrared)


@torch.no_grad()
def test_each_plane_has_a_gain_and_an_offset():
    """Of each cell of four pixels, the output convolution has four gains a plane, then offsets."""
    ours, (visible, infrared) = Restorer(4), pair()
    gains, offsets = torch.tensor([0.5, -0.5, 1.0, 0.25]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    ours.out.bias.copy_(torch.cat((gains, offsets)).repeat_interleave(4))
    seen, heat = ours(visible, infrared)
    for number in range(3):
        expected = visible[:, number] * (1 + gains[number]) + offsets[number]
        torch.testing.assert_close(seen[:, number], expected)
    torch.testing.assert_close(heat, infrared * 1.25 + 0.4)


@torch.no_grad()
def test_it_sees_means_along_columns_and_rows_of_the_infrared():
    """Against loops; at a border, over what the image has."""
    ours, (visible, infrared) = restorer(), pair(72, 80)
    seen: list[torch.Tensor] = []
    ours.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ours(visible, infrared)
    heat = infrared[0, 0].numpy()
    planes = torch.pixel_shuffle(seen[0].permute(0, 3, 1, 2), 2)[0].numpy()
    assert planes.shape == (6, 72, 80)
    np.testing.assert_array_equal(planes[3], heat)
    for row, column in ((0, 0), (5, 79), (40, 33), (71, 50)):
        down = heat[max(0, row - 31) : row + 32, column].mean()
        across = heat[row, max(0, column - 31) : column + 32].mean()
        np.testing.assert_allclose(planes[4:, row, column], (down, across), rtol=1e-5)


@torch.no_grad()
def test_a_pair_does_not_see_the_others_of_its_batch():
    ours, (visible, infrared) = restorer(), pair(batch=3)
    together = ours(visible, infrared)
    alone = ours(visible[1:2], infrared[1:2])
    for all_of_them, one in zip(together, alone, strict=True):
        torch.testing.assert_close(all_of_them[1:2], one, atol=1e-6, rtol=1e-5)


def test_gradients():
    ours = restorer(torch.float64)
    images = [image.requires_grad_() for image in pair(16, 16, dtype=torch.float64)]
    assert torch.autograd.gradcheck(ours, images, fast_mode=True)
    torch.cat(ours(*images), dim=1).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in ours.parameters())


@torch.no_grad()
def test_a_network_fuses_what_it_restored():
    network, plain = build("student_2m"), build("student_1m")
    for weight in network.restorer.out.parameters():
        weight.normal_(std=0.05)
    weights = network.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    images = pair(64, 128)
    restored = [image.clamp(0, 1) for image in network.restorer(*images)]
    assert torch.equal(network(*images), plain(*restored))
    assert not torch.equal(network(*images), plain(*images))
    assert network(*pair(17, 70, batch=2)).shape == (2, 3, 17, 70)


@torch.no_grad()
def test_networks_with_attention_restore_too():
    config = preset("student_tiny").model_copy(update={"restoration": 4})
    assert FusionNet(config)(*pair(20, 30)).shape == (1, 3, 20, 30)


@pytest.mark.parametrize(("width", "message"), [(3, "even"), (-2, "greater than or equal to 0")])
def test_widths_that_cannot_be_are_refused(width, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(restoration=width)
