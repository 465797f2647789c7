"""Weights by text: the published table, means over several degradations, switches."""

import pytest

from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.losses import LossConfig, TermWeights, medical_weights_for, weights_for
from dtpf.core.losses.weights import DEGRADATION_WEIGHTS, MEDICAL_WEIGHTS
from dtpf.core.records import EVERY_DEGRADATION, Degradation


def weights(intensity, consistency, gradient, ssim=2.0, color=12.0):
    return TermWeights(
        intensity=intensity,
        consistency=consistency,
        gradient=gradient,
        ssim=ssim,
        ssim_infrared=ssim,
        color=color,
        information=0.0,
        edges=0.0,
        artefacts=0.0,
        frequency=0.0,
        sharpness=0.0,
        alternation=0.0,
        grain=0.0,
    )


# As the authors' published training has them: maximum / consistency / gradient.
PUBLISHED = [
    ("visible", "low_light", (48, 20, 48)),
    ("visible", "over_exposure", (32, 60, 48)),
    ("visible", "noise", (32, 80, 72)),
    ("visible", "motion_blur", (32, 40, 72)),
    ("infrared", "low_contrast", (40, 40, 48)),
    ("infrared", "noise", (32, 60, 48)),
    ("infrared", "stripes", (24, 80, 96)),
]


@pytest.mark.parametrize(("modality", "kind", "expected"), PUBLISHED)
def test_one_degradation(modality, kind, expected):
    found = weights_for([Degradation(modality, kind)], LossConfig())
    assert found == weights(*expected)


def test_every_degradation_has_its_row():
    assert set(DEGRADATION_WEIGHTS) == set(EVERY_DEGRADATION)


def test_several_degradations_are_averaged():
    both = [Degradation("visible", "low_light", 0.2), Degradation("infrared", "stripes")]
    assert weights_for(both, LossConfig()) == weights(36, 50, 72)


def test_none_is_the_base():
    assert weights_for([], LossConfig()) == weights(24, 40, 48)


def test_paper_preset_is_what_is_printed():
    config = LossConfig(preset="paper")
    expected = weights(24, 0, 48, ssim=40)
    assert weights_for([], config) == expected
    assert weights_for([Degradation("visible", "noise")], config) == expected


@pytest.mark.parametrize("preset", ["transfer", "sharp", "crisp"])
def test_metric_presets_weigh_what_the_metrics_measure_whatever_the_text_says(preset):
    config = LossConfig(preset=preset)
    found = weights_for([], config)
    assert min(found.information, found.edges, found.artefacts) > 0
    assert weights_for([Degradation("visible", "noise")], config) == found


@pytest.mark.parametrize("preset", ["paper", "released", "transfer", "sharp", "crisp"])
@pytest.mark.parametrize("term", TermWeights.model_fields)
def test_every_term_can_be_switched_off(preset, term):
    config = apply_overrides(LossConfig(preset=preset), [f"scale.{term}=0"])
    found = weights_for([], config).as_dict()
    full = weights_for([], LossConfig(preset=preset)).as_dict()
    assert found.pop(term) == 0
    full.pop(term)
    assert found == full


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("contrast_enhancement", (40, 60, 96, 4)),
        ("edge_preservation", (48, 80, 72)),
        ("noise_suppression", (32, 100, 72, 4)),
        ("detail_enhancement", (40, 80, 96)),
        ("structure_consistency", (48, 100, 72, 8)),
        ("artifact_reduction", (32, 120, 96, 6)),
    ],
)
def test_medical_events(event, expected):
    assert medical_weights_for([event], LossConfig()) == weights(*expected)


def test_medical_events_are_averaged_too():
    events = ["contrast_enhancement", "structure_consistency"]
    assert medical_weights_for(events, LossConfig()) == weights(44, 80, 84, ssim=6)
    assert len(MEDICAL_WEIGHTS) == 6


def test_rejects():
    with pytest.raises(ValueError, match="unknown events"):
        medical_weights_for(["sharpen"], LossConfig())
    with pytest.raises(UserError, match="preset"):
        LossConfig.parse({"preset": "mine"}, "test")
