"""Two groups on one rack: each in its namespace, neither with more than its share."""

import os

import pytest
import yaml

from tests.cluster.manifests import FOLDER, Document, groups, load, of_kind, render

TENANT = "dtpf-vision"


@pytest.fixture
def overlay(tmp_path) -> tuple[Document, ...]:
    """What a second tenant applies: these folders under another namespace."""
    folders = [os.path.relpath(FOLDER, tmp_path), os.path.relpath(FOLDER / "job", tmp_path)]
    document = {"namespace": TENANT, "resources": folders}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return render(os.path.relpath(tmp_path, FOLDER))


def test_an_overlay_moves_everything_to_its_namespace(overlay):
    assert {d["metadata"].get("namespace", d["metadata"]["name"]) for d in overlay} == {TENANT}
    assert {"Namespace", "NetworkPolicy", "RayJob"} <= {d["kind"] for d in overlay}


def test_a_quota_holds_what_its_tenant_starts(overlay):
    quotas = {d["metadata"]["namespace"]: d["spec"]["hard"] for d in of_kind("ResourceQuota")}
    (job,) = [d for d in overlay if d["kind"] == "RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    pods = [job["spec"]["submitterPodTemplate"]]
    for group in groups(cluster):
        pods += [group["template"]] * group.get("replicas", 1)
    wanted = [pod["spec"]["containers"][0]["resources"]["limits"] for pod in pods]
    gpus = sum(int(limits.get("nvidia.com/gpu", 0)) for limits in wanted)
    assert gpus <= int(quotas[TENANT]["requests.nvidia.com/gpu"])
    assert sum(int(limits["cpu"]) for limits in wanted) <= int(quotas[TENANT]["limits.cpu"])
    memory = sum(int(limits["memory"].removesuffix("Gi")) for limits in wanted)
    assert memory <= int(quotas[TENANT]["limits.memory"].removesuffix("Gi"))


def test_every_tenant_has_a_share_and_defaults():
    by_kind = {"ResourceQuota": set(), "LimitRange": set()}
    for document in load("examples/tenants.yaml"):
        by_kind[document["kind"]].add(document["metadata"]["namespace"])
    assert by_kind["ResourceQuota"] == by_kind["LimitRange"]
    assert len(by_kind["ResourceQuota"]) == 2
