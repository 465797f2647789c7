"""Who meets when, and what results say together."""

from itertools import combinations

import pytest

from dtpf.doctor.pairs import judge, own_pairs, rounds


@pytest.mark.parametrize("world", [2, 3, 4, 7, 8, 64])
def test_every_pair_meets_once_and_nobody_is_in_two_at_a_time(world):
    meetings = rounds(world)
    pairs = [pair for meeting in meetings for pair in meeting]
    assert sorted(pairs) == list(combinations(range(world), 2))
    assert len(meetings) == world - 1 + world % 2
    for meeting in meetings:
        members = [rank for pair in meeting for rank in pair]
        assert len(members) == len(set(members))
    assert [len(own_pairs(rank, world)) for rank in range(world)] == [world - 1] * world


def events_of(world: int) -> list[dict]:
    """What an exchange reports when all is well."""
    everyone, pairs = list(range(world)), list(combinations(range(world), 2))
    ways = [list(way) for pair in pairs for way in (pair, pair[::-1])]
    sums = [(list(pair), member) for pair in pairs for member in pair]
    return [
        *({"kind": "copy", "pair": way, "size": 8, "wrong": 0} for way in ways),
        *({"kind": "pair sum", "pair": pair, "by": member, "wrong": 0} for pair, member in sums),
        *({"kind": "sum", "pair": everyone, "by": rank, "wrong": 0} for rank in everyone),
    ]


NAMES = ["a", "b", "c", "d"]


def test_all_is_well_when_all_have_said_so():
    assert [item.status for item in judge(events_of(4), NAMES)] == ["pass", "pass"]


def test_a_copy_that_was_not_reported_is_a_failure():
    events = [event for event in events_of(4) if event["pair"] != [2, 1]]
    assert judge(events, NAMES)[0].status == "fail"


def test_the_first_pair_that_did_not_end_is_named_and_the_later_ones_are_not():
    first, *later = rounds(4)
    stuck = first[0]
    after = {pair for meeting in later for pair in meeting if set(pair) & set(stuck)}
    events = [e for e in events_of(4) if tuple(sorted(e["pair"])) not in {stuck, *after}]
    events = [event for event in events if event["kind"] != "sum"]
    events.append({"kind": "error", "pair": list(stuck), "detail": "timed out"})
    for found in judge(events, NAMES):
        assert found.status == "fail"
        assert f"{NAMES[stuck[0]]} with {NAMES[stuck[1]]} (timed out)" in found.found
        assert found.found.count(" with ") == 1


def test_a_sum_over_all_that_did_not_end_is_a_failure():
    events = [event for event in events_of(4) if event.get("by") != 3 or event["kind"] != "sum"]
    copies, sums = judge(events, NAMES)
    assert copies.status == "pass"
    assert sums.status == "fail"
    assert "all 4" in sums.found


def test_one_wrong_sum_over_all_is_named():
    events = events_of(4)
    events[-1] = events[-1] | {"wrong": 2}
    assert "a + b + c + d" in judge(events, NAMES)[1].found
