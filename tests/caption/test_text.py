import pytest

from dtpf.caption.text import compose_caption, severity_word
from dtpf.core.records import DEGRADATIONS, Degradation


@pytest.mark.parametrize(
    ("severity", "word"),
    [(0.0, "mild"), (1 / 3, "mild"), (0.34, "moderate"), (0.67, "severe"), (1.0, "severe")],
)
def test_severity_words_are_thirds(severity, word):
    assert severity_word(severity) == word


def test_clean_pair_has_one_sentence_per_image():
    assert compose_caption([]) == "The visible image is clean. The infrared image is clean."


def test_severest_degradation_comes_first_whatever_the_order():
    found = [
        Degradation("visible", "noise", 0.2),
        Degradation("infrared", "stripes", 0.5),
        Degradation("visible", "low_light", 0.9),
        Degradation("visible", "motion_blur", 0.4),
    ]
    expected = (
        "The visible image has severe low light, moderate motion blur and mild noise."
        " The infrared image has moderate stripes."
    )
    assert compose_caption(found) == expected
    assert compose_caption(reversed(found)) == expected


EVERY = [Degradation(m, kind, 0.5) for m, kinds in DEGRADATIONS.items() for kind in kinds]


@pytest.mark.parametrize("one", EVERY, ids=lambda item: item.name)
def test_every_known_degradation_has_words(one):
    caption = compose_caption([one])
    assert f"The {one.modality} image has moderate " in caption
    assert "_" not in caption


def test_of_many_degradations_the_severest_are_named():
    kinds = DEGRADATIONS["visible"]
    found = [Degradation("visible", kind, 0.1 * place) for place, kind in enumerate(kinds, 1)]
    caption = compose_caption(found)
    assert caption.startswith("The visible image has severe snow, severe haze, severe rain, ")
    assert "low light" not in caption
    assert caption == compose_caption(found[-5:])


def test_all_at_once_fit_clip():
    caption = compose_caption(EVERY)
    # CLIP's byte-pair tokens are longer than 3 characters on average and split at spaces and
    # punctuation; this bound is far on the safe side of its 75 usable tokens.
    pieces = caption.replace(".", " .").replace(",", " ,").replace("-", " - ").split()
    assert sum(1 + len(piece) // 8 for piece in pieces) < 75
