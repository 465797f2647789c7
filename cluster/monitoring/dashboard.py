"""The Grafana dashboard of dtpf: a table of panels here, the JSON that Grafana reads as output.

    python cluster/monitoring/dashboard.py        writes grafana/dashboards/dtpf.json

`grafana/dashboards/dtpf.html` shows the same file without Grafana.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("grafana") / "dashboards" / "dtpf.json"
DATASOURCE = {"type": "prometheus", "uid": "dtpf-prometheus"}
HEIGHT, COLUMNS = 7, 24

_CHOSEN = '{pipeline=~"$pipeline"}'
_WHOLE_LOSS = _CHOSEN.replace("}", ',term="loss"}')
_APP = '{application="dtpf",route!~"/-/.*"}'


@dataclass(frozen=True)
class Panel:
    """One panel: curves over time, or the latest values if `now`.

    Attributes:
        title: short.
        what: what it tells; the README says what to do about it.
        unit: of Grafana.
        targets: expressions with their legends.
        now: whether only the latest values count.
        top: end of the scale, if it has one.
        width: of 24 columns.
    """

    title: str
    what: str
    unit: str
    targets: tuple[tuple[str, str], ...]
    now: bool = False
    top: float | None = None
    width: int = 8

    def as_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return what Grafana reads, at a place of the grid."""
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0}
        if self.top is not None:
            defaults["max"] = self.top
        return {
            "id": number,
            "type": "bargauge" if self.now else "timeseries",
            "title": self.title,
            "description": self.what,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {"orientation": "horizontal"} if self.now else {},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "expr": expression,
                    "legendFormat": legend,
                    "instant": self.now,
                    "range": not self.now,
                    "datasource": DATASOURCE,
                }
                for index, (expression, legend) in enumerate(self.targets)
            ],
        }


def _latest(metric: str, label: str = "stage", chosen: str = _CHOSEN) -> str:
    """Return a metric of the chosen pipelines without the labels that Ray adds."""
    return f"max by (pipeline, {label}) (ray_dtpf_{metric}{chosen})"


def _share(part: str, whole: str) -> str:
    return f"sum by (instance) ({part}) / sum by (instance) ({whole})"


def _latency(quantile: float) -> str:
    rate = f"rate(ray_serve_http_request_latency_ms_bucket{_APP}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by (le) ({rate}))"


_PAIRS = f"ray_dtpf_caption_pairs_total{_CHOSEN}"
_REQUESTS = f"rate(ray_serve_num_http_requests_total{_APP}[$__rate_interval])"
_FAILED_REQUESTS = _REQUESTS.replace(",route", ',status_code=~"5..",route')
_STORE = 'ray_resources{Name="object_store_memory"'
_STAGE = "{{stage}} of {{pipeline}}"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Pipelines": (
        Panel(
            "Running stage",
            "The stage that each pipeline is in.",
            "none",
            ((f"{_latest('stage_running')} == 1", _STAGE),),
            now=True,
            top=1,
        ),
        Panel(
            "Progress of stages",
            "Share of a stage's pairs, steps or trials that is done.",
            "percentunit",
            ((_latest("stage_progress"), _STAGE),),
            now=True,
            top=1,
        ),
        Panel(
            "Time of complete stages",
            "Wall time by the receipts, those of earlier runs too.",
            "s",
            ((_latest("stage_seconds"), _STAGE),),
            now=True,
        ),
    ),
    "Captions": (
        Panel(
            "Pairs captioned per second",
            "By outcome; a pair that the model is asked about again counts again.",
            "cps",
            (
                (
                    f"sum by (pipeline, status) (rate({_PAIRS}[$__rate_interval]))",
                    "{{status}} of {{pipeline}}",
                ),
            ),
            width=16,
        ),
        Panel(
            "Pairs captioned",
            "Since the cluster started, by outcome.",
            "short",
            ((f"sum by (pipeline, status) ({_PAIRS})", "{{status}} of {{pipeline}}"),),
            now=True,
        ),
    ),
    "Training": (
        Panel(
            "Loss",
            "Of the latest step; single batches differ, the slope counts.",
            "none",
            ((_latest("training_loss", chosen=_WHOLE_LOSS), _STAGE),),
        ),
        Panel(
            "Learning rate",
            "Warm-up, then cosine.",
            "none",
            ((_latest("training_learning_rate"), _STAGE),),
        ),
        Panel(
            "Gradient norm",
            "Before clipping.",
            "none",
            ((_latest("training_gradient_norm"), _STAGE),),
        ),
        Panel(
            "Step time",
            "Wall time of a step.",
            "s",
            ((_latest("training_step_seconds"), _STAGE),),
            width=6,
        ),
        Panel(
            "Waiting for data",
            "Share of a step in which the device waited for its batch.",
            "percentunit",
            ((_latest("training_data_wait_share"), _STAGE),),
            top=1,
            width=6,
        ),
        Panel(
            "Crops per second",
            "Of all workers together.",
            "cps",
            ((_latest("training_crops_per_second"), _STAGE),),
            width=6,
        ),
        Panel(
            "Workers",
            "Processes that share the batch.",
            "short",
            ((_latest("training_workers"), _STAGE),),
            width=6,
        ),
    ),
    "Search": (
        Panel(
            "Retention by trial",
            "Share of the teacher's validation scores that a trial's student has.",
            "percentunit",
            ((_latest("trial_retention", "trial"), "trial {{trial}} of {{pipeline}}"),),
            width=16,
        ),
        Panel(
            "Trials",
            "By status.",
            "short",
            ((_latest("trials", "status"), "{{status}} of {{pipeline}}"),),
            now=True,
        ),
    ),
    "Endpoint": (
        Panel(
            "Requests per second",
            "By route and status of the answer.",
            "reqps",
            ((f"sum by (route, status_code) ({_REQUESTS})", "{{route}} {{status_code}}"),),
        ),
        Panel(
            "Answers 5xx",
            "Share of all answers that say the server failed.",
            "percentunit",
            (
                (
                    f"(sum({_FAILED_REQUESTS}) or vector(0)) / sum({_REQUESTS})",
                    "5xx",
                ),
            ),
            top=1,
        ),
        Panel(
            "Latency",
            "Of requests, measured in Serve's proxy.",
            "ms",
            tuple((_latency(q), f"{100 * q:.0f} %") for q in (0.5, 0.95, 0.99)),
        ),
    ),
    "Cluster": (
        Panel(
            "Nodes",
            "That report; a node that is lost leaves the sum.",
            "short",
            (("count(ray_node_cpu_count)", "nodes"),),
        ),
        Panel(
            "CPU",
            "Share of all cores in use, by node.",
            "percentunit",
            (("avg by (instance) (ray_node_cpu_utilization) / 100", "{{instance}}"),),
            top=1,
        ),
        Panel(
            "Memory",
            "Share in use, by node; Ray kills workers above 95 %.",
            "percentunit",
            ((_share("ray_node_mem_used", "ray_node_mem_total"), "{{instance}}"),),
            top=1,
        ),
        Panel(
            "GPUs reserved",
            "By tasks and actors of Ray, and all there are.",
            "short",
            (
                ('sum(ray_resources{Name="GPU",State="USED"})', "reserved"),
                ('sum(ray_resources{Name="GPU"})', "all"),
            ),
        ),
        Panel(
            "GPUs busy",
            "What the driver of the card reports.",
            "percentunit",
            (
                (
                    "avg by (instance, GpuIndex) (ray_node_gpus_utilization) / 100",
                    "{{instance}} {{GpuIndex}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "GPU memory",
            "Share in use, by card.",
            "percentunit",
            (
                (
                    "sum by (instance, GpuIndex) (ray_node_gram_used) / sum by (instance, GpuIndex)"
                    " (ray_node_gram_used + ray_node_gram_available)",
                    "{{instance}} {{GpuIndex}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "Object store",
            "Share in use, by node; what does not fit goes to disk.",
            "percentunit",
            ((_share(_STORE + ',State="USED"}', _STORE + "}"), "{{instance}}"),),
            top=1,
        ),
        Panel(
            "Disk",
            "Share in use of the disk with Ray's temporary folder; at 95 % Ray stops spilling.",
            "percentunit",
            (
                (
                    _share("ray_node_disk_usage", "ray_node_disk_usage + ray_node_disk_free"),
                    "{{instance}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "Network",
            "Received and sent, by node.",
            "Bps",
            (
                ("sum by (instance) (ray_node_network_receive_speed)", "in {{instance}}"),
                ("sum by (instance) (ray_node_network_send_speed)", "out {{instance}}"),
            ),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": "dtpf",
        "title": "dtpf",
        "tags": ["dtpf", "ray"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_pipelines()]},
        "panels": _grid(),
    }


def _pipelines() -> dict[str, Any]:
    query = "label_values(ray_dtpf_stage_running, pipeline)"
    return {
        "name": "pipeline",
        "label": "Pipeline",
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "pipelines"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _grid() -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        shown.append({"id": len(shown) + 1, "type": "row", "title": title, "gridPos": place})
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            shown.append(panel.as_json(len(shown) + 1, x, y))
            x += panel.width
        y += HEIGHT
    return shown


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
