"""Layers one by one: gradients that are written by hand, windows, cells, modulation."""

import pytest
import torch
import torch.nn.functional as F

from dtpf.core.models.attention import ChannelAttention, WindowAttention
from dtpf.core.models.biased_attention import biased_attention
from dtpf.core.models.layers import Conv, Downsample, FeedForward, TwoConvs, Upsample
from dtpf.core.models.modulation import TextModulation
from dtpf.core.models.strips import strips
from dtpf.core.models.windows import from_squares, to_overlapping, to_squares


def double(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_squares_come_back():
    x = double(2, 8, 12, 6)
    windows = to_squares(x, 4, heads=3)
    assert windows.shape == (12, 3, 16, 2)
    assert torch.equal(windows[4, 1], x[0, 4:8, 4:8, 2:4].reshape(16, 2))
    assert torch.equal(from_squares(windows, x.shape, 4), x)


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_overlapping_windows_equal_unfold(margin):
    x = double(2, 8 + 2 * margin, 12 + 2 * margin, 6)
    side = 4 + 2 * margin
    windows = to_overlapping(x, 4, margin, heads=2)
    columns = F.unfold(x.permute(0, 3, 1, 2), side, stride=4)
    expected = columns.view(2, 2, 3, side**2, 6).permute(0, 4, 1, 3, 2).reshape(-1, 2, side**2, 3)
    assert torch.equal(windows, expected)


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_gradient_of_overlapping_windows(margin):
    x = double(1, 8 + 2 * margin, 12 + 2 * margin, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: to_overlapping(x, 4, margin, heads=2), x)


def attention_inputs(count=3):
    return (
        double(count, 2, 4, 5, seed=1).requires_grad_(),
        double(count, 2, 9, 5, seed=2).requires_grad_(),
        double(count, 2, 9, 5, seed=3).requires_grad_(),
        double(2, 4, 9, seed=4).requires_grad_(),
    )


def test_biased_attention_equals_its_formula():
    query, key, value, bias = attention_inputs()
    scores = torch.einsum("nhqd,nhkd->nhqk", query, key) / 5**0.5 + bias
    expected = torch.einsum("nhqk,nhkd->nhqd", scores.softmax(-1), value)
    torch.testing.assert_close(biased_attention(query, key, value, bias), expected)
    with torch.no_grad():
        torch.testing.assert_close(biased_attention(query, key, value, bias), expected)


@pytest.mark.parametrize("scores", [1, 2**18])
def test_gradient_of_biased_attention(monkeypatch, scores):
    monkeypatch.setattr("dtpf.core.models.biased_attention._SCORES", scores)
    assert torch.autograd.gradcheck(biased_attention, attention_inputs())


LAYERS = {
    "channel": lambda: ChannelAttention(6, heads=2),
    "window": lambda: WindowAttention(6, heads=2, head_dim=3, window=4, margin=1),
    "feed_forward": lambda: FeedForward(6, expansion=1.5),
    "two_convs": lambda: TwoConvs(6),
    "down": lambda: Downsample(6),
    "up": lambda: Upsample(6),
    "conv": lambda: Conv(6, 4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    x = double(1, 4, 8, 6).requires_grad_()
    fast = {"fast_mode": True}
    assert torch.autograd.gradcheck(layer, x, **fast)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def of_weights(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x.detach())

    assert torch.autograd.gradcheck(of_weights, weights, **fast)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_layers_keep_or_change_shapes_as_named(name, batch):
    shapes = {"down": (batch, 4, 8, 12), "up": (batch, 16, 32, 3), "conv": (batch, 8, 16, 4)}
    x = torch.randn(batch, 8, 16, 6)
    assert LAYERS[name]()(x).shape == shapes.get(name, x.shape)


def test_channel_attention_survives_a_flat_image():
    layer = ChannelAttention(6, heads=2)
    x = torch.zeros(1, 4, 4, 6, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(weight.grad).all() for weight in layer.parameters())


def test_upsample_inverts_the_cells_of_downsample():
    down, up = Downsample(2), Upsample(4)
    identity = torch.zeros(1, 2, 3, 3)
    identity[0, 0, 1, 1] = 1.0  # keeps channel 0
    down.conv.weight.data = identity
    up.conv.weight.data = torch.zeros(8, 4, 3, 3)
    for place in range(4):
        up.conv.weight.data[2 * place, place, 1, 1] = 1.0
    x = torch.randn(1, 6, 8, 2)
    assert torch.equal(up(down(x))[..., 0], x[..., 0])


def test_modulation_follows_equation_9():
    layer = TextModulation(3, text_dim=5)
    x, text = torch.randn(2, 4, 4, 3), torch.randn(2, 5)
    assert torch.equal(layer(x, text), x)
    torch.nn.init.normal_(layer.out.weight)
    hidden = layer.activation(layer.hidden(5**0.5 * text))
    gamma, beta = layer.out(hidden).chunk(2, dim=1)
    for n in range(2):
        expected = (1 + gamma[n]) * x[n] + beta[n]
        torch.testing.assert_close(layer(x, text)[n], expected)


def test_texts_of_unit_length_reach_the_hidden_units_of_an_untrained_modulation():
    """Or it takes hundreds of steps until a network tells one text from another."""
    layer = TextModulation(16, text_dim=512)
    torch.nn.init.normal_(layer.out.weight)
    texts = F.normalize(torch.randn(64, 512), dim=1)
    moved = layer(torch.ones(64, 1, 1, 16), texts).std(dim=0)
    assert moved.mean() > 0.5


@pytest.mark.parametrize("shape", [(5, 8, 8, 4), (2, 40, 24, 4), (1, 16, 1000, 4)])
@pytest.mark.parametrize("multiple", [1, 8])
def test_strips_cover_everything_once(monkeypatch, shape, multiple):
    monkeypatch.setattr("dtpf.core.models.strips._CPU_PIECE", 600)
    x = torch.zeros(shape)
    for images in strips(x, multiple):
        assert all(strip.images == images[0].images for strip in images)
        assert (images[0].start, images[-1].stop) == (0, shape[1])
        for strip in images:
            assert strip.start % multiple == 0
            strip.of(x).add_(1)
    assert torch.equal(x, torch.ones(shape))
