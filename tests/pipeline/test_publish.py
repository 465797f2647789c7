"""Which model becomes current: the better one on this evaluation's pairs, or what is forced."""

import http.server
import os
import subprocess
import threading
from dataclasses import replace

import pytest
import torch

from dtpf.core.bundle import load_bundle, save_bundle
from dtpf.core.records import Pair
from dtpf.core.storage.store import Store
from dtpf.pipeline import registry
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import in_process
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.publish import curl_line, elect
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.stages import Context
from tests.small import small_config

NAME = "student"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Context:
    plan = Plan(small_config(), Store(tmp_path_factory.mktemp("published")))
    context = Context(plan, in_process(), Console(lambda text: None))
    run_stages(context, ("data", "caption", "teacher", "student"))
    return context


@pytest.fixture
def versions(trained) -> dict[str, registry.Version]:
    """The trained student, and one whose output is noise."""
    store = trained.plan.store
    for key in ("current.json", "history.json"):
        store.delete(f"models/{NAME}/{key}")
    good = load_bundle(store.uri_of(trained.plan.need("student").outputs["bundle"]))
    made = {"good": registry.Version(version="good", uri=good.uri, sha256=good.sha256)}
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in good.model.parameters():
            weight.add_(torch.randn_like(weight))
    digest = save_bundle(store, "models/student/noise", good.model, provenance={})
    uri = store.uri_of("models/student/noise")
    return made | {"noise": registry.Version(version="noise", uri=uri, sha256=digest)}


def elected(context: Context, version: registry.Version, **changes) -> tuple[str, str]:
    lines: list[str] = []
    told = replace(context, console=Console(lines.append), **changes)
    return elect(told, NAME, version).version, "\n".join(lines)


def test_the_first_is_current_and_only_a_better_one_replaces_it(trained, versions):
    assert elected(trained, versions["noise"]) == ("noise", "")
    now, told = elected(trained, versions["good"])
    assert now == "good"
    assert "better than noise by +" in told
    now, told = elected(trained, versions["noise"])
    assert now == "good"
    assert "good stays current: the new one scores -" in told
    assert "--force deploy" in told
    assert elected(trained, versions["good"]) == ("good", "")


def test_force_makes_a_worse_one_current(trained, versions):
    elected(trained, versions["good"])
    assert elected(trained, versions["noise"], forced=True)[0] == "noise"


def test_what_was_taken_back_comes_back_by_force_alone(trained, versions):
    elected(trained, versions["noise"])
    elected(trained, versions["good"])
    store = trained.plan.store
    assert registry.roll_back(store, NAME)[1].version == "noise"
    now, told = elected(trained, versions["good"])
    assert now == "noise"
    assert "taken back" in told
    assert elected(trained, versions["good"], forced=True)[0] == "good"


def test_a_current_model_that_is_gone_is_replaced(trained, versions):
    gone = versions["good"].model_copy(update={"version": "gone", "uri": "file:///nowhere/x"})
    registry.make_current(trained.plan.store, NAME, gone)
    now, told = elected(trained, versions["noise"])
    assert now == "noise"
    assert "cannot be compared" in told


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the token that it was sent, and the images' bytes."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers["Authorization"]).encode() + b"\n" + body)

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(("with_token", "sent"), [(True, b"Bearer s3cret"), (False, b"None")])
def test_the_pasted_line_sends_both_images_and_a_token_where_one_is_wanted(
    tmp_path, with_token, sent
):
    for side in ("visible", "infrared"):
        (tmp_path / f"{side}.png").write_bytes(f"the {side} image".encode())
    uris = [f"file://{tmp_path}/{side}.png" for side in ("visible", "infrared")]
    pair = Pair("a", "test", *uris, 8, 8, "uint8", "uint8", "", "")
    with http.server.HTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        line = curl_line(f"http://127.0.0.1:{server.server_port}", pair, with_token=with_token)
        assert "s3cret" not in line
        environment = {**os.environ, "DTPF_TOKEN": "s3cret"}
        subprocess.run(line, shell=True, check=True, cwd=tmp_path, env=environment, timeout=60)
    token, _, body = (tmp_path / "fused.png").read_bytes().partition(b"\n")
    assert token == sent
    assert b"the visible image" in body
    assert b"the infrared image" in body
