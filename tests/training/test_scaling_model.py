"""The formulas behind docs/scaling.md."""

import importlib
import math
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MIB = 2**20


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("scaling_model")


@pytest.fixture
def work(model):
    """26 MiB of float32 gradients; a crop takes 1 s forward and 2 s backward at 1 FLOP/s."""
    return model.Work("work", 26 * MIB // 4, 1.0, 2.0, 1, 1.0)


@pytest.fixture
def plain(model):
    """One FLOP a second, no launches, a ring of 1 MiB/s within nodes and no limit of sockets."""
    return model.Assumptions(
        fast_flops=1.0,
        launch_seconds=0.0,
        local_bandwidth=float(MIB),
        local_latency=0.0,
        link_efficiency=1.0,
        socket_ceiling=math.inf,
        link_latency=0.0,
    )


def test_a_ring_sends_everything_almost_twice(model):
    assert model.ring_seconds(1, 1e9, 1e9, 1.0) == 0
    assert model.ring_seconds(2, 1e9, 1e9, 0.0) == pytest.approx(1.0)
    assert model.ring_seconds(4, 1e9, 1e9, 0.0) == pytest.approx(1.5)
    assert model.ring_seconds(4, 0, 1e9, 0.1) == pytest.approx(0.6)


def test_rings_within_nodes_come_before_the_ring_between_them(model, plain):
    one = model.Cluster(gpus=4, gpus_per_node=4, link=1.0)
    assert one.nodes == 1
    assert model.exchange_seconds(MIB, one, plain) == pytest.approx(1.5)
    three = model.Cluster(gpus=12, gpus_per_node=4, link=8 * MIB / 1e9)
    assert three.nodes == 3
    assert model.exchange_seconds(MIB, three, plain) == pytest.approx(1.5 + 4 / 3)


def test_sockets_limit_fast_links(model):
    cluster = model.Cluster(gpus=2, gpus_per_node=1, link=100.0)
    a = model.Assumptions(socket_ceiling=1e9, link_latency=0.0)
    assert model.exchange_seconds(1e9, cluster, a) == pytest.approx(1.0)


def test_buckets_are_those_of_pytorch(model):
    a = model.Assumptions()
    assert model.buckets(60 * MIB, a) == [MIB, 25 * MIB, 25 * MIB, 9 * MIB]
    assert model.buckets(1000, a) == [1000]


def test_only_what_outlasts_the_backward_pass_is_waited_for(model, work, plain):
    cluster = model.Cluster(gpus=2, gpus_per_node=8, link=1.0)
    # The first bucket, 1 s, travels during the other 25/26 of the backward pass; the last, 25 s,
    # starts when it ends.
    step, waited = model.step_seconds(work, 1, cluster, "float32", "fast", plain)
    assert (step, waited) == (pytest.approx(28.0), pytest.approx(25.0))
    step, waited = model.step_seconds(work, 1, cluster, "bfloat16", "fast", plain)
    assert (step, waited) == (pytest.approx(15.5), pytest.approx(12.5))
    alone = model.Cluster(gpus=1, gpus_per_node=8, link=1.0)
    assert model.step_seconds(work, 2, alone, "float32", "fast", plain) == (6.0, 0.0)


def test_small_shares_take_as_long_as_their_launches(model, work):
    a = model.Assumptions(fast_flops=1.0, launch_seconds=0.01)
    forward, backward = a.forward_launches * 0.01, a.backward_launches * 0.01
    assert model.compute_seconds(work, 1, "fast", a) == (forward, backward)
    assert model.compute_seconds(work, 1000, "fast", a) == (1000, 2000)


def test_one_gpu_at_the_papers_speed_takes_the_papers_time(model):
    a = model.Assumptions()
    alone = [row for row in model.rows(a) if row["gpus"] == 1 and row["speed"] == "paper"]
    hours = {row["work"]: row["hours"] for row in alone if row["mode"] == "fixed batch"}
    assert hours["teacher"] == pytest.approx(12.1)
    assert hours["student, live"] == pytest.approx(13.5)


def test_what_pays_ends_at_the_first_doubling_that_does_not(model):
    gains = [(1, None), (2, 1.9), (4, 1.2), (8, 1.9)]
    lines = [{"gpus": gpus, "doubling": gain} for gpus, gain in gains]
    assert model.pays_up_to(lines, model.Assumptions()) == 2


def test_a_fixed_batch_ends_where_a_worker_has_no_crop(model):
    table = list(model.rows(model.Assumptions(batch=4)))
    assert {row["gpus"] for row in table if row["mode"] == "fixed batch"} == {1, 2, 4}
    assert {row["share"] for row in table if row["mode"] == "fixed share"} == {4}
