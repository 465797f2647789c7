"""The middleware alone, driven through raw ASGI messages; then as the app composes it."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from dtpf.serving.app import create_app
from dtpf.serving.envelope import Envelope
from dtpf.serving.limits import Admission, BodyLimit, Deadline
from dtpf.serving.predictor import Predictor
from dtpf.serving.service import Service
from tests.serving.fakes import MeanFuser


class Exchange:
    """One request: its chunks are counted as they are taken, the answer is collected."""

    def __init__(self, chunks=(b"",), headers=(), method="POST", endless=False):
        self.chunks = list(chunks)
        self.endless = endless
        self.taken = 0
        self.sent = []
        self.scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        }

    async def receive(self):
        if self.taken >= len(self.chunks):
            await asyncio.Event().wait()
        body = self.chunks[self.taken]
        self.taken += 1
        more = self.endless or self.taken < len(self.chunks)
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message):
        self.sent.append(message)

    def through(self, app):
        asyncio.run(app(self.scope, self.receive, self.send))
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def document(self):
        return json.loads(self.sent[1]["body"])


async def reads_all(scope, receive, send):
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(total).encode()})


async def raises(scope, receive, send):
    raise RuntimeError("inner secret")


async def starts_then_raises(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("too late")


async def never_answers(scope, receive, send):
    await receive()
    await asyncio.Event().wait()


def test_declared_length_beyond_the_limit_is_refused_unread():
    exchange = Exchange([b"x" * 50] * 4, [("Content-Length", "101")]).through(
        BodyLimit(reads_all, 100)
    )
    assert (exchange.status, exchange.taken) == (413, 0)
    assert exchange.document["detail"] == "the body is larger than 100 bytes, the limit here"


def test_streamed_body_is_refused_at_the_limit_not_at_its_end():
    exchange = Exchange([b"x" * 60] * 1000).through(Envelope(composed(BodyLimit(reads_all, 100))))
    assert (exchange.status, exchange.taken) == (413, 2)


def composed(app):
    """Answer HTTP exceptions as the framework around the real app does."""
    from starlette.exceptions import HTTPException

    async def outer(scope, receive, send):
        try:
            await app(scope, receive, send)
        except HTTPException as error:
            await error.response()(scope, receive, send)

    return outer


def test_understated_length_does_not_help():
    exchange = Exchange([b"x" * 60] * 10, [("Content-Length", "5")]).through(
        composed(BodyLimit(reads_all, 100))
    )
    assert (exchange.status, exchange.taken) == (413, 2)


def test_body_at_the_limit_passes():
    exchange = Exchange([b"x" * 50] * 2, [("Content-Length", "100")]).through(
        BodyLimit(reads_all, 100)
    )
    assert (exchange.status, exchange.document) == (200, 100)


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", ""])
def test_length_that_is_no_number(length):
    exchange = Exchange(headers=[("Content-Length", length)]).through(BodyLimit(reads_all, 100))
    assert exchange.status == 400


def test_body_that_stalls_is_408():
    exchange = Exchange([b"a"], endless=True).through(Deadline(reads_all, 0.05))
    assert exchange.status == 408
    assert "did not arrive within 0.05 s" in exchange.document["detail"]


def test_work_that_stalls_is_504():
    exchange = Exchange().through(Deadline(never_answers, 0.05))
    assert exchange.status == 504


def test_pause_within_a_body_is_408_long_before_the_whole_time_is_over():
    exchange = Exchange([b"a"], endless=True).through(Deadline(reads_all, 30, idle_s=0.05))
    assert exchange.status == 408
    assert "paused for 0.05 s" in exchange.document["detail"]


def streaming(pauses):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for pause in pauses:
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    return app


def test_answer_that_streams_may_take_longer_than_its_beginning():
    app = Deadline(streaming([0.03] * 10), 0.2, streamed_s=30)
    assert len(Exchange().through(app).sent) == 11


@pytest.mark.parametrize(("pauses", "streamed_s"), [([0.01, 20], 30), ([0.02] * 1000, 0.3)])
def test_answer_that_stalls_or_never_ends_is_broken_off(pauses, streamed_s):
    with pytest.raises(TimeoutError):
        Exchange().through(Deadline(streaming(pauses), 0.15, streamed_s=streamed_s))


def test_client_who_does_not_read_is_dropped():
    exchange = Exchange()

    async def stuck(message):
        await asyncio.Event().wait()

    exchange.send = stuck
    with pytest.raises(TimeoutError):
        exchange.through(Deadline(streaming([0]), 0.05))


def test_time_out_of_the_app_itself_is_not_taken_for_ours():
    async def times_out(scope, receive, send):
        raise TimeoutError("a socket of the app")

    with pytest.raises(TimeoutError, match="socket"):
        Exchange().through(Deadline(times_out, 5))


def test_defect_before_the_answer_is_a_plain_500(caplog):
    exchange = Exchange(headers=[("X-Request-Id", "r-1")]).through(Envelope(raises))
    assert exchange.status == 500
    assert exchange.headers["x-request-id"] == "r-1"
    assert exchange.document["detail"] == "the server failed; its log has request r-1"
    assert "inner secret" in caplog.text


def test_defect_inside_an_answer_breaks_it_off():
    with pytest.raises(RuntimeError, match="too late"):
        Exchange().through(Envelope(starts_then_raises))


def test_admission_refuses_beyond_its_capacity_and_recovers():
    async def scenario():
        release = asyncio.Event()

        async def waits(scope, receive, send):
            await release.wait()
            await reads_all(scope, receive, send)

        app = Admission(waits, capacity=2)
        exchanges = [Exchange() for _ in range(4)]
        tasks = [asyncio.create_task(app(e.scope, e.receive, e.send)) for e in exchanges]
        page = Exchange(method="GET")
        tasks.append(asyncio.create_task(app(page.scope, page.receive, page.send)))
        await asyncio.sleep(0)
        refused = [e for e in exchanges if e.sent]
        release.set()
        await asyncio.gather(*tasks)
        later = Exchange()
        await app(later.scope, later.receive, later.send)
        return exchanges, refused, page, later

    exchanges, refused, page, later = asyncio.run(scenario())
    assert [e.status for e in exchanges] == [200, 200, 503, 503]
    assert refused == exchanges[2:]
    assert refused[0].headers["retry-after"] == "1"
    assert (page.status, later.status) == (200, 200)


def test_failed_requests_give_their_place_back():
    app = Envelope(Admission(raises, capacity=1))
    assert [Exchange().through(app).status for _ in range(3)] == [500, 500, 500]


def test_overloaded_app_refuses_at_once_and_answers_what_it_accepted(config, pair):
    fuser = MeanFuser()
    limits = {"max_ongoing_requests": 1, "max_queued_requests": 1}
    config = config.model_copy(update=limits)
    predictor = Predictor(fuser, config)
    fuser.gate = threading.Event()
    with (
        TestClient(create_app(Service(config, {config.name: predictor}))) as client,
        ThreadPoolExecutor(6) as pool,
    ):
        try:
            tasks = [pool.submit(client.post, "/fuse", files=pair) for _ in range(6)]
            refused = [t.result(20) for t in _first_done(tasks, 4)]
            assert {answer.status_code for answer in refused} == {503}
            assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
            assert client.get("/healthz").status_code == 200
        finally:
            fuser.gate.set()
        assert sorted(task.result(20).status_code for task in tasks) == [200] * 2 + [503] * 4
        assert client.post("/fuse", files=pair).status_code == 200


def _first_done(tasks, count):
    from concurrent.futures import as_completed

    done = as_completed(tasks, timeout=20)
    return [next(done) for _ in range(count)]


def test_slow_model_is_cut_off_and_its_thread_not_doubled(config, pair):
    fuser = MeanFuser()
    limits = {"request_timeout_s": 0.3, "max_ongoing_requests": 1}
    config = config.model_copy(update=limits)
    predictor = Predictor(fuser, config)
    fuser.gate = threading.Event()
    before = fuser.calls
    with TestClient(create_app(Service(config, {config.name: predictor}))) as client:
        try:
            statuses = [client.post("/fuse", files=pair).status_code for _ in range(3)]
            assert statuses == [504] * 3
            assert fuser.calls == before + 1  # the two behind it never started
        finally:
            fuser.gate.set()
        assert client.post("/fuse", files=pair).status_code == 200
        assert fuser.calls == before + 2
