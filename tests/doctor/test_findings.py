"""What is shown of findings, and what never is."""

from dtpf.core.errors import UserError
from dtpf.doctor.findings import (
    any_failed,
    as_json,
    as_text,
    failed,
    guarded,
    passed,
    warned,
)

PLACES = {
    "a": [passed("one", "fine"), warned("two", "odd", "look")],
    "b": [failed("three", "bad", "mend")],
}


def raising(error: Exception):
    def check():
        raise error

    return check


def test_the_json_has_one_schema():
    report = as_json(PLACES)
    assert report["status"] == "fail"
    assert report["counts"] == {"pass": 1, "warn": 1, "fail": 1}
    fields = {"where", "name", "status", "found", "remedy"}
    assert all(set(check) == fields for check in report["checks"])
    assert [check["where"] for check in report["checks"]] == ["a", "a", "b"]


def test_the_worst_is_the_status_of_all():
    assert as_json({"a": PLACES["a"]})["status"] == "warn"
    assert as_json({"a": [passed("one", "fine")]})["status"] == "pass"
    assert not any_failed({"a": PLACES["a"]})
    assert any_failed(PLACES)


def test_the_text_says_what_to_do():
    lines = as_text(PLACES).splitlines()
    assert lines[0] == "a"
    assert lines[1].split() == ["pass", "one", "fine"]
    assert lines[3].split() == ["->", "look"]
    assert lines[-1] == "1 pass, 1 warn, 1 fail"


def test_an_error_is_a_finding_with_its_remedy():
    (found,) = guarded("x", raising(UserError("s3://b: no such bucket; create it first")))
    assert (found.status, found.found) == ("fail", "s3://b: no such bucket")
    assert found.remedy == "create it first"
    (found,) = guarded("x", raising(ZeroDivisionError("by zero")))
    assert found.status == "fail"
    assert "ZeroDivisionError" in found.found


def test_secrets_are_struck_out_of_errors(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    for error in (UserError("bad key geheim"), ValueError("geheim is bad")):
        (found,) = guarded("x", raising(error))
        assert "geheim" not in found.found + found.remedy
        assert "AWS_SECRET_ACCESS_KEY" in found.found + found.remedy
