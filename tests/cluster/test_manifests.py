"""The Kubernetes manifests: valid for their kinds, without privileges, secrets or loose ends."""

import re
import shlex
import tomllib

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError
from ray.scripts.scripts import start

from dtpf.recipes import recipe
from tests.cluster import kuberay
from tests.cluster.manifests import (
    FILES,
    FOLDER,
    KUSTOMIZATIONS,
    ROOT,
    cluster_specs,
    containers,
    everything,
    groups,
    load,
    of_kind,
    render,
    templates,
)

KUBERNETES = "1.34"
PLACEHOLDERS = r"REPLACE|registry\.example|192\.0\.2\.|fusion\.example"


def check(document: dict) -> None:
    """Validate one document against its kind."""
    if document["kind"] in kuberay.KINDS:
        kuberay.KINDS[document["kind"]].model_validate(document)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_what_a_kustomization_renders_is_valid(folder):
    for document in render(folder):
        check(document)


@pytest.mark.parametrize("file", FILES)
def test_what_is_applied_as_a_file_is_valid(file):
    for document in load(file):
        check(document)


def test_pods_are_valid():
    for template in templates():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}} | {
            "spec": template["spec"]
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_validation_notices_a_wrong_field():
    (policy, *_) = [item for item in load("network.yaml") if item["kind"] == "NetworkPolicy"]
    policy["spec"]["ingres"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        check(policy)
    (cluster,) = load("cluster/ray_cluster.yaml")
    cluster["metadata"]["namespace"] = "dtpf"
    check(cluster)
    cluster["spec"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(ValidationError):
        check(cluster)


def test_one_folder_starts_one_thing():
    kinds = {folder: {d["kind"] for d in render(folder)} for folder in KUSTOMIZATIONS[1:]}
    assert kinds == {"cluster": {"RayCluster"}, "job": {"RayJob"}, "service": {"RayService"}}
    assert {d["metadata"]["namespace"] for d in everything() if "namespace" in d["metadata"]} == {
        "dtpf",
        "dtpf-vision",
        "dtpf-thermal",
    }


def test_clusters_ask_for_a_token_and_outlive_their_head():
    for spec in cluster_specs():
        assert spec["authOptions"] == {"mode": "token"}
        assert spec["rayVersion"] == locked("ray")
        store = spec["gcsFaultToleranceOptions"]
        host, port = store["redisAddress"].split(":")
        (service,) = of_kind("Service")
        assert host == service["metadata"]["name"]
        assert int(port) == service["spec"]["ports"][0]["port"]


def locked(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (version,) = [line.split("==")[1] for line in lines if line.startswith(f"{package}==")]
    return version


def test_nodes_start_with_options_that_ray_knows():
    known = {name.removeprefix("--") for option in start.params for name in option.opts}
    for spec in cluster_specs():
        head, *workers = groups(spec)
        assert head["rayStartParams"]["num-cpus"] == "0"
        assert all("nvidia.com/gpu" in limits(group) for group in workers)
        for group in groups(spec):
            assert set(group["rayStartParams"]) <= known
            assert int(group["rayStartParams"]["object-store-memory"]) < shared_memory(group)


def limits(group: dict) -> dict:
    return group["template"]["spec"]["containers"][0]["resources"]["limits"]


def shared_memory(group: dict) -> int:
    """Bytes of /dev/shm, which must be a volume in memory."""
    spec = group["template"]["spec"]
    (name,) = [
        m["name"] for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/dev/shm"
    ]
    (volume,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == name]
    assert volume["medium"] == "Memory"
    assert volume["sizeLimit"].endswith("Gi")
    return int(volume["sizeLimit"].removesuffix("Gi")) * 2**30


def test_no_container_has_privileges():
    for template in templates():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not any("hostPath" in volume for volume in pod.get("volumes", []))
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_every_container_has_limits_and_ray_nodes_have_probes():
    for container in containers():
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    for spec in cluster_specs():
        for group in groups(spec):
            (container,) = group["template"]["spec"]["containers"]
            agent = int(group["rayStartParams"]["dashboard-agent-listen-port"])
            assert container["livenessProbe"]["httpGet"] == {"path": "/api/healthz", "port": agent}
            assert {"startupProbe", "readinessProbe"} <= set(container)


def test_every_volume_that_is_mounted_exists():
    for template in templates():
        pod = template["spec"]
        claimed = {"data"} if pod["containers"][0]["name"] == "redis" else set()
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | claimed
        mounted = {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
        assert mounted == volumes


def test_images_are_pinned_and_ours_is_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for container in containers():
        name, _, tag = container["image"].rpartition(":")
        assert re.fullmatch(r"\d+\.\d+\.\d+(-[a-z0-9.]+)?", tag), container["image"]
        if name.endswith("dtpf"):
            assert tag.startswith(project["version"])


def test_secrets_are_named_and_never_written_down():
    examples = {d["metadata"]["name"]: d for d in load("examples/secrets.yaml")}
    assert set(references(everything())) <= set(examples)
    for secret in examples.values():
        assert all("REPLACE" in value for value in secret["stringData"].values())
    assert all(d["kind"] != "Secret" for folder in KUSTOMIZATIONS for d in render(folder))


def references(node: object) -> list[str]:
    """Names of all Secrets that something refers to."""
    if isinstance(node, list):
        return [name for item in node for name in references(item)]
    if not isinstance(node, dict):
        return []
    named = [node[key]["name"] for key in ("secretKeyRef", "secretRef") if key in node]
    named += [node["secretName"]] if "defaultMode" in node else []
    named += [item["name"] for item in node.get("imagePullSecrets", [])]
    return named + [name for value in node.values() for name in references(value)]


def test_no_secret_in_commands_or_plain_variables():
    lines = [job["spec"]["entrypoint"] for job in of_kind("RayJob")]
    for container in containers():
        lines += [*container.get("command", []), *container.get("args", [])]
        for variable in container.get("env", []):
            secret = re.search(r"PASSWORD|SECRET|TOKEN|KEY|_AUTH", variable["name"])
            assert bool(secret) == ("valueFrom" in variable), variable["name"]
    for line in lines:
        # $(NAME) would be replaced by Kubernetes, before the process starts.
        assert not re.search(r"\$\(\w+\)|(password|secret|token|key)[=:]", line, re.IGNORECASE)


def test_the_job_fits_its_cluster():
    (job,) = of_kind("RayJob")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["python", "jobs/pipeline.py"]
    assert (ROOT / words[1]).is_file()
    scaling = recipe(words[words.index("--recipe") + 1]).scaling
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    gpus = sum(group["replicas"] * int(limits(group)["nvidia.com/gpu"]) for group in workers)
    cpus = sum(group["replicas"] * int(limits(group)["cpu"]) for group in workers)
    assert scaling.workers <= gpus
    assert scaling.workers * scaling.cpus_per_worker <= cpus
    assert job["spec"]["backoffLimit"] > 0


def test_the_endpoint_fits_its_cluster():
    (service,) = of_kind("RayService")
    (app,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    (workers,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    gpus = workers["replicas"] * int(limits(workers)["nvidia.com/gpu"])
    assert app["args"]["num_replicas"] * app["args"]["num_gpus"] <= gpus
    container = workers["template"]["spec"]["containers"][0]
    folders = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert app["args"]["tokens_file"].rpartition("/")[0] in folders
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": 8000}


def test_readme_tells_what_to_edit():
    """Every placeholder that must be changed stands in a file that the README names."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for file in FOLDER.rglob("*.yaml"):
        if re.search(PLACEHOLDERS, file.read_text(encoding="utf-8")):
            assert str(file.relative_to(FOLDER)) in readme, file
