import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtpf.caption.text import severity_word
from dtpf.caption.vlm.answers import SEVERITIES, UnusableAnswer, answer_schema, read_answer
from dtpf.core.records import DEGRADATIONS, MODALITIES, Degradation

ROAD = "A dark road with two parked cars."
WALKER = "One warm pedestrian crosses the cold street."
GOOD = {
    "visible": {
        "degradations": [
            {"kind": "noise", "severity": "mild"},
            {"kind": "low_light", "severity": "severe"},
        ],
        "scene": ROAD,
    },
    "infrared": {"degradations": [{"kind": "stripes", "severity": "moderate"}], "scene": WALKER},
}


def read(answer, tokens=50, max_tokens=100):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return read_answer(text, tokens, max_tokens)


def changed(modality="visible", **values):
    answer = copy.deepcopy(GOOD)
    answer[modality].update(values)
    return answer


def found(*kinds, severity="mild"):
    return [{"kind": kind, "severity": severity} for kind in kinds]


def refusal(answer, tokens=50, max_tokens=100):
    with pytest.raises(UnusableAnswer) as caught:
        read(answer, tokens, max_tokens)
    status = str(caught.value)
    assert len(status) <= 200
    assert len(status.splitlines()) == 1
    return status


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_schema_names_exactly_the_known_kinds_and_severities(modality):
    image = answer_schema()["properties"][modality]["properties"]
    names = image["degradations"]["items"]["properties"]
    assert names["kind"]["enum"] == list(DEGRADATIONS[modality])
    assert names["severity"]["enum"] == list(SEVERITIES)


def test_the_schema_leaves_nothing_out_and_lets_nothing_more_in():
    def objects(schema):
        if schema.get("type") == "object":
            yield schema
        for value in (*schema.get("properties", {}).values(), schema.get("items")):
            if value:
                yield from objects(value)

    schema = answer_schema()
    assert set(schema["properties"]) == set(MODALITIES)
    for part in objects(schema):
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False


@pytest.mark.parametrize("word", SEVERITIES)
def test_a_severity_is_called_in_the_caption_what_the_model_called_it(word):
    assert severity_word(SEVERITIES[word]) == word


def test_a_good_answer_is_degradations_and_a_caption_that_names_them_first():
    degradations, caption = read(GOOD)
    assert degradations == (
        Degradation("visible", "noise", SEVERITIES["mild"]),
        Degradation("visible", "low_light", SEVERITIES["severe"]),
        Degradation("infrared", "stripes", SEVERITIES["moderate"]),
    )
    assert caption == (
        "The visible image has severe low light and mild noise. "
        f"The infrared image has moderate stripes. {ROAD} {WALKER}"
    )


def test_images_without_degradations_are_clean():
    answer = changed(degradations=[])
    answer["infrared"]["degradations"] = []
    degradations, caption = read(answer)
    assert degradations == ()
    assert caption.startswith("The visible image is clean. The infrared image is clean. A dark")


def test_an_answer_that_ends_with_its_last_permitted_token_is_good():
    assert read(GOOD, tokens=100, max_tokens=100) == read(GOOD)


def test_an_answer_cut_off_at_the_limit_is_truncated():
    status = refusal(json.dumps(GOOD)[:-10], tokens=100, max_tokens=100)
    assert status == "truncated: cut off after 100 tokens"


def test_an_answer_that_breaks_off_below_the_limit_is_invalid():
    assert refusal(json.dumps(GOOD)[:-10], tokens=99).startswith("invalid: JSONDecodeError: ")


def test_no_tokens_are_a_fault_of_the_engine():
    assert refusal("", tokens=0).startswith("engine: ")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (changed(degradations=found("fog")), "unknown degradation visible/fog"),
        (changed(degradations=found("stripes")), "unknown degradation visible/stripes"),
        (changed(degradations=found("noise", severity="terrible")), "KeyError: 'terrible'"),
        (changed(degradations=found("noise", severity=["mild"])), "TypeError"),
        (changed(degradations=found("noise", "noise")), "visible: a degradation is named twice"),
        (
            changed(degradations=found("over_exposure", "low_light")),
            "visible: both low_light and over_exposure",
        ),
        (changed(degradations=None), "TypeError"),
        (changed("infrared", degradations=["noise"]), "TypeError"),
        ({"visible": GOOD["visible"]}, "KeyError: 'infrared'"),
        ({**GOOD, "infrared": {"degradations": []}}, "KeyError: 'scene'"),
        ({**GOOD, "infrared": None}, "TypeError"),
        ([GOOD], "TypeError"),
        ("null", "TypeError"),
        ("I see a road.", "JSONDecodeError"),
    ],
)
def test_an_answer_to_another_question_is_invalid(answer, why):
    assert refusal(answer).startswith(("invalid: " + why, "invalid: ValueError: " + why))


@pytest.mark.parametrize(
    "scene",
    [
        "A dark road.",  # three words
        "A " + "road " * 3 + "a road.",  # two different ones
        "Car car car car with a dark car road.",
        "A 1 2 3 4 5.",
        "a dark road with two parked cars.",
        "A dark road with two parked cars",
        "A dark road with two parked cars.\n",
        "A dark road; with two parked cars.",
        "A  dark road with two parked cars.",
        "A dark " + "o" * 17 + " with two parked cars.",
        "A dark road" + " with" * 23 + " cars.",  # 27 words
        "",
    ],
)
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_scene_without_sense_is_invalid(modality, scene):
    assert refusal(changed(modality, scene=scene)).startswith("invalid: ValueError: ")


@pytest.mark.parametrize("scene", [5, None, ["A dark road with two parked cars."], {}])
def test_a_scene_that_is_no_text_is_invalid(scene):
    assert refusal(changed(scene=scene)).startswith("invalid: ")


def test_a_scene_may_repeat_short_words():
    scene = "The cars stand on the road in the rain."
    assert read(changed(scene=scene))[1].endswith(f"{scene} {WALKER}")


def test_json_nested_too_deep_to_be_read_is_invalid():
    assert refusal("[" * 100_000).startswith("invalid: RecursionError")


def test_a_status_is_one_short_line_that_can_be_stored_whatever_the_answer_says():
    for kind in ("a\nb\u2028c " * 100, "\ud800"):
        status = refusal(changed(degradations=found(kind)))
        assert status.encode("utf-8").startswith(b"invalid: ")


def mostly(good, junk):
    return st.sampled_from(good) | junk


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
KINDS = [kind for kinds in DEGRADATIONS.values() for kind in kinds]
ITEM = st.fixed_dictionaries(
    {"kind": mostly(KINDS, JUNK), "severity": mostly(list(SEVERITIES), JUNK)}
)
IMAGE = st.fixed_dictionaries(
    {
        "degradations": st.lists(ITEM, max_size=3) | JUNK,
        "scene": mostly([ROAD, WALKER], JUNK | st.from_regex(r"[A-Z][a-z ]{0,40}\.\n?")),
    }
)
ANSWER = st.fixed_dictionaries(dict.fromkeys(MODALITIES, IMAGE)) | JUNK


@settings(max_examples=300)
@given(st.text() | ANSWER.map(json.dumps), st.integers(0, 3))
def test_any_text_is_unusable_or_holds_known_degradations(text, tokens):
    try:
        degradations, caption = read_answer(text, tokens, 3)
    except UnusableAnswer:
        status = refusal(text, tokens, 3)
        assert status.encode("utf-8").startswith((b"truncated: ", b"invalid: ", b"engine: "))
    else:
        assert all(item.kind in DEGRADATIONS[item.modality] for item in degradations)
        assert {item.severity for item in degradations} <= set(SEVERITIES.values())
        assert len({item.name for item in degradations}) == len(degradations)
        assert caption.startswith("The visible image ")
