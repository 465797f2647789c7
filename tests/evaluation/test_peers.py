"""Others' scores from a file: means over the same pairs, and what is refused."""

import pytest

from dtpf.core.errors import UserError
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.peers import Peer, read_peers

ROWS = """pair_id,method,EN,note,VIF
a,theirs,7.0,x,0.5
b,theirs,6.0,,0.7
a,other,1,,2
b,other,3,,4
c,other,100,,100
"""


def config(tmp_path, text: str = ROWS) -> EvalConfig:
    path = tmp_path / "peers.csv"
    path.write_text(text)
    return EvalConfig(metrics=("VIF", "SF", "EN"), peers=str(path))


def test_means_are_over_the_asked_pairs_and_known_metrics(tmp_path):
    found = read_peers(config(tmp_path), ["b", "a"])
    assert found == (
        Peer("theirs", {"VIF": pytest.approx(0.6), "EN": pytest.approx(6.5)}),
        Peer("other", {"VIF": pytest.approx(3.0), "EN": pytest.approx(2.0)}),
    )


def test_without_a_file_there_are_none():
    assert read_peers(EvalConfig(), ["a"]) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair,method,EN\n", r"peers\.csv: no column pair_id; .*'pair'"),
        (ROWS.replace("b,theirs,6.0,,0.7\n", ""), r"theirs has no scores of 1 of 2 pairs .*: b\)"),
        (ROWS.replace("0.7", "high"), r"VIF of theirs on b is 'high', no number"),
        (ROWS.replace("b,theirs,6.0,,0.7", "b,theirs,6.0"), r"VIF of theirs on b is None"),
    ],
)
def test_what_cannot_be_used_is_refused_by_file_and_place(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_peers(config(tmp_path, text), ["a", "b"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        read_peers(EvalConfig(peers=str(tmp_path / "nowhere.csv")), ["a"])
