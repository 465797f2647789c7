"""The last stage: publish the winner's bundle, make it current if it is better, serve and prove."""

import functools
import tempfile
from pathlib import Path

import httpx

from dtpf.core.bundle import load_bundle, save_bundle
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.metrics import RETENTION_METRICS, retention
from dtpf.core.models import FusionNet
from dtpf.core.records import Pair
from dtpf.core.storage import keys
from dtpf.core.storage.keys import StageKeys
from dtpf.core.storage.receipts import Receipt
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path, read_bytes
from dtpf.data.images import decode_infrared, decode_visible, encode_png
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import NetworkMethod
from dtpf.evaluation.running import LOSSES
from dtpf.pipeline import registry
from dtpf.pipeline.stages import Context, Outcome
from dtpf.serving.client import TOKEN_VARIABLE, auth_headers
from dtpf.serving.config import ServeConfig

VERSION_DIGITS = 12
REQUEST_SECONDS = 120.0


def deploy(context: Context, place: StageKeys) -> Outcome:
    """Publish the winner under the model name of the config, then serve what is current."""
    plan = context.plan
    sample = _sample_pair(context)
    evaluation = plan.need("evaluate")
    name = plan.config.serve.name
    published = _publish(plan.store, name, plan.need("tune"), evaluation, sample)
    context.console.line(f"published {published.uri}")
    uri = elect(context, name, published).uri
    outputs = {"model": uri, "published": published.uri, **evaluation.outputs}
    if context.engines.deploy is None:
        return Outcome(outputs)
    url = context.engines.deploy(plan.config.serve, plan.store.uri)
    milliseconds = _prove(url, plan.config.serve, sample, uri)
    context.console.line(f"one real request answered in {milliseconds:.0f} ms")
    command = curl_line(url, sample, with_token=plan.config.serve.tokens_file is not None)
    return Outcome(
        {**outputs, "url": url, "curl": command}, {"first_request_ms": round(milliseconds, 1)}
    )


def _sample_pair(context: Context) -> Pair:
    pairs = context.pairs()
    for split in ("test", "val", "train"):
        for pair in pairs:
            if pair.split == split:
                return pair
    raise UserError("the index is empty; there is nothing to show")


def _publish(
    store: Store, name: str, tune: Receipt, evaluation: Receipt, sample: Pair
) -> registry.Version:
    """Write the bundle below `models/<name>/<version>`; it is not current yet."""
    winner = load_bundle(store.uri_of(tune.outputs["bundle"]))
    version = winner.sha256[:VERSION_DIGITS]
    prefix = keys.model_prefix(name, version)
    seen, heat = read_bytes(sample.visible_uri), read_bytes(sample.infrared_uri)
    visible = decode_visible(seen, sample.visible_uri)
    infrared = decode_infrared(heat, sample.infrared_uri)
    pictures = {
        "visible.png": encode_png(visible),
        "infrared.png": encode_png(infrared),
        "fused.png": encode_png(Fuser(winner).fuse(visible, infrared)),
    }
    save_bundle(
        store,
        prefix,
        winner.model,
        provenance={**winner.provenance, "evaluation": evaluation.fingerprint},
        metrics=evaluation.metrics,
        samples=pictures,
    )
    losses = f"{tune.outputs['bundle'].rpartition('/')[0]}/{LOSSES}"
    if store.exists(losses):  # beside the bundle of a run; a report on the version draws them
        store.write_bytes(f"{prefix}/{LOSSES}", store.read_bytes(losses))
    return registry.Version(version=version, uri=store.uri_of(prefix), sha256=winner.sha256)


def elect(context: Context, name: str, published: registry.Version) -> registry.Version:
    """Make what was just published current if it is better, or if the work was forced.

    Returns:
        The version that is current now.
    """
    store, line = context.plan.store, context.console.line
    present = registry.current(store, name)
    if present is not None and present.version == published.version:
        return present
    taken_back = registry.withdrawn(store, name, published.version)
    if present is not None and not context.forced:
        remedy = "--force deploy makes the new one current"
        if taken_back:
            why = f"the new one was taken back {taken_back}"
            line(f"{present.version} stays current: {why}; {remedy}")
            return present
        gain = _gain(context, published, present)
        if gain is not None and gain <= 0.0:
            line(f"{present.version} stays current: the new one scores {gain:+.2%}; {remedy}")
            return present
        if gain is not None:
            line(f"better than {present.version} by {gain:+.2%}")
    registry.make_current(store, name, published)
    return published


def _gain(context: Context, new: registry.Version, old: registry.Version) -> float | None:
    """Return by how much `new` scores above `old` on the pairs of this evaluation; 0 is equal.

    The mean over VIF, Qabf and SSIM, both measured now: stored scores may be of other pairs.
    None if there is nothing that could be compared with.
    """
    config = context.plan.config
    try:
        networks = [NetworkMethod(item.version, _student(item.uri)) for item in (new, old)]
    except UserError as error:
        context.console.line(f"the current model cannot be compared with: {error}")
        return None
    table = context.engines.score(
        networks,
        context.pairs(),
        functools.partial(load_pair, scaling=config.data.infrared_scaling),
        config.evaluation.model_copy(update={"metrics": RETENTION_METRICS, "limit": ()}),
        None,
    )
    means = table.means()
    try:
        return retention(means[new.version], means[old.version]) - 1.0
    except ValueError:  # the old one scores zero or below
        return None


def _student(uri: str) -> FusionNet:
    model = load_bundle(uri).model
    if model.config.text:
        raise UserError(f"{uri}: needs text")
    return model


def _prove(url: str, config: ServeConfig, sample: Pair, model_uri: str) -> float:
    """Send one real request; returns its milliseconds.

    Raises:
        UserError: the endpoint does not answer with a picture by the published model.
    """
    files = {
        "visible": ("visible", read_bytes(sample.visible_uri)),
        "infrared": ("infrared", read_bytes(sample.infrared_uri)),
    }
    try:
        answer = httpx.post(
            f"{url}/fuse",
            files=files,
            headers=auth_headers(),
            timeout=REQUEST_SECONDS,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise UserError(f"{url}/fuse: no answer ({error}); see the log of the replica") from None
    if answer.status_code != httpx.codes.OK:
        raise UserError(f"{url}/fuse: status {answer.status_code}: {answer.text[:300]}")
    decode_visible(answer.content, f"{url}/fuse")
    version = answer.headers.get("x-model-version", "")
    if version != model_uri.rpartition("/")[2]:
        raise UserError(f"{url}/fuse: answered by model {version}, expected {model_uri}")
    return answer.elapsed.total_seconds() * 1000.0


def curl_line(url: str, pair: Pair, *, with_token: bool = False) -> str:
    """Return a command that fuses a pair at the endpoint; works when pasted on this machine.

    A token is named by the variable that has it: the line stands in logs.
    """
    visible, infrared = (
        _on_disk(uri, f"{pair.pair_id}-{side}")
        for uri, side in ((pair.visible_uri, "visible"), (pair.infrared_uri, "infrared"))
    )
    images = f"-F visible=@'{visible}' -F infrared=@'{infrared}'"
    token = f'-H "Authorization: Bearer ${TOKEN_VARIABLE}" ' if with_token else ""
    return f"curl -sS {token}{images} {url}/fuse -o fused.png"


def _on_disk(uri: str, name: str) -> Path:
    path = local_path(uri)
    if path is not None:
        return path
    folder = Path(tempfile.gettempdir()) / "dtpf-example"
    folder.mkdir(exist_ok=True)
    copy = folder / f"{name.replace('/', '_')}{Path(uri).suffix}"
    copy.write_bytes(read_bytes(uri))
    return copy
