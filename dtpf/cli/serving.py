"""What `dtpf serve` and `dtpf token` do with their options."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.serving.config import ServeConfig
from dtpf.serving.tokens import add_token, remove_tokens


def make_config(
    host: str, port: int, tokens: str | None, calibration: str | None, settings: Sequence[str]
) -> ServeConfig:
    """Return the settings of an endpoint; UserError names a wrong one."""
    document = {"host": host, "port": port, "tokens_file": tokens, "calibration": calibration}
    return apply_overrides(ServeConfig.parse(document, "dtpf serve"), settings)


def sources(bundles: Sequence[str], default: str) -> dict[str, str]:
    """Return bundles by model name: of NAME=URI each, or one URI under the default name."""
    if len(bundles) == 1 and "=" not in bundles[0]:
        return {default: bundles[0]}
    parts = [bundle.partition("=") for bundle in bundles]
    for name, separator, uri in parts:
        if not (name and separator and uri):
            raise UserError(f"{name}: several models need names, such as night=models/night/4f1c")
    return {name: uri for name, _, uri in parts}


def change_tokens(
    file: str, name: str, limits: Mapping[str, int | None], rotate: bool, remove: bool
) -> str | None:
    """Add a token to a file, exchange it, or remove it; returns a new token."""
    path = Path(file)
    if remove:
        print(f"{path}: {remove_tokens(path, name)} tokens of {name} removed", file=sys.stderr)
        return None
    secret = add_token(path, name, **limits)
    if rotate:
        remove_tokens(path, name, keep_newest=True)
    print(f"{path}: token of {name} added; it is shown this once:", file=sys.stderr)
    return secret
