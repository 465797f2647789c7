import json
import re
from pathlib import Path
from typing import get_args

import pytest

from dtpf.caption.config import CaptionConfig, VlmConfig
from dtpf.caption.vlm import prompts
from dtpf.caption.vlm.answers import SEVERITIES
from dtpf.caption.vlm.prompts import as_messages, image_order, read_prompt
from dtpf.core.errors import UserError
from dtpf.core.records import DEGRADATIONS, MODALITIES

GOLDEN = Path(__file__).parents[2] / "golden" / "prompt_infrared_visible_1.json"
FILES = sorted(path.stem for path in Path(prompts.__file__).with_name("prompts").iterdir())

every_prompt = pytest.mark.parametrize("file", FILES)


def read_file(file):
    return read_prompt(*file.rsplit("-", 1))


def test_every_prompt_of_the_config_is_there_in_the_version_that_is_the_default():
    names = get_args(VlmConfig.model_fields["prompt"].annotation)
    assert {f"{name}-{CaptionConfig().prompt_version}" for name in names} <= set(FILES)
    assert {file.rsplit("-", 1)[0] for file in FILES} == set(names)


@every_prompt
def test_a_prompt_has_a_place_for_each_image_and_nothing_else_to_fill_in(file):
    assert re.findall(r"\{\w*\}", read_file(file)) == ["{visible}", "{infrared}"]


@every_prompt
def test_a_prompt_names_all_that_may_be_answered(file):
    text = read_file(file)
    for modality in MODALITIES:
        assert f": {', '.join(DEGRADATIONS[modality])}.\n" in text
        assert f'"{modality}": {{"degradations": [' in text
    assert f"{', '.join(SEVERITIES)}." in text


def test_an_unknown_version_names_those_that_there_are():
    with pytest.raises(UserError, match="no prompt infrared_visible-9") as caught:
        read_prompt("infrared_visible", "9")
    assert str(caught.value).endswith(f"known: {', '.join(FILES)}")


@every_prompt
def test_each_image_follows_the_line_that_introduces_it(file):
    (message,) = as_messages(read_file(file))
    assert message["role"] == "user"
    before, visible, between, infrared, _ = message["content"]
    assert visible == infrared == {"type": "image"}
    assert image_order(read_file(file)) == ["visible", "infrared"]
    for text in (before, between):
        assert text["type"] == "text"
        assert text["text"].endswith(":\n")


@every_prompt
def test_messages_hold_every_word_of_the_prompt(file):
    (message,) = as_messages(read_file(file))
    words = [part.get("text", "{}") for part in message["content"]]
    assert "".join(words) == re.sub(r"\{(visible|infrared)\}", "{}", read_file(file))


def test_an_image_without_words_before_it_comes_first():
    prompt = "{infrared}{visible} and no more"
    (message,) = as_messages(prompt)
    assert [part["type"] for part in message["content"]] == ["image", "image", "text"]
    assert image_order(prompt) == ["infrared", "visible"]


def test_messages_are_as_they_were():
    """A changed question needs a new version: captions of the old one would pass for its own."""
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert as_messages(read_prompt("infrared_visible", "1")) == expected
