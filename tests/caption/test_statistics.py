import numpy as np
import pytest
from scipy import ndimage

from dtpf.caption.statistics import RULES, StatisticsCaptioner
from dtpf.core.errors import UserError
from dtpf.core.records import DEGRADATIONS
from tests.caption.scenes import texture, visible_scene


def rng():
    return np.random.default_rng(3)


def unit(image):
    return np.clip(image, 0, 1).astype(np.float32)


VISIBLE_DEFECTS = {
    "low_light": lambda image: image**2 * 0.4,
    "over_exposure": lambda image: unit(image * 2.2 + 0.2),
    "noise": lambda image: unit(image + rng().normal(0, 0.08, image.shape)),
    "motion_blur": lambda image: ndimage.uniform_filter1d(image, 15, axis=1),
}
INFRARED_DEFECTS = {
    "low_contrast": lambda image: 0.5 + 0.25 * (image - 0.5),
    "noise": lambda image: unit(image + rng().normal(0, 0.08, image.shape)),
    "stripes": lambda image: unit(image + rng().normal(0, 0.08, (1, image.shape[1]))),
}


def names(visible, infrared):
    caption = StatisticsCaptioner().caption("a", visible, infrared)
    return [item.name for item in caption.degradations]


def test_clean_pair_has_no_degradations():
    caption = StatisticsCaptioner("v9").caption("a", visible_scene(seed=1), texture(seed=2))
    assert caption.degradations == ()
    assert caption.caption == "The visible image is clean. The infrared image is clean."
    assert (caption.pair_id, caption.captioner, caption.prompt_version, caption.status) == (
        "a",
        "statistics",
        "v9",
        "ok",
    )


@pytest.mark.parametrize("kind", VISIBLE_DEFECTS)
def test_names_each_visible_degradation_and_no_other(kind):
    visible = VISIBLE_DEFECTS[kind](visible_scene(seed=1)).astype(np.float32)
    assert names(visible, texture(seed=2)) == [f"visible/{kind}"]


@pytest.mark.parametrize("kind", INFRARED_DEFECTS)
def test_names_each_infrared_degradation_and_no_other(kind):
    infrared = INFRARED_DEFECTS[kind](texture(seed=2)).astype(np.float32)
    assert names(visible_scene(seed=1), infrared) == [f"infrared/{kind}"]


def test_names_degradations_of_both_images_at_once():
    visible = unit(visible_scene(seed=1) ** 2 * 0.4 + rng().normal(0, 0.05, (160, 192, 3)))
    infrared = INFRARED_DEFECTS["stripes"](texture(seed=2))
    assert names(visible, infrared) == ["visible/low_light", "visible/noise", "infrared/stripes"]


def test_severity_grows_with_the_defect_and_survives_float32():
    severities = []
    for sigma in (0.03, 0.06, 0.1, 0.4):
        noisy = unit(texture(seed=2) + rng().normal(0, sigma, (160, 192)))
        degradations = StatisticsCaptioner().caption("a", visible_scene(), noisy).degradations
        found = next(item for item in degradations if item.name == "infrared/noise")
        assert float(np.float32(found.severity)) == found.severity
        severities.append(found.severity)
    assert severities == sorted(severities)
    assert severities[0] < 0.4
    assert severities[-1] == 1.0


def test_rules_name_known_degradations_once_with_ascending_scales():
    named = [(rule.modality, rule.kind) for rule in RULES]
    assert len(set(named)) == len(named)
    assert set(named) <= {(m, k) for m, kinds in DEGRADATIONS.items() for k in kinds}
    for rule in RULES:
        assert len(rule.levels) == len(rule.severities)
        assert list(rule.levels) == sorted(set(rule.levels))
        assert list(rule.severities) == sorted(set(rule.severities))
        assert 0 < rule.severities[0] <= rule.severities[-1] == 1.0


def test_images_too_small_to_judge_are_refused():
    with pytest.raises(UserError, match="a: images below 16 pixels"):
        StatisticsCaptioner().caption("a", np.zeros((15, 40, 3), np.float32), np.zeros((15, 40)))
