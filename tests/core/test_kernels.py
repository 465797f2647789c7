"""Compiled residuals against the layers written with PyTorch's operations in double precision."""

import copy

import pytest
import torch

from dtpf.core import kernels
from dtpf.core.kernels import library
from dtpf.core.models import build
from dtpf.core.models.attention import ChannelAttention, WindowAttention
from dtpf.core.models.blocks import ChannelResidual, LocalResidual
from dtpf.core.models.layers import FeedForward

# channels, heads of channel attention, heads of windows, batch, height, width
SHAPES = [
    (8, 1, 2, 1, 16, 24),
    (12, 1, 1, 2, 24, 40),
    (16, 1, 2, 3, 8, 72),
    (24, 3, 2, 1, 40, 136),
    (32, 1, 2, 1, 72, 64),
    (48, 2, 4, 2, 16, 16),
    (128, 8, 4, 1, 16, 8),
]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def residual(kind, channels, channel_heads, window_heads):
    torch.manual_seed(channels)
    if kind == "feed_forward":
        made = LocalResidual(channels, FeedForward(channels, 1.85))
    elif kind == "windows":
        made = LocalResidual(channels, WindowAttention(channels, window_heads, 16, 8, 2))
    else:
        made = ChannelResidual(channels, ChannelAttention(channels, channel_heads))
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.mul_(2)
    made.norm.weight.uniform_(0.5, 1.5)
    made.norm.bias.normal_()
    return made


def features(batch, height, width, channels):
    return torch.randn(batch, height, width, channels) * 2 + 1


KINDS = ["feed_forward", "windows", "channels"]


def test_this_machine_has_kernels():
    assert kernels.take(torch.zeros(1, 8, 8, 16)), "no compiler works here: see the log"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_equal_double_precision(kind, shape):
    channels, channel_heads, window_heads, *size = shape
    layer = residual(kind, channels, channel_heads, window_heads)
    x = features(*size, channels)
    given = x.clone()
    result = layer(x)
    expected = copy.deepcopy(layer).double()(x.double())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=2e-6, atol=1e-5)
    assert torch.equal(x, given)
    assert torch.equal(layer(x, torch.full_like(x, 9)), result)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_any_size(kind):
    layer = residual(kind, 16, 1, 2)
    for scale in (1e-6, 1e3, 1e6):
        x = features(1, 16, 16, 16) * scale
        torch.testing.assert_close(
            layer(x).double(),
            copy.deepcopy(layer).double()(x.double()),
            rtol=1e-5,
            atol=1e-5 * max(1, scale),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_large_activations_neither_overflow_nor_drown(kind, monkeypatch):
    # GELU far below zero is zero; scores far apart leave one key. Single precision itself errs
    # more here, hence the comparison with PyTorch's error.
    layer = residual(kind, 16, 1, 2)
    for parameter in layer.layer.parameters():
        parameter.mul_(20)
    x = features(1, 16, 16, 16)
    expected = copy.deepcopy(layer).double()(x.double())
    result = layer(x)
    monkeypatch.setattr(kernels, "take", lambda x: False)
    usual = (layer(x) - expected).abs().max()
    assert usual < 1e-4 * expected.abs().max()
    assert (result - expected).abs().max() < 3 * usual


@pytest.mark.parametrize("kind", KINDS)
def test_no_result_depends_on_batch_or_threads(kind):
    layer = residual(kind, 16, 1, 2)
    x = features(3, 40, 136, 16)
    together = layer(x)
    assert torch.equal(layer(x[1:2]), together[1:2])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            assert torch.equal(layer(x), together)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", KINDS)
def test_views_and_transposed_inputs(kind):
    layer = residual(kind, 16, 1, 2)
    x = features(1, 24, 40, 16)
    turned = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not turned.is_contiguous()
    assert torch.equal(layer(turned), layer(x))
    assert torch.equal(layer(x, torch.empty_like(turned)), layer(x))


def test_inputs_that_kernels_decline():
    x = torch.zeros(1, 8, 8, 16)
    assert kernels.take(x)
    assert not kernels.take(x.double())
    assert not kernels.take(x.to("meta"))
    assert not kernels.take(torch.nn.Parameter(x))
    with torch.enable_grad():
        assert not kernels.take(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not kernels.take(x)


def test_windows_of_other_sizes_go_without_kernels():
    assert WindowAttention(16, 2, 16, 8, 2).has_kernel
    for sizes in ((8, 8, 2), (16, 4, 1), (16, 8, 0)):
        layer = LocalResidual(16, WindowAttention(16, 2, *sizes))
        assert not layer.layer.has_kernel
        x = features(1, 16, 16, 16)
        expected = copy.deepcopy(layer).double()(x.double())
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_every_layer_of_the_papers_student_is_computed_by_kernels(monkeypatch):
    calls = []
    call = library.call
    monkeypatch.setattr(
        "dtpf.core.kernels.residuals.call",
        lambda name, *rest: (calls.append(name), call(name, *rest)),
    )
    network = build("student_4m")
    network(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16))
    residuals = [m for m in network.modules() if isinstance(m, LocalResidual | ChannelResidual)]
    looks = calls.count("dtpf_look")
    assert looks == calls.count("dtpf_mix_channels") > 0
    assert len(calls) == len(residuals) + looks


def test_switched_off(monkeypatch):
    monkeypatch.setenv("DTPF_KERNELS", "0")
    library.library.cache_clear()
    try:
        assert not kernels.take(torch.zeros(1, 8, 8, 16))
    finally:
        monkeypatch.undo()
        library.library.cache_clear()
