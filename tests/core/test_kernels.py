"""Compiled residuals against the layers written with PyTorch's operations in double precision."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dtpf.core import kernels
from dtpf.core.kernels import library
from dtpf.core.models import build
from dtpf.core.models.attention import ChannelAttention, WindowAttention
from dtpf.core.models.blocks import ChannelResidual, LocalResidual
from dtpf.core.models.layers import FeedForward

# channels, heads of channel attention, heads of windows, batch, height, width
SHAPES = [
    (4, 1, 1, 2, 16, 72),
    (6, 2, 1, 1, 24, 16),
    (8, 1, 2, 1, 16, 24),
    (12, 1, 1, 2, 24, 40),
    (16, 1, 2, 3, 8, 72),
    (24, 3, 2, 1, 40, 136),
    (32, 1, 2, 1, 72, 64),
    (48, 2, 4, 2, 16, 16),
    (128, 8, 4, 1, 16, 8),
    (384, 8, 4, 1, 8, 16),
]


@torch.no_grad()
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
@torch.no_grad()
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
@torch.no_grad()
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
@torch.no_grad()
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
@torch.no_grad()
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
@torch.no_grad()
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
    assert kernels.take(torch.nn.Parameter(x))
    assert not kernels.take(x.double())
    assert not kernels.take(x.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not kernels.take(x)
    with FlopCounterMode(display=False):
        assert not kernels.take(x)
    with torch.autograd.forward_ad.dual_level():
        assert not kernels.take(x)
    taken = []
    torch.vmap(lambda y: taken.append(kernels.take(y)) or y)(x)
    torch.func.grad(lambda y: taken.append(kernels.take(y)) or y.sum())(x)
    assert taken == [False, False]
    assert kernels.take(x)


@torch.no_grad()
def test_whatever_the_default_type_and_device_are():
    layer = residual("feed_forward", 16, 1, 2)
    x = features(1, 16, 16, 16)
    expected = layer(x)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            library._scratch.numbers = library._numbers(0)
            assert torch.equal(layer(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def test_what_does_not_fit_is_refused():
    for kind in KINDS:
        with pytest.raises(ValueError, match="features have 32 channels, the layer takes 16"):
            residual(kind, 16, 1, 2)(features(1, 16, 16, 32))
        with pytest.raises(ValueError, match=r"contiguous float32 tensors.*bfloat16"):
            residual(kind, 16, 1, 2).bfloat16()(features(1, 16, 16, 16))
    for height, width in ((12, 16), (16, 12)):
        with pytest.raises(ValueError, match=f"{height} x {width}; both must divide by 8"):
            residual("windows", 16, 1, 2)(features(1, height, width, 16))


@torch.no_grad()
def test_windows_of_other_sizes_go_without_kernels():
    assert WindowAttention(16, 2, 16, 8, 2).has_kernel
    for sizes in ((8, 8, 2), (16, 4, 1), (16, 8, 0)):
        layer = LocalResidual(16, WindowAttention(16, 2, *sizes))
        assert not layer.layer.has_kernel
        x = features(1, 16, 16, 16)
        expected = copy.deepcopy(layer).double()(x.double())
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
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


def gradients(layer, x, change):
    given = x.clone().requires_grad_()
    layer.zero_grad()
    result = layer(given)
    result.backward(change.to(x.dtype))
    return result.detach(), [given.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_double_precision(kind, shape):
    channels, channel_heads, window_heads, *size = shape
    layer = residual(kind, channels, channel_heads, window_heads)
    x, change = features(*size, channels), features(*size, channels)
    result, found = gradients(layer, x, change)
    with torch.no_grad():
        torch.testing.assert_close(result, layer(x), rtol=1e-6, atol=1e-6)
    _, expected = gradients(copy.deepcopy(layer).double(), x.double(), change)
    for ours, goal in zip(found, expected, strict=True):
        assert ours.shape == goal.shape
        # The temperature's one gradient is what is left of a sum of hundreds: not beside itself.
        scale = max(goal.abs().max().item(), 2)
        torch.testing.assert_close(ours.double(), goal, rtol=0, atol=5e-6 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_depends_on_threads(kind):
    layer = residual(kind, 16, 1, 2)
    x, change = features(2, 72, 136, 16), features(2, 72, 136, 16)
    threads = torch.get_num_threads()
    try:
        runs = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            runs.append([grad.clone() for grad in gradients(layer, x, change)[1]])
    finally:
        torch.set_num_threads(threads)
    # PyTorch's own products, of channel attention's weights, may split sums by thread.
    exact = kind != "channels"
    for other in runs[1:]:
        for first, second in zip(runs[0], other, strict=True):
            if exact:
                assert torch.equal(first, second)
            else:
                scale = first.abs().max().item()
                torch.testing.assert_close(first, second, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_or_weights_that_want_no_gradient(kind):
    layer = residual(kind, 16, 1, 2)
    x, change = features(1, 16, 16, 16), features(1, 16, 16, 16)
    _, expected = gradients(layer, x, change)
    layer.zero_grad()
    layer(x).backward(change)
    for parameter, goal in zip(layer.parameters(), expected[1:], strict=True):
        assert torch.equal(parameter.grad, goal)
    layer.requires_grad_(False)
    given = x.clone().requires_grad_()
    layer(given).backward(change)
    assert torch.equal(given.grad, expected[0])
    assert not layer(x).requires_grad


def test_the_gradient_of_a_strided_result():
    layer = residual("feed_forward", 16, 1, 2)
    x = features(1, 16, 16, 16).requires_grad_()
    layer(x).permute(0, 3, 1, 2)[:, ::2].sum().backward()
    change = torch.zeros(1, 16, 16, 16)
    change[..., ::2] = 1
    assert torch.equal(x.grad, gradients(layer, x.detach(), change)[1][0])


def test_switched_off(monkeypatch):
    monkeypatch.setenv("DTPF_KERNELS", "0")
    library.library.cache_clear()
    try:
        assert not kernels.take(torch.zeros(1, 8, 8, 16))
    finally:
        monkeypatch.undo()
        library.library.cache_clear()


def test_a_library_that_cannot_be_loaded(tmp_path, monkeypatch, caplog):
    broken = tmp_path / "kernels.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, "compiled", lambda: broken)
    library.library.cache_clear()
    try:
        assert not kernels.take(torch.zeros(1, 8, 8, 16))
        assert f"{broken} cannot be loaded" in caplog.text
    finally:
        monkeypatch.undo()
        library.library.cache_clear()
