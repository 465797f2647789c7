"""FusionNet against a plain network written from the equations, and what it promises of inputs."""

import pytest
import torch

from dtpf.core.errors import UserError
from dtpf.core.models import PRESETS, FusionNet, ModelConfig, build
from dtpf.core.models import strips as strips_module
from tests.core.oracle_network import OracleNetwork

SMALL = ModelConfig(width=8, blocks=(1, 1, 1, 1), refinement=1, ffn_expansion=2.0)
NO_TEXT = SMALL.model_copy(update={"text": False})
PLAIN = NO_TEXT.model_copy(update={"block": "convolution", "fusion": "concat"})


def network(config: ModelConfig, seed: int = 0) -> FusionNet:
    """Return a network whose every weight matters, also those that start at zero or one."""
    torch.manual_seed(seed)
    result = build(config)
    with torch.no_grad():
        for weight in result.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return result


def pair(batch: int, height: int, width: int, text: bool, dtype=torch.float32):
    generator = torch.Generator().manual_seed(batch * height + width)
    images = torch.rand(batch, 4, height, width, generator=generator, dtype=dtype)
    words = torch.randn(batch, 512, generator=generator, dtype=dtype)
    words = torch.nn.functional.normalize(words, dim=1)  # embeddings have length one
    return images[:, :3], images[:, 3:], words if text else None


CASES = [
    (SMALL, 1, 64, 64),
    (NO_TEXT, 3, 63, 70),
    (ModelConfig(width=16, blocks=(2, 1, 1, 1), refinement=0, ffn_expansion=1.5), 1, 33, 129),
    (NO_TEXT.model_copy(update={"start": "brighter"}), 1, 64, 64),
    (NO_TEXT.model_copy(update={"start": "bands"}), 2, 64, 100),
    (PLAIN, 2, 64, 65),
    (PLAIN.model_copy(update={"start": "bands", "refinement": 0}), 1, 70, 64),
    (NO_TEXT.model_copy(update={"channel_heads": (2, 1, 1, 4), "head_dim": 8}), 1, 130, 41),
]


def both_ways(work, monkeypatch):
    """Return what `work` finds with compiled kernels and with PyTorch's operations."""
    by_kernels = work()
    monkeypatch.setattr("dtpf.core.kernels.take", lambda x: False)
    return by_kernels, work()


@pytest.mark.parametrize(("config", "batch", "height", "width"), CASES)
def test_outputs_equal_the_oracle(config, batch, height, width, monkeypatch):
    ours = network(config)
    inputs = pair(batch, height, width, config.text)
    with torch.no_grad():
        oracle = OracleNetwork(dict(ours.state_dict()), config)
        expected, expected_features = oracle(*inputs)
        found = both_ways(lambda: ours(*inputs, return_features=True), monkeypatch)
    for fused, features in found:
        torch.testing.assert_close(fused, expected, rtol=0, atol=1e-5)
        for feature, goal in zip(features, expected_features, strict=True):
            torch.testing.assert_close(feature, goal, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("config", "batch", "height", "width"), [*CASES[:2], (PLAIN, 1, 64, 64)])
def test_gradients_equal_the_oracle(config, batch, height, width, monkeypatch):
    ours = network(config)
    visible, infrared, text = pair(batch, height, width, config.text)
    goal = torch.rand_like(visible)
    inputs = [x for x in (visible, infrared, text) if x is not None]
    for x in inputs:
        x.requires_grad_()
    weights = dict(ours.named_parameters())
    wanted = [*inputs, *weights.values()]

    def gradients(network):
        fused = network(visible, infrared, text)
        fused = fused if isinstance(fused, torch.Tensor) else fused[0]
        return torch.autograd.grad((fused - goal).square().sum(), wanted)

    expected = gradients(OracleNetwork(weights, config))
    names = ["visible", "infrared", "text"][: len(inputs)] + list(weights)
    for found in both_ways(lambda: gradients(ours), monkeypatch):
        for name, gradient, target in zip(names, found, expected, strict=True):
            scale = target.abs().max().clamp_min(1e-3)
            error = ((gradient - target).abs().max() / scale).item()
            assert error < 1e-4, f"{name}: {error:.2e} of {scale:.2e}"


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (64, 65), (200, 72)])
def test_any_size_keeps_its_shape(height, width):
    visible, infrared, _ = pair(1, height, width, text=False)
    with torch.no_grad():
        fused = network(NO_TEXT)(visible, infrared)
    assert fused.shape == visible.shape
    assert torch.isfinite(fused).all()


def test_features_have_the_promised_shapes():
    with torch.no_grad():
        _, features = network(SMALL)(*pair(2, 64, 100, text=True), return_features=True)
    sides = [(64, 128), (32, 64), (16, 32), (8, 16)]
    expected = [(2, c, *s) for c, s in zip(SMALL.feature_widths, sides, strict=True)]
    assert [tuple(x.shape) for x in features] == expected


def test_an_image_does_not_see_its_neighbours():
    ours = network(SMALL)
    visible, infrared, text = pair(3, 70, 64, text=True)
    with torch.no_grad():
        together = ours(visible, infrared, text)
        for x in (visible, infrared, text):
            x[1:] = x[1:].flip(-1)
        assert torch.equal(ours(visible, infrared, text)[0], together[0])


def test_an_image_does_not_see_the_size_of_its_batch():
    ours = network(SMALL)
    visible, infrared, text = pair(3, 70, 64, text=True)
    with torch.no_grad():
        together = ours(visible, infrared, text)
        rounding = 1e-6 * (together.max() - together.min()).item()
        for n in range(3):
            alone = ours(visible[n : n + 1], infrared[n : n + 1], text[n : n + 1])
            torch.testing.assert_close(alone[0], together[n], rtol=0, atol=rounding)


@pytest.mark.parametrize("piece", [2**9, 2**12, 2**15])
@pytest.mark.parametrize("config", [NO_TEXT, PLAIN], ids=["attention", "convolution"])
def test_strips_do_not_show(monkeypatch, config, piece):
    ours = network(config)
    visible, infrared, _ = pair(2, 136, 72, text=False)
    monkeypatch.setattr("dtpf.core.kernels.take", lambda x: False)  # they need no strips
    whole = ours(visible, infrared)  # with gradients: in one piece
    monkeypatch.setattr(strips_module, "_CPU_PIECE", piece)
    with torch.no_grad():
        pieces = ours(visible, infrared)
    torch.testing.assert_close(pieces, whole.detach(), rtol=0, atol=5e-6)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 71), (16, 130)])
@pytest.mark.parametrize("batch", [1, 3])
def test_bfloat16_stays_within_its_bound(batch, height, width):
    ours = network(NO_TEXT)
    visible, infrared, _ = pair(batch, height, width, text=False)
    with torch.no_grad():
        exact, _ = OracleNetwork(dict(ours.state_dict()), NO_TEXT)(visible, infrared)
        rough = ours.bfloat16()(visible.bfloat16(), infrared.bfloat16())
    assert rough.dtype == torch.bfloat16
    error = (rough.float() - exact).abs()
    span = exact.max() - exact.min()
    # Weights, features and result have 8 bits of mantissa. Measured: 0.11% and 0.59% of the span.
    assert error.mean() < 0.002 * span
    assert error.max() < 0.012 * span


def test_the_same_twice():
    ours = network(SMALL)
    inputs = pair(2, 64, 64, text=True)

    def run():
        ours.zero_grad()
        fused = ours(*inputs)
        fused.square().mean().backward()
        return [fused.detach(), *(weight.grad.clone() for weight in ours.parameters())]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["scfm", "concat", "unlearned", "dynamic", "multiscale"])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("block", ["attention", "convolution"])
def test_every_parameter_gets_a_gradient(kind, text, block):
    config = SMALL.model_copy(update={"fusion": kind, "text": text, "block": block})
    ours = network(config)
    ours(*pair(1, 64, 64, text)).square().mean().backward()
    still = [name for name, weight in ours.named_parameters() if not weight.grad.abs().any()]
    assert still == []


def test_convolutions_never_look_at_the_whole_image():
    ours = network(PLAIN)
    visible, infrared, _ = pair(1, 64, 512, text=False)
    with torch.no_grad():
        before = ours(visible, infrared)
        visible[..., 448:] = 1.0
        after = ours(visible, infrared)
    assert torch.equal(before[..., :64], after[..., :64])
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    ("start", "expected"), [("visible", 0.25), ("brighter", 0.75), ("pyramid", 0.75)]
)
def test_an_untrained_network_shows_nearly_its_start(start, expected):
    torch.manual_seed(0)
    model = build(NO_TEXT.model_copy(update={"start": start}))
    fused = model(torch.full((1, 3, 64, 64), 0.25), torch.full((1, 1, 64, 64), 0.75))
    assert 0.0 < (fused - expected).abs().max() < 0.3


def test_untrained_text_changes_nothing():
    torch.manual_seed(0)
    ours = build(SMALL)
    visible, infrared, text = pair(1, 64, 64, text=True)
    with torch.no_grad():
        assert torch.equal(ours(visible, infrared, text), ours(visible, infrared, -3 * text))


def test_build_takes_names_and_configs():
    assert build("student_tiny").config == PRESETS["student_tiny"]
    assert build(SMALL).config == SMALL
    with pytest.raises(UserError, match="student_4m"):
        build("student_5m")


REJECTED = [
    (lambda v, i, t: (v[:, :1], i, t), r"visible must be \(B, 3, H, W\)"),
    (lambda v, i, t: (v, v, t), r"infrared must be \(B, 1, H, W\)"),
    (lambda v, i, t: (v[0], i[0], t), r"visible must be"),
    (lambda v, i, t: (v[..., :15], i[..., :15], t), "16 pixels"),
    (lambda v, i, t: (v[:0], i[:0], t[:0]), "at least one image"),
    (lambda v, i, t: (v, i[..., :32], t), "agree in batch and size"),
    (lambda v, i, t: ((v * 255).byte(), i, t), "visible must be torch.float32"),
    (lambda v, i, t: (v, i.double(), t), "infrared must be torch.float32"),
    (lambda v, i, t: (v, i, None), "needs a text embedding"),
    (lambda v, i, t: (v, i, t[:, :511]), r"text must be \(2, 512\)"),
    (lambda v, i, t: (v, i, t[:1]), r"text must be \(2, 512\)"),
    (lambda v, i, t: (v, i, t.double()), "text must be torch.float32"),
    (lambda v, i, t: (255 * v, i, t), r"visible must hold values in \[0, 1\], got .* to 25"),
    (lambda v, i, t: (v, i - 0.5, t), r"infrared must hold values in \[0, 1\], got -0\."),
    (lambda v, i, t: (v, torch.where(i > 0.5, torch.nan, i), t), "infrared .* got nan to nan"),
    (lambda v, i, t: (v / 0, i, t), "visible .* to (inf|nan)"),
]


@pytest.mark.parametrize(("spoil", "message"), REJECTED)
def test_wrong_inputs_are_named(spoil, message):
    with pytest.raises(ValueError, match=message):
        build(SMALL)(*spoil(*pair(2, 64, 64, text=True)))


def test_unwanted_text_is_named():
    visible, infrared, text = pair(1, 64, 64, text=True)
    with pytest.raises(ValueError, match="takes no text"):
        build(NO_TEXT)(visible, infrared, text)
