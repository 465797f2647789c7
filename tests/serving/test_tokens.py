import json
import os
import stat

import pytest

from dtpf.core.errors import UserError
from dtpf.serving.tokens import TokenFile, add_token, remove_tokens


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


def test_file_holds_digests_only_and_is_private(path):
    secret = add_token(path, "lab")
    assert len(secret) >= 40
    assert secret not in path.read_text()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_finds_the_right_one_of_several(path):
    first, second = add_token(path, "lab", 1000), add_token(path, "car", None, 60)
    tokens = TokenFile(path)
    assert tokens.find(first).name == "lab"
    assert tokens.find(first).max_body_bytes == 1000
    assert tokens.find(second).requests_per_minute == 60
    for wrong in ("", "x", first[:-1], first.upper(), second + " "):
        assert tokens.find(wrong) is None


def test_rotation_without_restart(path):
    old = add_token(path, "lab")
    tokens = TokenFile(path)
    new = add_token(path, "lab")
    assert tokens.find(old)
    assert tokens.find(new)
    assert remove_tokens(path, "lab", keep_newest=True) == 1
    assert tokens.find(old) is None
    assert tokens.find(new)
    assert remove_tokens(path, "lab") == 1
    assert tokens.find(new) is None


@pytest.mark.parametrize("damage", ["", "{", '{"tokens": [{"name": "lab"}]}', "[]", None])
def test_a_slip_in_the_file_neither_locks_out_nor_opens(path, damage, caplog):
    secret = add_token(path, "lab")
    tokens = TokenFile(path)
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    assert [tokens.find(secret) is not None for _ in range(3)] == [True] * 3
    assert tokens.find("other") is None
    assert len([r for r in caplog.records if "stay in force" in r.message]) == 1
    path.unlink(missing_ok=True)
    renewed = add_token(path, "lab")
    assert tokens.find(renewed)
    assert tokens.find(secret) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "lab"},
        {"name": "lab", "sha256": "00"},
        {"name": "a b", "sha256": "0" * 64},
        {"name": "lab", "sha256": "0" * 64, "requests_per_minute": 0},
        {"name": "lab", "sha256": "0" * 64, "token": "secret"},
    ],
)
def test_wrong_file_is_refused_at_the_start(path, entry):
    path.write_text(json.dumps({"tokens": [entry]}))
    with pytest.raises(UserError, match=r"tokens\.json: tokens\.0"):
        TokenFile(path)


def test_missing_file_is_refused_at_the_start(path):
    with pytest.raises(UserError, match="dtpf token"):
        TokenFile(path)
