"""Dashboard and alerts against the real thing: Ray, Serve and Prometheus on this machine.

One Ray with one endpoint; the engines' wrapper reports a made-up run of a pipeline to it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from dtpf.core.machine import free_port
from dtpf.core.storage.receipts import Receipt
from dtpf.pipeline.engines import Engines
from dtpf.training.loop import StepReport
from dtpf.tuning.trials import Trial
from tests.small import small_config

MONITORING = Path(__file__).resolve().parents[2] / "cluster" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "dtpf.json"
PIPELINES = ["s3://tenant-a/runs/tiny", "s3://tenant-b/runs/tiny"]
# What only a node with a GPU reports.
NEEDS_GPU = ("GPUs busy", "GPU memory")

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no Prometheus here: install Debian's package `prometheus`",
)


def panels() -> list[dict]:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_committed_dashboard_is_the_one_of_the_script():
    program = "import sys, json, dashboard; print(json.dumps(dashboard.dashboard()))"
    made = subprocess.check_output([sys.executable, "-c", program], cwd=MONITORING)
    assert json.loads(DASHBOARD.read_text(encoding="utf-8")) == json.loads(made)


def test_panels_have_what_grafana_needs_and_do_not_overlap():
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in panels()}) == len(panels())
    cells = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, rows = range(place["w"]), range(place["h"])
        own = {(place["x"] + x, place["y"] + y) for x in columns for y in rows}
        assert not own & cells
        cells |= own
    (source,) = settings("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}


def settings(name: str) -> dict:
    return yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))


def test_the_readme_names_every_metric_panel_and_alert():
    from dtpf.pipeline.on_ray import METRICS

    text = (MONITORING / "README.md").read_text(encoding="utf-8")
    rules = [rule for group in settings("alerts.yml")["groups"] for rule in group["rules"]]
    names = [*METRICS, *(panel["title"] for panel in panels()), *(r["alert"] for r in rules)]
    assert [name for name in names if name not in text] == []


@needs_prometheus
def test_prometheus_takes_the_settings():
    subprocess.run(["promtool", "check", "config", MONITORING / "prometheus.yml"], check=True)


@needs_prometheus
def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path):
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    command = ["promtool", "test", "rules", "alerts_test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def endpoint():
    """Answer with the status of the path: what the proxy measures does not depend on the work."""
    from fastapi import FastAPI, Response
    from ray import serve

    app = FastAPI()

    @app.get("/answer/{status}")
    def answer(status: int) -> Response:
        return Response(status_code=status)

    @serve.deployment(ray_actor_options={"num_cpus": 0.1})
    @serve.ingress(app)
    class Endpoint:
        pass

    return Endpoint.bind()


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A node of Ray that reports each second, an endpoint on it; where both are."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    if ray.is_initialized():
        pytest.skip("needs a Ray of its own; run tests/cluster/test_monitoring.py alone")
    os.environ.update(
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    )
    folder = f"/tmp/dtpf-monitor-{os.getpid()}"  # sockets below it have short paths
    port = free_port()
    ray.init(
        num_cpus=2,
        num_gpus=1,
        include_dashboard=True,
        dashboard_port=free_port(),
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
        _metrics_export_port=free_port(),
        _system_config={"metrics_report_interval_ms": 1000},
    )
    try:
        serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
        serve.run(endpoint(), name="dtpf", route_prefix="/fusion")
        yield {"folder": folder, "url": f"http://127.0.0.1:{port}/fusion"}
    finally:
        serve.shutdown()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def prometheus(node, tmp_path_factory) -> Iterator[str]:
    """Prometheus with the shipped settings, faster and with the list of this Ray."""
    home = tmp_path_factory.mktemp("prometheus")
    config = settings("prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    listed = config["scrape_configs"][0]["file_sd_configs"][0]
    listed["files"] = [listed["files"][0].replace("/tmp/ray", node["folder"])]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(MONITORING / "alerts.yml", home)
    address = f"127.0.0.1:{free_port()}"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address={address}",
                f"--web.user-assets={DASHBOARD.parent}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        await_ready(f"http://{address}", process)
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def await_ready(address: str, process: subprocess.Popen) -> None:
    """Wait until Prometheus has read its storage: it refuses questions before that."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):  # it does not listen yet
            if httpx.get(f"{address}/-/ready", trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise AssertionError(f"Prometheus is not ready; exit status {process.poll()}")


def caption(task, progress):
    for number in range(0, 40, 4):
        progress(number, 40, number // 8)
        time.sleep(0.3)


def train(spec, scaling, on_step):
    for number in range(1, 9):
        on_step(StepReport(number, 100, {"loss": 1 / number}, 1.0, 1e-3, 0.5, 0.1))


def search(task, on_trials):
    on_trials([Trial(number=1, name="a", setting={}, status="running", retention=0.9)])


def report_pipeline(pipeline: str) -> None:
    """Stand at the middle of a pipeline, the way a job does."""
    from dtpf.pipeline.on_ray import measured

    config = small_config()
    engines = measured(Engines(caption, train, search, None), pipeline)
    receipt = Receipt(
        stage="data",
        fingerprint="f",
        inputs={},
        outputs={},
        config={},
        metrics={"train": 5.0},
        seconds=2.0,
        finished="now",
        environment={},
    )
    engines.on_stage("data", receipt)
    engines.on_stage("caption", None)
    engines.caption(None, lambda *numbers: None)
    engines.search(type("Task", (), {"config": config.tune}), lambda trials: None)
    engines.on_stage("teacher", None)
    spec = type("Spec", (), {"train": config.teacher.train})
    engines.train(spec, None, lambda report: None)


@pytest.fixture(scope="module")
def reported(node, prometheus) -> Iterator[str]:
    """Two tenants' pipelines and some requests; returns Prometheus' address."""
    from dtpf.pipeline import on_ray

    exports = []

    class Export(on_ray._Export):
        def __init__(self, pipeline):
            super().__init__(pipeline)
            exports.append(self)

    patch = pytest.MonkeyPatch()
    patch.setattr(on_ray, "REPEAT_SECONDS", 0.3)
    patch.setattr(on_ray, "_Export", Export)
    ask(prometheus, "ray_node_cpu_count")  # so that what follows is seen to grow
    for pipeline in PIPELINES:
        report_pipeline(pipeline)
    for _ in range(4):
        for status in (200, 200, 404, 503):
            httpx.get(f"{node['url']}/answer/{status}", trust_env=False)
        time.sleep(1.5)
    yield prometheus
    for export in exports:
        export._end()
    patch.undo()


def ask(address: str, query: str) -> list[dict]:
    """Return what a query finds, as soon as it finds anything."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = httpx.get(
            f"{address}/api/v1/query", params={"query": query}, trust_env=False
        ).json()
        assert answer["status"] == "success", answer
        if answer["data"]["result"]:
            return answer["data"]["result"]
        time.sleep(0.5)
    raise AssertionError(f"no data: {query}")


def expression(text: str) -> str:
    return text.replace("$pipeline", ".*").replace("$__rate_interval", "30s")


@needs_prometheus
@pytest.mark.ray
@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_has_data(reported, panel):
    if panel["title"] in NEEDS_GPU:
        pytest.skip("needs a GPU")
    for target in panel["targets"]:
        found = ask(reported, expression(target["expr"]))
        assert all(float(series["value"][1]) >= 0 for series in found), target
        wanted = re.findall(r"{{(\w+)}}", target["legendFormat"])
        assert all(series["metric"].get(name) for series in found for name in wanted), target


@needs_prometheus
@pytest.mark.ray
def test_every_metric_of_an_alert_exists(reported):
    rules = [rule for group in settings("alerts.yml")["groups"] for rule in group["rules"]]
    names = {name for rule in rules for name in re.findall(r"\bray_\w+|\bup\b", rule["expr"])}
    assert len(names) > 10
    for name in names:
        assert ask(reported, name)


@needs_prometheus
@pytest.mark.ray
def test_tenants_are_told_apart_and_counted_right(reported):
    counted = ask(reported, "sum by (pipeline, status) (ray_dtpf_caption_pairs_total) > 0")
    found = {
        (series["metric"]["pipeline"], series["metric"]["status"]): float(series["value"][1])
        for series in counted
    }
    assert found == {
        (pipeline, status): count
        for pipeline in PIPELINES
        for status, count in (("done", 32.0), ("failed", 4.0))
    }


@needs_prometheus
@pytest.mark.ray
def test_no_rule_is_broken_and_the_page_is_served(reported):
    """The page of the panels, for those without Grafana, is drawn in the browser tests' manner."""
    groups = httpx.get(f"{reported}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    for name in ("dtpf.html", "dtpf.json"):
        assert httpx.get(f"{reported}/user/{name}", trust_env=False).status_code == 200
