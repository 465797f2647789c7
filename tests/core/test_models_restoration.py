"""Restorer: what it sees and does against plain loops, and what it promises at the start."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage, special

from dtpf.core.models import FusionNet, ModelConfig, build, preset
from dtpf.core.models.restoration import Restorer, stripes
from dtpf.core.models.tone import Tone
from dtpf.core.ops.color import luminance
from dtpf.core.ops.filters import box_mean


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
    for seen, heat in (ours(visible, infrared)[:2], ours.clean(visible, infrared)[:2]):
        for own, given in ((seen, visible), (heat, infrared)):
            assert own.shape == given.shape
            assert not torch.equal(own, given)
    cells = size[0] // 8, size[1] // 8
    assert ours(visible, infrared).degraded.shape == (2, 2, *cells)
    assert ours(visible, infrared).trust.shape == (2, 1, *cells)
    assert ours.clean(visible, infrared).trust.shape == infrared.shape


@torch.no_grad()
def test_a_new_network_changes_nothing():
    visible, infrared = pair()
    new = Restorer(4)
    for seen, heat in (new(visible, infrared)[:2], new.clean(visible, infrared)[:2]):
        assert torch.equal(seen, visible)
        assert torch.equal(heat, infrared)
    assert not new.clean(visible, infrared).trust.any()


@torch.no_grad()
def test_what_is_judged_clean_stays_as_it_is():
    visible, infrared = pair()
    ours = judging(restorer(), -200.0, 200.0)
    seen, heat, _ = ours.clean(visible, infrared)
    assert torch.equal(seen, visible)
    torch.testing.assert_close(heat, ours(visible, infrared).infrared.clamp(0, 1))
    # An even bet in training, where degraded images are common, says clean to users.
    even = judging(ours, 0.0, 0.0).clean(visible, infrared).visible
    assert (even - visible).abs().max() < 0.13 * (ours(visible, infrared)[0] - visible).abs().max()
    half = judging(ours, 2.0, 2.0).clean(visible, infrared).visible
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
    seen, means = judge.look(planes, changes, deepest)
    np.testing.assert_allclose(seen[0], cells, rtol=1e-6)
    found = judge(means)[0].numpy()
    trusting = restorer(torch.float64).trust
    torch.nn.init.normal_(trusting.out.weight, std=0.3)
    trust = trusting(seen, means, judge(means))[0, 0].numpy()
    for row, column in ((0, 0), (9, 11), (4, 3)):
        around = cells[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9].mean(axis=(0, 1))
        judged = special.expit(found[:, row, column])
        known = gelu(layer(trusting.hidden, np.concatenate((cells[row, column], around, judged))))
        expected = 4 * np.tanh(layer(trusting.out, known))
        np.testing.assert_allclose(trust[row, column], expected[0], rtol=1e-6)
        hidden = gelu(layer(judge.hidden, around))
        np.testing.assert_allclose(found[:, row, column], layer(judge.out, hidden), rtol=1e-6)


def test_tone_comes_first_and_learns_from_what_it_leaves():
    ours, (visible, infrared) = restorer(), pair()
    with torch.no_grad():
        ours.tone.out.bias.fill_(0.8)
    visible = 0.4 + 0.6 * visible
    lit, found = ours.tone(visible, infrared), ours(visible, infrared)
    assert torch.equal(found.lit, lit)
    behind = copy.deepcopy(ours)
    behind.tone = Tone()  # sees no haze
    expected = behind(lit, infrared)
    torch.testing.assert_close(found.visible, expected.visible)
    torch.testing.assert_close(found.degraded, expected.degraded)
    found.visible.sum().backward(retain_graph=True)
    assert ours.tone.out.weight.grad is None
    found.lit.sum().backward()
    assert ours.tone.out.weight.grad.abs().sum() > 0


def test_judgements_do_not_teach_what_to_change():
    ours = restorer()
    ours(*pair()).degraded.sum().backward()
    assert ours.out.weight.grad is None
    assert ours.judge.out.weight.grad.abs().sum() > 0
    assert ours.embed.weight.grad.abs().sum() > 0


def test_trust_counts_as_far_as_either_image_is_judged_degraded():
    ours, (visible, infrared) = restorer(), pair()
    with torch.no_grad():
        ours.trust.out.bias.fill_(0.5)
    full = 4 * np.tanh(0.5)
    for logits, share in (((-200.0, -200.0), 0.0), ((200.0, -200.0), 1.0), ((2.0, 2.0), 0.75)):
        trust = judging(ours, *logits).clean(visible, infrared).trust
        torch.testing.assert_close(trust, torch.full_like(trust, share * full))


def test_trust_teaches_neither_what_is_degraded_nor_what_to_change():
    ours, (visible, infrared) = restorer(), pair()
    torch.nn.init.normal_(ours.trust.out.weight)
    ours(visible, infrared).trust.sum().backward()
    taught = {name for name, weight in ours.named_parameters() if weight.grad is not None}
    assert taught == {f"trust.{name}" for name, _ in ours.trust.named_parameters()}


@torch.no_grad()
def test_each_plane_has_a_gain_and_an_offset():
    """Of each cell of four pixels, the output convolution has four gains a plane, then offsets."""
    ours, (visible, infrared) = Restorer(4), pair()
    gains, offsets = torch.tensor([0.5, -0.5, 1.0, 0.25]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    ours.out.bias[:32] = torch.cat((gains, offsets)).repeat_interleave(4)
    seen, heat, *_ = ours(visible, infrared)
    for number in range(3):
        expected = visible[:, number] * (1 + gains[number]) + offsets[number]
        torch.testing.assert_close(seen[:, number], expected)
    torch.testing.assert_close(heat, infrared * 1.25 + 0.4)


@torch.no_grad()
def test_shares_of_stripes_are_taken_from_the_infrared():
    """Of those along columns first, then of those along rows."""
    ours, (visible, infrared) = Restorer(4), pair()
    ours.out.bias[32:] = torch.tensor([0.75, 0.5]).repeat_interleave(4)
    seen, heat, *_ = ours(visible, infrared)
    assert torch.equal(seen, visible)
    along_rows = stripes(infrared.transpose(2, 3)).transpose(2, 3)
    torch.testing.assert_close(heat, infrared - 0.75 * stripes(infrared) - 0.5 * along_rows)


@torch.no_grad()
def test_it_sees_texture_level_and_stripes():
    """Against loops; at a border, over what the image has."""
    ours, (visible, infrared) = restorer(), pair(40, 48)
    seen: list[torch.Tensor] = []
    ours.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ours(visible, infrared)
    planes = torch.pixel_shuffle(seen[0].permute(0, 3, 1, 2), 2)[0].numpy()
    assert planes.shape == (10, 40, 48)
    for number, image in enumerate(torch.cat((visible, infrared), dim=1)[0].numpy()):
        for row, column in ((0, 0), (5, 47), (20, 33), (39, 30)):
            near = slice(max(0, row - 5), row + 6), slice(max(0, column - 5), column + 6)
            level = image[near].mean()
            fine = image[row, column] - level
            found = planes[[number, 4 + number], row, column]
            np.testing.assert_allclose(found, (4 * fine, level - 0.5), atol=1e-6)
    np.testing.assert_allclose(planes[8], 8 * stripes(infrared)[0, 0], atol=1e-6)
    along_rows = stripes(infrared.transpose(2, 3))[0, 0].T
    np.testing.assert_allclose(planes[9], 8 * along_rows, atol=1e-6)


def test_stripes_against_scipy():
    """Above two means of 11 pixels along its row, at most 0.2, averaged over 127 pixels."""
    image = pair(150, 90, dtype=torch.float64)[1]
    heat, counts = image[0, 0].numpy(), np.ones((150, 90))

    def mean(x, size, axis):
        window = {"weights": np.ones(size), "axis": axis, "mode": "constant"}
        return ndimage.convolve1d(x, **window) / ndimage.convolve1d(counts, **window)

    above = np.clip(heat - mean(mean(heat, 11, 1), 11, 1), -0.2, 0.2)
    np.testing.assert_allclose(stripes(image)[0, 0], mean(above, 127, 0), atol=1e-12)


def test_stripes_of_a_flat_scene_are_found():
    offsets = 0.05 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    scene = torch.linspace(0.3, 0.6, 160)[:, None] + 0.1 * torch.linspace(0, 1, 200)
    striped = (scene + offsets)[None, None]
    left = striped - stripes(striped) - scene
    assert left[..., 15:-15].std() < 0.35 * offsets.std()


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
    assert torch.autograd.gradcheck(lambda *own: ours._restored(*own)[:2], images, fast_mode=True)
    new = Restorer(4).double()  # changes nothing, and judges by texture and features alone
    judged = lambda *own: new._restored(*own).degraded  # noqa: E731
    assert torch.autograd.gradcheck(judged, images, fast_mode=True)
    for part in (ours.tone, ours.trust):
        torch.nn.init.normal_(part.out.weight)  # else its hidden layer has no say
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
    seen, heat, _ = network.restorer.clean(*images)
    assert torch.equal(network(*images), plain(seen, heat))
    assert not torch.equal(network(*images), plain(*images))
    assert network(*pair(17, 70, batch=2)).shape == (2, 3, 17, 70)


@torch.no_grad()
def test_a_trusted_image_gives_the_edges():
    """Fine texture of the result goes with that of the image which is trusted more."""
    network, (visible, infrared) = build("student_1m"), pair(64, 128)
    near = []
    for trust in (0.0, 8.0, -8.0):
        fused = network.fuse_clean(visible, infrared, trust=torch.full_like(infrared, trust))[0]
        fine = [image - box_mean(image, 5, 5) for image in map(luminance, (fused, visible))]
        heat = infrared - box_mean(infrared, 5, 5)
        near.append([(fine[0] * source).mean().item() for source in (fine[1], heat)])
    assert near[1][0] > near[0][0] > near[2][0]
    assert near[1][1] < near[0][1] < near[2][1]


@torch.no_grad()
def test_networks_with_attention_restore_too():
    config = preset("student_tiny").model_copy(update={"restoration": 4})
    assert FusionNet(config)(*pair(20, 30)).shape == (1, 3, 20, 30)


@pytest.mark.parametrize(("width", "message"), [(3, "even"), (-2, "greater than or equal to 0")])
def test_widths_that_cannot_be_are_refused(width, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(restoration=width)
