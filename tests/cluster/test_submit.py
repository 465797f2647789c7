"""What is told about an address before and after a job; lost heads are in test_hosts.py."""

import http.server
import threading

import pytest
import submit

from dtpf.core.machine import free_port


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(401)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def head():
    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_head_that_asks_for_a_token_is_there(head):
    assert submit.answers(head)


def test_nobody_is_not_there():
    assert not submit.answers(f"http://127.0.0.1:{free_port()}")


def test_a_refused_job_is_not_a_lost_head(head, monkeypatch, capfd):
    monkeypatch.setenv(submit.ADDRESS, head)
    assert submit.main(["--", "true"]) not in (0, submit.LOST)
    assert "does not answer" not in capfd.readouterr().err


def test_a_head_that_never_was_is_named(monkeypatch, capfd):
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv(submit.ADDRESS, address)
    assert submit.main(["--", "true"]) == submit.LOST
    assert f"the head at {address} does not answer" in capfd.readouterr().err


@pytest.mark.parametrize("address", [None, "10.0.0.1:8265"])
def test_an_address_without_scheme_or_none_is_explained(monkeypatch, capsys, address):
    monkeypatch.delenv(submit.ADDRESS, raising=False)
    if address:
        monkeypatch.setenv(submit.ADDRESS, address)
    assert submit.main(["--", "true"]) == 2
    assert "http://10.0.0.1:8265" in capsys.readouterr().err


def test_options_of_ray_stand_before_the_dashes():
    words = ["--no-wait", "--", "python", "job.py", "--", "x"]
    assert submit._split(words) == (["--no-wait"], ["python", "job.py", "--", "x"])
    assert submit._split(["python", "job.py"]) == ([], ["python", "job.py"])
