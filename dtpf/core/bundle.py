"""A trained network as one artifact: weights, config, where it came from, scores, card.

Files below one prefix: `model.safetensors`, `config.json`, `provenance.json`, `metrics.json`,
`card.md` and `samples/`. Weights are safetensors only: loading a bundle runs no code from it.
`config.json` is written last, so a prefix without it is not a bundle.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from dtpf.core.errors import UserError
from dtpf.core.models import FusionNet, ModelConfig, count_parameters
from dtpf.core.shipped import located
from dtpf.core.storage.keys import CURRENT
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import normalise_uri

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class Bundle:
    """A loaded network with its papers.

    Attributes:
        model: the network, in eval mode, on the CPU.
        uri: where it came from.
        sha256: digest of the weights file.
        provenance: data, captioner, text encoder, budget, parents.
        metrics: scores on the test split, or `{}`.
    """

    model: FusionNet
    uri: str
    sha256: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Last part of the bundle's URI."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def info(self) -> dict[str, Any]:
        """What a person or a client wants to know about the network, as JSON types."""
        return {
            "uri": self.uri,
            "version": self.version,
            "sha256": self.sha256,
            "parameters": count_parameters(self.model),
            "config": self.model.config.as_dict(),
            "provenance": dict(self.provenance),
            "metrics": dict(self.metrics),
        }


def save_bundle(
    store: Store,
    prefix: str,
    model: FusionNet,
    *,
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    samples: Mapping[str, bytes] | None = None,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write a bundle below `prefix` and return the sha256 of its weights.

    `samples` are image files by name, shown on the card; `dtype` is what weights are stored as.
    """
    state = {
        name: tensor.detach().cpu().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    weights = save_safetensors(state)
    digest = hashlib.sha256(weights).hexdigest()
    store.write_bytes(f"{prefix}/{WEIGHTS}", weights)
    for name, data in (samples or {}).items():
        store.write_bytes(f"{prefix}/samples/{name}", data)
    store.write_json(f"{prefix}/provenance.json", dict(provenance))
    store.write_json(f"{prefix}/metrics.json", dict(metrics or {}))
    card = _card(model, digest, provenance, metrics or {}, sorted(samples or {}))
    store.write_bytes(f"{prefix}/card.md", card.encode())
    store.write_json(f"{prefix}/{CONFIG}", {"model": model.config.as_dict(), "sha256": digest})
    return digest


def load_bundle(uri: str | os.PathLike[str]) -> Bundle:
    """Load a bundle from a folder, an s3:// prefix, or a `current.json` that points to one.

    Names of shipped networks (`dtpf.core.shipped`) work too.

    Raises:
        UserError: no bundle there, damaged weights, or weights that do not fit the config.
    """
    text = normalise_uri(located(os.fspath(uri)))
    if text.endswith(f"/{CURRENT}"):
        folder, _, name = text.rpartition("/")
        return load_bundle(Store(folder).read_json(name)["uri"])
    config, promised = read_bundle_config(text)
    store = Store(text)
    weights = store.read_bytes(WEIGHTS)
    digest = hashlib.sha256(weights).hexdigest()
    if digest != promised:
        raise UserError(f"{text}/{WEIGHTS}: damaged (its sha256 is not the one in {CONFIG})")
    model = FusionNet(config)
    _load_weights(model, weights, f"{text}/{WEIGHTS}")
    return Bundle(
        model=model.eval(),
        uri=text,
        sha256=digest,
        provenance=store.read_json("provenance.json"),
        metrics=store.read_json("metrics.json"),
    )


def read_bundle_config(uri: str | os.PathLike[str]) -> tuple[ModelConfig, str]:
    """Return the network's config and the sha256 of its weights, without reading the weights.

    Raises:
        UserError: no bundle there, or a config of another network.
    """
    store = Store(uri)
    if not store.exists(CONFIG):
        raise UserError(f"{store.uri}: no bundle there ({CONFIG} is missing)")
    document = store.read_json(CONFIG)
    config = ModelConfig.parse(document["model"], f"{store.uri}/{CONFIG}: model")
    return config, str(document.get("sha256"))


def _load_weights(model: FusionNet, weights: bytes, source: str) -> None:
    try:
        state = load_safetensors(weights)
        given = {name: tuple(tensor.shape) for name, tensor in state.items()}
        needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        if given != needed:
            name = sorted(set(given.items()) ^ set(needed.items()))[0][0]
            raise UserError(
                f"{source}: weights do not fit {CONFIG}: {name} is {given.get(name, 'missing')}, "
                f"needed {needed.get(name, 'nothing')}"
            )
        model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in state.items()})
    except SafetensorError as error:
        raise UserError(f"{source}: not a safetensors file ({error})") from None


def _card(
    model: FusionNet,
    digest: str,
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any],
    samples: list[str],
) -> str:
    scores = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    origin = "\n".join(f"- {name}: {value}" for name, value in provenance.items())
    pictures = "\n".join(f"![{name}](samples/{name})" for name in samples)
    return f"""# Fusion network

{count_parameters(model):,} parameters, weights sha256 `{digest}`.
Takes a visible image and an infrared image of the same size and needs no text: \
{"no" if model.config.text else "yes"}.

## Where it comes from
{origin}

## Scores
| metric | value |
|---|---|
{scores or "| none measured | |"}

## Configuration
```json
{json.dumps(model.config.as_dict(), indent=2)}
```
{pictures}
"""
