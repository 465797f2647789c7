"""Questions to a vision-language model: versioned text files with two places for images."""

import re
from importlib import resources
from typing import Any

from dtpf.caption.vlm.answers import SEVERITIES
from dtpf.core.errors import UserError
from dtpf.core.records import DEGRADATIONS, MODALITIES

_FOLDER = resources.files("dtpf.caption.vlm") / "prompts"
_IMAGE = re.compile(r"\{(visible|infrared)\}")


def read_prompt(name: str, version: str) -> str:
    """Return a question with the names of what may be answered, and `{visible}`, `{infrared}`.

    Raises:
        UserError: there is no such version; names those that there are.
    """
    known = sorted(path.name.removesuffix(".txt") for path in _FOLDER.iterdir())
    if f"{name}-{version}" not in known:
        raise UserError(
            f"caption.prompt_version: no prompt {name}-{version}; known: {', '.join(known)}"
        )
    text = (_FOLDER / f"{name}-{version}.txt").read_text(encoding="utf-8")
    for modality in MODALITIES:
        text = text.replace(f"{{{modality}_kinds}}", ", ".join(DEGRADATIONS[modality]))
    return text.replace("{severities}", ", ".join(SEVERITIES))


def as_messages(prompt: str, images: dict[str, str]) -> list[dict[str, Any]]:
    """Return a question as one chat message, each image beside the words that introduce it.

    Args:
        prompt: as `read_prompt` returns it.
        images: URL (`data:...`) of the image of each modality.
    """
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(_IMAGE.split(prompt)):
        if number % 2:
            parts.append({"type": "image_url", "image_url": {"url": images[piece]}})
        elif piece:
            parts.append({"type": "text", "text": piece})
    return [{"role": "user", "content": parts}]
