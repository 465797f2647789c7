"""Versions against what the package's metadata asks for."""

import platform

import pytest
from packaging.specifiers import SpecifierSet

from dtpf.doctor import versions
from dtpf.doctor.compare import (
    check_cards_announced,
    check_equal,
    check_settings_equal,
    check_versions_equal,
)


def test_this_environment_is_as_asked_for():
    found = {item.name: item for item in versions.check_versions()}
    assert {f"versions.{name}" for name in ("python", "dtpf", "ray", "torch", "vllm")} < set(found)
    assert all(item.status == "pass" for item in found.values()), found
    assert found["versions.python"].found == platform.python_version()


def test_what_is_asked_for_comes_from_the_metadata():
    assert "torch" in versions.asked_for()
    assert "ray" not in versions.asked_for()
    assert versions.asked_for("ray")["ray"] == SpecifierSet("==2.60.0")


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("ray", "2.60.0", "pass"),
        ("ray", "2.59.1", "fail"),
        ("ray", None, "warn"),
        ("vllm", None, "pass"),
        ("vllm", "0.32.0", "fail"),
        ("torch", None, "fail"),
    ],
)
def test_a_version_is_judged(name, version, status):
    wanted = SpecifierSet({"ray": "==2.60.0", "vllm": "==0.29.0", "torch": ">=2.11"}[name])
    assert versions.judge(name, version, wanted).status == status


def test_a_local_build_and_a_release_candidate_are_versions_too():
    for version in ("2.13.0+cpu", "2.14.0rc1"):
        assert versions.judge("torch", version, SpecifierSet(">=2.11")).status == "pass"


def test_other_packages_that_are_off_are_named():
    wanted = {"numpy": SpecifierSet(">=999"), "no-such-thing": SpecifierSet("")}
    wanted["scipy"] = SpecifierSet(">=1")
    found = versions.check_others(wanted)
    assert found.status == "fail"
    assert "numpy" in found.found
    assert "no-such-thing missing" in found.found
    assert "scipy" not in found.found
    assert versions.check_others({"scipy": SpecifierSet(">=1")}).status == "pass"


def test_a_package_without_metadata_is_a_failure(monkeypatch):
    monkeypatch.setattr(versions, "installed", lambda name: None)
    (found,) = versions.check_versions()
    assert found.status == "fail"


def test_nodes_with_other_versions_are_named():
    ours = versions.here()
    equal = check_versions_equal({"a": ours, "b": ours, "c": ours})
    assert {item.status for item in equal} == {"pass"}
    other = check_versions_equal({"a": ours, "b": ours, "c": ours | {"torch": "2.11.0"}})
    wrong = [item for item in other if item.status == "fail"]
    assert [item.name for item in wrong] == ["same.torch"]
    assert "c: 2.11.0" in wrong[0].found


def test_settings_of_nccl_that_differ_are_warned_of():
    same = {"NCCL_DEBUG": "WARN"}
    assert check_settings_equal({"a": same, "b": same}).status == "pass"
    found = check_settings_equal({"a": same, "b": same, "c": {}})
    assert found.status == "warn"
    assert "c: not set" in found.found


def test_values_that_shall_not_be_shown_are_not():
    found = check_equal("same.token", {"a": "d1", "b": "d1", "c": "d2"}, "copy", show=False)
    assert found.status == "fail"
    assert found.found.endswith("c")
    assert "d1" not in found.found
    assert "d2" not in found.found
    assert "d1" not in check_equal("same.token", {"a": "d1"}, "copy", show=False).found


@pytest.mark.parametrize(("announced", "status"), [(2, "pass"), (4, "fail"), (0, "warn")])
def test_ray_announces_the_cards_that_there_are(announced, status):
    assert check_cards_announced(announced, 2).status == status
