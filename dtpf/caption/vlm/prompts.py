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


def image_order(prompt: str) -> list[str]:
    """Return the modalities of the images of a prompt, in the order in which it shows them."""
    return _IMAGE.findall(prompt)


def as_messages(prompt: str) -> list[dict[str, Any]]:
    """Return a question as one chat message, each image beside the words that introduce it.

    Args:
        prompt: as `read_prompt` returns it.
    """
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(_IMAGE.split(prompt)):
        if number % 2:
            parts.append({"type": "image"})
        elif piece:
            parts.append({"type": "text", "text": piece})
    return [{"role": "user", "content": parts}]


def render(prompt: str, model: str) -> str:
    """Return the text that a model reads for a prompt: its chat template with places for images.

    It is the same for every pair, so it is made once.

    Args:
        prompt: as `read_prompt` returns it.
        model: folder of the model.

    Raises:
        ImportError: transformers, which comes with vLLM, is not installed.
        UserError: the folder has no processor, or one without a chat template.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(model)
        return str(
            processor.apply_chat_template(
                as_messages(prompt), tokenize=False, add_generation_prompt=True
            )
        )
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"caption.vlm.model={model}: {line[:300]}") from None
