"""The file for `ray up`: accepted by Ray's own loader, its commands by cluster/node.py."""

import copy
import itertools
import os
import re
import subprocess
from pathlib import PurePosixPath

import jsonschema
import node
import pytest
import yaml
from ray.autoscaler._private.docker import docker_start_cmds
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.manifests import ROOT

FILE = ROOT / "cluster" / "ray_up.yaml"
IN_IMAGE, HOME = PurePosixPath("/opt/dtpf"), "/home/dtpf"
# Stands in for Ray, and for Python, which shows what it was given.
HOST = """
python() { printf '%s\\n' "$@"; }
ray() { :; }
"""


@pytest.fixture
def config() -> dict:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def arguments(commands: list[str]) -> list[str]:
    """What the last command gives to Python once the container's shell has read it."""
    environment = {"PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.1", "HOME": HOME}
    return subprocess.check_output(
        ["bash", "-c", HOST + commands[-1]], text=True, env=environment
    ).splitlines()


def test_rays_loader_accepts_it(config):
    prepared = prepare_config(config)
    validate_config(prepared)
    (node_type,) = prepared["available_node_types"].values()
    workers = len(config["provider"]["worker_ips"])
    assert (node_type["min_workers"], prepared["max_workers"]) == (workers, workers)


def test_rays_loader_notices_a_typo(config):
    config["docker"]["run_option"] = []
    with pytest.raises(jsonschema.ValidationError, match="run_option"):
        validate_config(prepare_config(config))


def test_every_field_survives_the_loader(config):
    """A field that the loader moves or drops would be set in vain."""
    prepared = prepare_config(copy.deepcopy(config))
    assert {key: prepared[key] for key in config} == config


@pytest.mark.parametrize("role", ["head", "worker"])
def test_commands_are_those_of_the_node_starter(config, role):
    stop, _ = commands = config[f"{role}_start_ray_commands"]
    assert stop == "ray stop"
    script, *given = arguments(commands)
    assert (ROOT / PurePosixPath(script).relative_to(IN_IMAGE)).is_file()
    options = node.parser().parse_args(given)
    assert options.role == role
    assert options.interface == "eno1"
    assert options.block is False
    if role == "head":
        assert options.autoscaling_config == f"{HOME}/ray_bootstrap_config.yaml"
        assert options.dashboard_host == "127.0.0.1"
    else:
        assert options.head == f"10.0.0.1:{node.GCS_PORT}"


@pytest.mark.parametrize("role", ["head", "worker"])
def test_paths_in_commands_are_mounted(config, role):
    given = dict(pairs(arguments(config[f"{role}_start_ray_commands"])))
    ((folder, _),) = config["file_mounts"].items()
    assert given["--token-file"] == f"{folder.replace('~', HOME)}/token"
    volumes = [option for option in config["docker"]["run_options"] if "--volume=" in option]
    assert [volume.rpartition(":")[2] for volume in volumes] == [given["--data-dir"]]


def pairs(words: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in itertools.pairwise(words) if a.startswith("--")]


def test_the_object_store_fits_into_shared_memory(config):
    (size,) = re.findall(r"--shm-size=(\d+)gb", " ".join(config["docker"]["run_options"]))
    for role in ("head", "worker"):
        given = dict(pairs(arguments(config[f"{role}_start_ray_commands"])))
        assert int(given["--object-store-bytes"]) < int(size) * 2**30


def test_docker_line_has_no_secret_and_no_privilege(config):
    docker = config["docker"]
    line = docker_start_cmds(
        config["auth"]["ssh_user"],
        docker["image"],
        config["file_mounts"],
        docker["container_name"],
        docker["run_options"],
        config["cluster_name"],
        HOME,
        "docker",
    )
    assert "--cap-drop=ALL" in line
    assert "--privileged" not in line
    assert "--gpus" not in line  # Ray's own detection adds the runtime
    assert not docker.get("disable_automatic_runtime_detection", False)
    assert re.search(r":\d+\.\d+\.\d+-gpu ", line), "the image is pinned"


def test_no_secret_is_written_down(config):
    strings = list(text_of(config))
    assert strings
    for text in strings:
        assert not re.search(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY)\w*=", text, re.IGNORECASE)
        assert not re.search(r"\b[0-9a-f]{32,}\b", text)


def text_of(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for pair in node.items() for item in pair for text in text_of(item)]
    if isinstance(node, list):
        return [text for item in node for text in text_of(item)]
    return [str(node)]
