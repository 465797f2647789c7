"""Restorer: what it sees and does against plain loops, and what it promises at the start."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import special

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


def judging(ours: Restorer, visible: float, infrared: float) -> Restorer:
    """Make it judge all images alike."""
    with torch.no_grad():
        ours.judge.out.weight.zero_()
        ours.judge.out.bias.copy_(torch.tensor([visible, infrared]))
    return ours


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
    ours = restorer()
    for seen, heat in (ours(visible, infrared)[:2], ours.clean(visible, infrared)):
        for own, given in ((seen, visible), (heat, infrared)):
            assert own.shape == given.shape
            assert not torch.equal(own, given)
    assert ours(visible, infrared).degraded.shape == (2, 2, size[0] // 8, size[1] // 8)


@torch.no_grad()
def test_a_new_network_changes_nothing():
    visible, infrared = pair()
    new = Restorer(4)
    for seen, heat in (new(visible, infrared)[:2], new.clean(visible, infrared)):
        assert torch.equal(seen, visible)
        assert torch.equal(heat, infrared)


@torch.no_grad()
def test_what_is_judged_clean_stays_as_it_is():
    visible, infrared = pair()
    ours = judging(restorer(), -200.0, 200.0)
    seen, heat = ours.clean(visible, infrared)
    assert torch.equal(seen, visible)
    torch.testing.assert_close(heat, ours(visible, infrared).infrared.clamp(0, 1))
    # An even bet in training, where degraded images are common, says clean to users.
    even, _ = judging(ours, 0.0, 0.0).clean(visible, infrared)
    assert (even - visible).abs().max() < 0.02 * (ours(visible, infrared)[0] - visible).abs().max()
    half, _ = judging(ours, 4.0, 4.0).clean(visible, infrared)
    full = ours(visible, infrared).visible
    torch.testing.assert_close(half, (0.5 * (visible + full)).clamp(0, 1))


@torch.no_grad()
def test_judgements_against_loops():
    """Logarithms of strengths in cells and rectified features, averaged around each cell."""
    judge, (visible, infrared) = restorer(torch.float64).judge, pair(80, 96, dtype=torch.float64)
    planes = torch.cat((visible, infrared), dim=1)
    generator = torch.Generator().manual_seed(1)
    changes = torch.randn(planes.shape, generator=generator, dtype=torch.float64)
    deepest = torch.randn(1, 10, 12, 16, generator=generator, dtype=torch.float64)
    gelu = lambda x: x * (1 + special.erf(x / np.sqrt(2))) / 2  # noqa: E731
    layer = lambda own, x: own.weight.numpy() @ x + own.bias.numpy()  # noqa: E731
    cells = np.empty((10, 12, 24))
    for row, column in np.ndindex(10, 12):
        strengths = []
        for image in planes[0].numpy():
            fine = np.empty((8, 8))
            for y, x in np.ndindex(8, 8):
                v, u = 8 * row + y, 8 * column + x
                near = image[max(0, v - 1) : v + 2, max(0, u - 1) : u + 2]
                fine[y, x] = image[v, u] - near.mean()
            strengths.append(np.mean(fine**2))
        block = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
        strengths += [np.mean(change[block] ** 2) for change in changes[0].numpy()]
        features = gelu(layer(judge.features, deepest[0, row, column].numpy()))
        cells[row, column] = [*(np.log(np.add(strengths, 1e-7)) / 2 + 4), *features]
    found = judge(planes, changes, deepest)[0].numpy()
    for row, column in ((0, 0), (9, 11), (4, 3)):
        around = cells[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
        hidden = gelu(layer(judge.hidden, around.mean(axis=(0, 1))))
        np.testing.assert_allclose(found[:, row, column], layer(judge.out, hidden), rtol=1e-6)


def test_judgements_do_not_teach_what_to_change():
    ours = restorer()
    ours(*pair()).degraded.sum().backward()
    assert ours.out.weight.grad is None
    assert ours.judge.out.weight.grad.abs().sum() > 0
    assert ours.embed.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_each_plane_has_a_gain_and_an_offset():
    """Of each cell of four pixels, the output convolution has four gains a plane, then offsets."""
    ours, (visible, infrared) = Restorer(4), pair()
    gains, offsets = torch.tensor([0.5, -0.5, 1.0, 0.25]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    ours.out.bias.copy_(torch.cat((gains, offsets)).repeat_interleave(4))
    seen, heat, _ = ours(visible, infrared)
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
    together = *ours(visible, infrared), *ours.clean(visible, infrared)
    one_pair = visible[1:2], infrared[1:2]
    alone = *ours(*one_pair), *ours.clean(*one_pair)
    for all_of_them, one in zip(together, alone, strict=True):
        torch.testing.assert_close(all_of_them[1:2], one, atol=1e-6, rtol=1e-5)


def test_gradients():
    ours = restorer(torch.float64)
    images = [image.requires_grad_() for image in pair(16, 16, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *own: ours(*own)[:2], images, fast_mode=True)
    new = Restorer(4).double()  # changes nothing, and judges by texture and features alone
    assert torch.autograd.gradcheck(lambda *own: new(*own).degraded, images, fast_mode=True)
    sum(part.sum() for part in ours(*images)).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in ours.parameters())


@torch.no_grad()
def test_a_network_fuses_what_it_restored():
    network, plain = build("student_2m"), build("student_1m")
    for weight in network.restorer.out.parameters():
        weight.normal_(std=0.05)
    weights = network.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    images = pair(64, 128)
    assert torch.equal(network(*images), plain(*network.restorer.clean(*images)))
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
