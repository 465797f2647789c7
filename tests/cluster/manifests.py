"""The Kubernetes manifests as the tests see them: rendered, with the pods that come of them."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster" / "kubernetes"
KUSTOMIZATIONS = (".", "cluster", "job", "service")
# What users are told to apply as files.
FILES = ("pod_monitor.yaml", *(f"examples/{path.name}" for path in FOLDER.glob("examples/*.yaml")))

Document = dict[str, Any]


@functools.cache
def render(folder: str) -> tuple[Document, ...]:
    """Return what `kubectl apply -k` of a folder would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here (it renders the kustomizations); install 1.27 or newer")
    text = subprocess.check_output(["kubectl", "kustomize", str(FOLDER / folder)], text=True)
    return tuple(yaml.safe_load_all(text))


def load(file: str) -> list[Document]:
    return list(yaml.safe_load_all((FOLDER / file).read_text(encoding="utf-8")))


def everything() -> list[Document]:
    """All documents, rendered or as they are."""
    rendered = [document for folder in KUSTOMIZATIONS for document in render(folder)]
    return rendered + [document for file in FILES for document in load(file)]


def of_kind(kind: str) -> list[Document]:
    return [document for document in everything() if document["kind"] == kind]


def cluster_specs() -> list[Document]:
    """The specification of the Ray cluster in each Ray kind."""
    fields = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
    return [
        functools.reduce(lambda node, key: node[key], path, document["spec"])
        for kind, path in fields.items()
        for document in of_kind(kind)
    ]


def groups(spec: Document) -> list[Document]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def templates() -> Iterator[Document]:
    """Every pod template: of Ray's nodes, of what submits the job, of Redis."""
    for spec in cluster_specs():
        yield from (group["template"] for group in groups(spec))
    yield from (job["spec"]["submitterPodTemplate"] for job in of_kind("RayJob"))
    yield from (stateful["spec"]["template"] for stateful in of_kind("StatefulSet"))


def containers() -> Iterator[Document]:
    for template in templates():
        yield from template["spec"]["containers"]
