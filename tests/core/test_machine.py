"""What a process asks of its machine."""

import platform
import socket
import subprocess
import sys

import pytest

from dtpf.core.machine import free_port, logical_cpus

_FAULTS = """
import resource, sys, threading
import numpy as np
from dtpf.core.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def work():
    for _ in range(10):
        _ = [np.ones(2**20) for _ in range(16)]  # 16 times 8 MB

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

first = threading.Thread(target=work)
first.start()
first.join()
before = faults()
second = threading.Thread(target=work)
second.start()
second.join()
print(faults() - before)
"""


def faults_of(mode: str) -> int:
    return int(subprocess.check_output([sys.executable, "-c", _FAULTS, mode]))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again():
    plain, kept = faults_of("plain"), faults_of("keep")
    assert plain > 4096  # the pages of at least one array
    assert kept < plain / 20


def test_a_free_port_can_be_bound():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))


def test_a_small_machine_still_offers_what_the_stages_hold():
    assert logical_cpus() >= 8
