"""What the variables of NCCL and gloo choose among network interfaces."""

import socket

import pytest

from dtpf.doctor.interfaces import (
    GLOO,
    NCCL,
    Interface,
    check_interface,
    check_interfaces,
    interfaces,
)

MACHINE = [
    Interface("enp5s0", True),
    Interface("enp6s0", False),
    Interface("docker0", True),
]


def status(variable: str, value: str | None, found=MACHINE, many_nodes: bool = True) -> str:
    return check_interface("x", variable, value, found, many_nodes).status


def test_this_machine_has_those_that_the_system_names():
    names = {name for _, name in socket.if_nameindex()}
    assert {item.name for item in interfaces()} == names - {"lo"}


def test_up_and_carrier_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "a"), (3, "b"), (4, "c")])
    for name, flags, carrier in (("a", "0x1003", "1"), ("b", "0x1003", "0"), ("c", "0x1002", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flags").write_text(f"{flags}\n")
        (tmp_path / name / "carrier").write_text(f"{carrier}\n")
    found = interfaces(tmp_path)
    assert found == [Interface("a", True), Interface("b", False), Interface("c", False)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("enp5s0", "pass"),
        ("=enp5s0", "pass"),
        ("enp", "pass"),  # a prefix, of which one is up
        ("^docker,lo", "pass"),
        ("=enp", "fail"),
        ("enp6s0", "fail"),  # down
        ("eth0", "fail"),
        ("enp5s0,eth0", "fail"),
        ("docker", "warn"),
        ("^enp", "warn"),
        ("lo", "fail"),
    ],
)
def test_nccl_takes_prefixes_whole_names_and_exclusions(value, expected):
    assert status(NCCL, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("enp5s0", "pass"), ("enp", "fail"), ("=enp5s0", "fail"), ("enp6s0", "fail")],
)
def test_gloo_takes_whole_names_alone(value, expected):
    assert status(GLOO, value) == expected


def test_a_bridge_of_containers_is_a_trap_between_nodes_alone():
    found = check_interface("x", NCCL, None, MACHINE, many_nodes=True)
    assert found.status == "warn"
    assert "NCCL_SOCKET_IFNAME==enp5s0" in found.remedy
    assert "docker0" in found.found
    assert status(NCCL, None, many_nodes=False) == "pass"
    assert status(NCCL, None, [Interface("enp5s0", True)]) == "pass"
    assert status(NCCL, None, [Interface("a", True), Interface("b", True)]) == "warn"


def test_the_loopback_serves_one_machine():
    assert status(GLOO, "lo", many_nodes=False) == "pass"


def test_both_variables_are_read_from_the_environment():
    found = check_interfaces({NCCL: "nope0", GLOO: "enp5s0"}, MACHINE, True)
    assert [item.status for item in found] == ["fail", "pass"]
    assert "nope0" in found[0].found
    assert "enp5s0" in found[0].remedy
