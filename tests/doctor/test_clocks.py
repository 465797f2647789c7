"""Offsets of clocks."""

from email.utils import formatdate

import pytest

from dtpf.doctor.clocks import check_offsets, check_store_clock, offset_of


def test_the_shortest_trip_says_most():
    trips = [(100.0, 109.0, 104.0), (200.0, 205.05, 200.1), (300.0, 301.0, 302.0)]
    assert offset_of(trips) == pytest.approx((5.0, 0.05))


@pytest.mark.parametrize(
    ("ahead", "status"), [(0.01, "pass"), (-0.2, "pass"), (2.0, "warn"), (-300.0, "fail")]
)
def test_nodes_by_how_far_they_are_apart(ahead, status):
    found = check_offsets({"a": (0.0, 0.001), "b": (0.001, 0.001), "c": (ahead, 0.001)})
    assert found.status == status
    if status != "pass":
        assert "c is" in found.found or "ahead of c" in found.found


def test_what_long_trips_could_explain_is_no_failure():
    assert check_offsets({"a": (0.0, 0.5), "b": (1.2, 0.6)}).status == "pass"
    assert check_offsets({"a": (3.0, 0.0)}).status == "pass"  # one node has none to differ from


@pytest.mark.parametrize(
    ("ahead", "status"), [(0, "pass"), (20, "pass"), (120, "warn"), (1000, "fail"), (-1000, "fail")]
)
def test_the_store_by_its_date(ahead, status):
    now = 1_800_000_000.0
    found = check_store_clock(formatdate(now + ahead, usegmt=True), now, now + 0.1)
    assert found.status == status
    assert ("ahead of" in found.found) == (status != "pass" and ahead > 0)


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_an_answer_without_a_date_is_warned_of(date):
    assert check_store_clock(date, 0.0, 0.1).status == "warn"
