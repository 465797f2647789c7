"""Copies and sums between real processes over gloo: right ones, wrong ones, and none."""

import sys
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from dtpf.doctor import exchange
from dtpf.doctor.local_exchange import check_exchange
from dtpf.doctor.pairs import judge

ODD = Path(__file__).with_name("odd_member.py")

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() > 0, reason="with GPUs the processes would use NCCL"
)


def odd(how: str, **options) -> dict:
    found = check_exchange(command=(sys.executable, str(ODD), how), **options)
    return {item.name: item for item in found}


def test_two_processes_agree():
    found = {item.name: item for item in check_exchange()}
    assert {item.status for item in found.values()} == {"pass"}, found
    assert "2 ordered pairs" in found["copies"].found
    assert "1 pairs and all 2" in found["all-reduce"].found


def test_three_processes_meet_in_all_pairs():
    found = odd("right", processes=3)
    assert {item.status for item in found.values()} == {"pass"}, found
    assert "6 ordered pairs" in found["copies"].found


def test_one_wrong_byte_is_a_failure_that_names_the_way():
    found = odd("byte")
    assert found["copies"].status == "fail"
    assert "process 0 -> process 1 (1 of 4099 bytes)" in found["copies"].found
    assert "process 1 -> process 0" not in found["copies"].found
    assert "driver" in found["copies"].remedy
    assert found["all-reduce"].status == "pass"


def test_a_copy_that_never_arrives_is_a_failure():
    found = odd("nothing")["copies"]
    assert found.status == "fail"
    assert "process 1 -> process 0" in found.found


def test_a_wrong_sum_is_a_failure():
    found = odd("sum")
    assert found["copies"].status == "pass"
    assert found["all-reduce"].status == "fail"
    assert "process 0 + process 1" in found["all-reduce"].found


def test_a_hang_is_a_failure_in_time_and_no_process_is_left():
    found = odd("hang", seconds=3, start_seconds=15)
    assert found["copies"].status == "fail"
    assert "process 0 with process 1" in found["copies"].found
    assert "NCCL_P2P_DISABLE=1" in found["copies"].remedy
    left = psutil.Process().children(recursive=True)
    assert not [process for process in left if ODD.name in " ".join(process.cmdline())]


def test_processes_that_do_not_start_say_why():
    found = odd("crash")
    assert found["copies"].status == "fail"
    assert "no such device" in found["copies"].found


def test_direct_copies_by_the_driver_are_compared_for_every_ordered_pair():
    events: list = []
    exchange.direct_copies(["cpu", "cpu", "cpu"], events.append)
    assert sorted(event["pair"] for event in events) == [
        [0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1],
    ]  # fmt: skip
    assert {event["wrong"] for event in events} == {0}

    def zeros(tensor: Tensor, device: str) -> Tensor:
        return torch.zeros_like(tensor)

    wrong: list = []
    exchange.direct_copies(["cpu", "cpu"], wrong.append, move=zeros)
    found = judge(wrong, ["card 0", "card 1"])[0]
    assert (found.name, found.status) == ("direct copies", "fail")
    assert "card 0 -> card 1" in found.found


def test_payloads_of_pairs_differ():
    seeds = {exchange._seed(a, b, size) for a in range(9) for b in range(9) for size in (1, 2**24)}
    assert len(seeds) == 9 * 9 * 2
    one, other = (exchange.payload(seed, 1000) for seed in (1, 2))
    assert exchange.difference(one, exchange.payload(1, 1000)) == 0
    assert exchange.difference(one, other) > 900
