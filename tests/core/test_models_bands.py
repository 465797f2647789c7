"""BandMixer against a plain mixture of bands, and what it promises of colours and gradients."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dtpf.core.models import FusionNet, ModelConfig
from dtpf.core.models.bands import BandMixer, edge_advantage
from dtpf.core.ops.color import luminance, rgb_to_ycbcr
from dtpf.core.ops.pyramid import collapse, laplacian_bands
from tests.core.oracle_bands import edge_energy, mixture

WIDTHS = (4, 2, 3, 5)


def mixer(seed: int = 0, fine: bool = False) -> BandMixer:
    torch.manual_seed(seed)
    result = BandMixer(WIDTHS, fine).double()
    with torch.no_grad():
        for weight in result.parameters():
            weight.normal_(std=0.05)
    return result


def inputs(batch: int = 1, height: int = 64, width: int = 128):
    generator = torch.Generator().manual_seed(height * width + batch)
    rand = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    features = [
        rand(batch, height >> level, width >> level, channels) - 0.5
        for level, channels in enumerate(WIDTHS)
    ]
    return features, rand(batch, 1, height, width), rand(batch, 1, height, width)


def mix(ours: BandMixer, features, visible, infrared):
    return ours(features, visible, infrared, edge_advantage(visible, infrared))


@pytest.mark.parametrize("fine", [False, True])
def test_values_are_those_of_the_plain_mixture(fine):
    ours, (features, visible, infrared) = mixer(fine=fine), inputs()
    heads = [ours.choice, *ours.details, ours.base]
    seen = [features[0], *features, features[3]]
    if ours.fine is not None:
        heads.append(ours.fine)
        seen.append(features[0])
    with torch.no_grad():
        found = mix(ours, features, visible, infrared)
        planes = [
            head(feature)[0].permute(2, 0, 1).numpy()
            for head, feature in zip(heads, seen, strict=True)
        ]
    assert len(planes) == 6 + fine
    gray, heat = visible[0, 0].numpy(), infrared[0, 0].numpy()
    expected = mixture(gray, heat, planes[0][0], planes[1:5], *planes[5:])
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-12)


def test_the_advantage_is_the_log_ratio_of_the_edges():
    _, visible, infrared = inputs()
    found = edge_advantage(visible, infrared)[0, 0]
    energies = [edge_energy(image[0, 0].numpy()) for image in (visible, infrared)]
    np.testing.assert_allclose(found, 0.5 * np.log(energies[0] / energies[1]), atol=1e-12)


def test_bands_add_up_to_their_image():
    image = inputs()[1]
    torch.testing.assert_close(collapse(laplacian_bands(image)), image)


def test_untrained_it_takes_details_from_the_source_that_has_them():
    texture = 0.1 * (torch.arange(64) % 4 < 2).float().view(1, 1, 64, 1).expand(1, 1, 64, 128)
    left = torch.arange(128) < 64
    visible, infrared = 0.3 + texture * left, 0.3 + texture * ~left
    features = [torch.zeros(1, 64 >> level, 128 >> level, c) for level, c in enumerate(WIDTHS)]
    fused = mix(BandMixer(WIDTHS), features, visible, infrared)
    torch.testing.assert_close(fused[..., :40], visible[..., :40], atol=2e-3, rtol=0)
    torch.testing.assert_close(fused[..., 88:], infrared[..., 88:], atol=2e-3, rtol=0)


def test_the_base_stays_near_the_range_of_the_sources():
    flat = [torch.full((1, 1, 64, 128), level) for level in (0.02, 0.04)]
    features = [torch.ones(1, 64 >> level, 128 >> level, c) for level, c in enumerate(WIDTHS)]
    ours = BandMixer(WIDTHS)
    for offset, expected in ((0.5, 1.25 * 0.04 + 0.02), (-0.5, 0.75 * 0.02)):
        with torch.no_grad():
            ours.base.bias[2] = offset
            fused = mix(ours, features, *flat)
        torch.testing.assert_close(fused, torch.full_like(fused, expected))


@pytest.mark.parametrize("fine", [False, True])
def test_gradients_are_those_of_finite_differences(fine):
    ours, (features, visible, infrared) = mixer(fine=fine), inputs(height=64, width=64)
    for tensor in (*features, visible, infrared):
        tensor.requires_grad_()
    weights = tuple(ours.parameters())

    def run(*tensors):
        return mix(ours, tensors[:4], *tensors[4:6])

    assert torch.autograd.gradcheck(run, (*features, visible, infrared, *weights), fast_mode=True)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 16, 200)])
def test_a_network_keeps_shape_colour_and_range(shape, fine):
    batch, height, width = shape
    torch.manual_seed(0)
    config = ModelConfig(
        width=8, blocks=(1, 1, 1, 1), refinement=0, text=False, start="bands", fine=fine
    )
    network = FusionNet(config).eval()
    with torch.no_grad():
        for weight in network.out.parameters():
            weight.normal_(std=0.02)
        visible = 0.35 + 0.3 * torch.rand(batch, 3, height, width)
        fused = network(visible, torch.rand(batch, 1, height, width))
    assert fused.shape == visible.shape
    assert 0.0 <= fused.min() <= fused.max() <= 1.0
    gray = luminance(fused)
    fits = (gray > 0.4) & (gray < 0.6)
    assert fits.any()
    chroma = (rgb_to_ycbcr(fused) - rgb_to_ycbcr(visible))[:, 1:].abs().amax(1, keepdim=True)
    assert chroma[fits].max() < 1e-5


def test_finest_gains_are_of_bands():
    with pytest.raises(ValidationError, match="fine needs start=bands, got pyramid"):
        ModelConfig(start="pyramid", fine=True)


def test_small_windows_are_refused():
    with pytest.raises(ValidationError, match="window of 8 or more, got 4"):
        ModelConfig(start="bands", window=4)
