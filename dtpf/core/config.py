"""Strict, frozen configs: unknown keys and wrong types are errors, every config has a fingerprint.

Configs live beside what they configure; this module holds what they share.
"""

import difflib
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dtpf.core.errors import UserError

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of all configs and stored documents: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types (tuples become lists)."""
        return self.model_dump(mode="json")

    @classmethod
    def parse(cls, document: str | bytes | dict[str, Any], source: str) -> Self:
        """Read a config from JSON text or plain types; errors name `source` and the field."""
        text = json.dumps(document) if isinstance(document, dict) else document
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(f"{source}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Return one line for a validation error: the field, what is wrong, what was given."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "(top level)"
    given = first.get("input")
    shown = "" if isinstance(given, dict) else f" (given: {given!r})"
    return f"{field}: {first['msg'].removeprefix('Value error, ')}{shown}"


def fingerprint(*parts: Any) -> str:
    """Return 12 hex digits that identify JSON-like values: equal values, equal fingerprints."""
    plain = [part.as_dict() if isinstance(part, Config) else part for part in parts]
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def apply_overrides(config: ConfigT, overrides: Sequence[str]) -> ConfigT:
    """Return `config` with `a.b=value` settings applied; values are JSON, or else plain strings.

    Raises:
        UserError: a setting without `=`, an unknown key (with the nearest known one), a wrong type.
    """
    document = config.as_dict()
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"--set {override}: expected KEY=VALUE, such as train.steps=100")
        _assign(document, key.strip(), _value(text))
    return type(config).parse(document, "--set" if overrides else "config")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(document: dict[str, Any], key: str, value: Any) -> None:
    node: Any = document
    *parents, last = key.split(".")
    for depth, part in enumerate([*parents, last]):
        if not isinstance(node, dict) or part not in node:
            prefix = ".".join([*parents, last][:depth])
            known = sorted(node) if isinstance(node, dict) else []
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise UserError(
                f"--set {key}: unknown key {part!r} under {prefix or 'top level'!r}; {hint}"
            )
        if depth < len(parents):
            node = node[part]
    node[last] = value
