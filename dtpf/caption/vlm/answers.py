"""What a vision-language model may answer, and how an answer becomes a caption."""

import json
import re
from typing import Any

from dtpf.caption.text import compose_caption
from dtpf.core.records import DEGRADATIONS, MODALITIES, Degradation

# The middle of each third of [0, 1], as `severity_word` divides it.
SEVERITIES = {"mild": 1 / 6, "moderate": 0.5, "severe": 5 / 6}

# Four to 25 words. xgrammar refuses a class repeated more than some 100 times.
_SCENE = r"^[A-Z][a-z]{0,14}( [A-Za-z0-9,'-]{1,16}){3,24}\.$"
_FEWEST_WORDS = 3  # different ones
_OPPOSITES = {"low_light", "over_exposure"}
# What reading an answer of another shape raises; too deep a nesting is a RecursionError.
_UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class UnusableAnswer(ValueError):
    """An answer that makes no caption; its text is the status of the row: `kind: detail`."""


def answer_schema() -> dict[str, Any]:
    """Return the JSON schema to which the engine binds an answer, length included."""
    images = {modality: _image_schema(DEGRADATIONS[modality]) for modality in MODALITIES}
    return _object(images)


def _image_schema(kinds: tuple[str, ...]) -> dict[str, Any]:
    found = _object({"kind": {"enum": list(kinds)}, "severity": {"enum": list(SEVERITIES)}})
    return _object(
        {
            "degradations": {"type": "array", "items": found, "maxItems": len(kinds)},
            "scene": {"type": "string", "pattern": _SCENE},
        }
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_answer(text: str, tokens: int, max_tokens: int) -> tuple[tuple[Degradation, ...], str]:
    """Return what an answer says: degradations, and the caption: what is wrong, then the scenes.

    Args:
        text: of the answer.
        tokens: its length.
        max_tokens: the length at which it was cut off.

    Raises:
        UnusableAnswer: `truncated`; `invalid`, not what was asked for or without sense; `engine`,
            which answers nothing at all to a schema that it cannot compile.
    """
    if not tokens:
        raise UnusableAnswer("engine: no answer; its log says why")
    try:
        answer = json.loads(text)
        found = tuple(item for modality in MODALITIES for item in _degradations(modality, answer))
        scenes = [_scene(answer[modality]["scene"]) for modality in MODALITIES]
    except _UNUSABLE as error:
        if tokens >= max_tokens:
            raise UnusableAnswer(f"truncated: cut off after {tokens} tokens") from None
        line = " ".join(str(error).split())
        detail = line.encode(errors="replace").decode()  # half a surrogate pair cannot be stored
        raise UnusableAnswer(f"invalid: {type(error).__name__}: {detail}"[:200]) from None
    return found, " ".join([compose_caption(found), *scenes])


def _degradations(modality: str, answer: dict[str, Any]) -> list[Degradation]:
    items = answer[modality]["degradations"]
    if not isinstance(items, list):
        raise TypeError(f"{modality}: degradations must be a list")
    found = [Degradation(modality, item["kind"], SEVERITIES[item["severity"]]) for item in items]
    kinds = [item.kind for item in found]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{modality}: a degradation is named twice")
    if set(kinds) >= _OPPOSITES:
        raise ValueError(f"{modality}: both {' and '.join(sorted(_OPPOSITES))}")
    return found


def _scene(text: str) -> str:
    """Return a sentence that may be one; refuses what no person would write."""
    words = re.findall(r"[a-z]+", text.lower())
    if not re.fullmatch(_SCENE, text) or len(set(words)) < _FEWEST_WORDS:
        raise ValueError(f"no sentence: {text[:40]!r}")
    if max(map(words.count, set(words))) > max(len(words) // 2, 2):
        raise ValueError(f"one word again and again: {text[:40]!r}")
    return text
