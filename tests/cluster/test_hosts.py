"""The main job over several hosts, submitted from outside, and what may happen to hosts meanwhile.

One rack for the whole module. What a test cuts off is back at its end; the worker host that the
first one loses is lost to all.
"""

import re
import threading
import time
from collections.abc import Iterator

import pytest
import submit
from processes import RAY

from tests.cluster.hosts import need_namespaces
from tests.cluster.rack import DESK, HEAD, STORE, TENANTS, WORKERS, Job, Rack
from tests.cluster.wire import Wire
from tests.small import as_options

pytestmark = [pytest.mark.ray, pytest.mark.kill, pytest.mark.s3, pytest.mark.timeout(1200)]

PORT = 8000
LONGER = ("teacher.train.steps=24", "teacher.train.validate_every=24", "scaling.workers=2")
ELASTIC = (*LONGER, "scaling.min_workers=1", "scaling.resize_seconds=20")
TRAINING = r"/24 .*loss "


@pytest.fixture(scope="module")
def rack(tmp_path_factory) -> Iterator[Rack]:
    need_namespaces()
    rack = Rack(tmp_path_factory.mktemp("rack"))
    try:
        yield rack
    finally:
        rack.end()


def options(rack: Rack, *more: str) -> list[str]:
    return as_options(f"serve.host={rack[HEAD].address}", f"serve.port={PORT}", *more)


def served(rack: Rack, route: str = "") -> str:
    """The model that the endpoint serves, asked from the desk."""
    url = f"http://{rack[HEAD].address}:{PORT}{route}/v1/models/student"
    return rack[DESK].run("curl", "--silent", "--show-error", "--max-time", "20", url).stdout


def assert_ends_served(rack: Rack, job: Job, store: str, timeout: float = 900) -> str:
    """Wait for the job; it succeeds, and what it trained is served. Returns its output."""
    output = job.end(timeout)
    assert job.process.returncode == 0, output[-6000:]
    assert re.search(r"^endpoint +http", output, re.MULTILINE), output[-6000:]
    assert f'"uri":"{store}/models/student/' in served(rack)
    return output


def test_from_outside_to_a_served_student_though_a_host_is_lost(rack):
    store = "s3://dtpf/outside"
    job = rack.submit(store, *options(rack, "data.synthetic.train=40", "caption.shard_rows=1"))
    job.until(r"^\[2/7\]")
    lost = rack.worker_with("ShardCaptioner")
    rack.lose(lost)
    assert "without a caption: none" in assert_ends_served(rack, job, store)


@pytest.mark.long
def test_two_tenants_at_the_same_time(rack):
    """Each has its store, its application and its share of every host, and both are served."""
    jobs = {}
    for tenant in TENANTS:
        settings = (f"serve.application={tenant}", f"serve.route_prefix=/{tenant}")
        job = rack.submit(f"s3://dtpf/{tenant}", *options(rack, *settings), tenant=tenant)
        jobs[tenant] = job
    for job in jobs.values():
        output = job.end(600)
        assert job.process.returncode == 0, output[-6000:]
    for tenant in TENANTS:
        assert f'"uri":"s3://dtpf/{tenant}/models/student/' in served(rack, f"/{tenant}")


@pytest.mark.long
def test_a_tenant_without_a_share_hears_so(rack):
    stalled = ("caption.resources.stall_timeout_s=20",)
    job = rack.submit("s3://dtpf/stranger", *options(rack, *stalled), tenant="stranger")
    output = job.end()
    assert job.process.returncode != 0
    assert "stranger" in output[-2000:]


@pytest.mark.long
def test_a_host_cut_off_in_training_and_returned(rack):
    store = "s3://dtpf/cut"
    job = rack.submit(store, *options(rack, *ELASTIC))
    job.until(TRAINING)
    cut = rack.worker_with("RayTrainWorker")
    rack.lab.cut_off(cut)
    back = threading.Timer(60, rack.lab.reconnect, [cut])
    back.start()
    back.join()
    assert_ends_served(rack, job, store)
    rack.wait_for(len(rack.nodes))


@pytest.mark.long
def test_the_store_gone_for_a_minute(rack):
    store = "s3://dtpf/away"
    job = rack.submit(store, *options(rack, *LONGER))
    job.until(TRAINING)
    rack.lab.cut_off(STORE)
    time.sleep(60)
    rack.lab.reconnect(STORE)
    assert_ends_served(rack, job, store)


@pytest.mark.long
def test_the_head_restarted(rack):
    """The job ends with it; a person hears that within a minute, and the same command goes on."""
    store = "s3://dtpf/head"
    job = rack.submit_watched(store, *options(rack, *LONGER))
    job.until(TRAINING)
    rack[HEAD].end_processes()
    struck = time.monotonic()
    output = job.end()
    assert time.monotonic() - struck < 60
    assert job.process.returncode == submit.LOST
    assert "Start it again (cluster/node.py head)" in output
    rack.start_head()
    rack.wait_for(len(rack.nodes))
    again = rack.submit(store, *options(rack, *LONGER))
    assert assert_ends_served(rack, again, store).count("skipped") >= 2


@pytest.mark.long
def test_five_percent_loss_and_fifty_milliseconds(tmp_path):
    need_namespaces()
    rack = Rack(tmp_path, {name: Wire(loss=0.05, delay_s=0.05) for name in WORKERS[:2]})
    try:
        store = "s3://dtpf/slow"
        job = rack.submit(store, *options(rack, "scaling.workers=3"))
        assert_ends_served(rack, job, store, 900)
    finally:
        rack.end()


def test_nobody_without_the_token_is_heard(rack):
    """Dashboard and every node's agent answer 401 to jobs and to other models."""
    head = rack[HEAD].address
    jobs = [f"http://{head}:8265/api/jobs/"]
    agents = [f"http://{rack[name].address}:52365/api/job_agent/jobs/" for name in rack.nodes]
    for url in jobs + agents:
        assert _post(rack, url, '{"entrypoint": "touch /tmp/owned"}') == 401, url
    assert _post(rack, f"http://{head}:8265/api/serve/applications/", "{}", "PUT") == 401


@pytest.mark.parametrize(
    "access", ["no token", pytest.param("another token", marks=pytest.mark.long)]
)
def test_nobody_without_the_token_sees_or_joins_the_cluster(rack, tmp_path, access):
    head = f"{rack[HEAD].address}:6379"
    other = tmp_path / "token"
    other.write_text("f" * 32)
    modes = {"no token": {"RAY_AUTH_MODE": "disabled"}, "another token": {"RAY_AUTH_MODE": "token"}}
    environment = {
        **rack.client_environment(),
        "RAY_AUTH_TOKEN_PATH": str(other),
        "HOME": str(tmp_path),
        **modes[access],
    }
    join = ["start", "--address", head, "--node-ip-address", rack[DESK].address, "--num-cpus=1"]
    for command in (["status", "--address", head], join):
        asked = rack[DESK].run(*RAY, *command, environment=environment)
        assert asked.returncode != 0, asked.stdout
        assert "auth" in (asked.stdout + asked.stderr).lower()
    assert rack.alive() == len(rack.nodes)


@pytest.mark.long
def test_encrypted_between_nodes(tmp_path):
    """The whole job; and who has the token but no certificate is not heard."""
    need_namespaces()
    rack = Rack(tmp_path, encrypted=True)
    try:
        store = "s3://dtpf/secret"
        job = rack.submit(store, *options(rack, "scaling.workers=2"))
        assert_ends_served(rack, job, store, 600)
        plain = {**rack.client_environment(), "RAY_ADDRESS": f"{rack[HEAD].address}:6379"}
        asked = rack[DESK].run(*RAY, "status", environment=plain)
        assert asked.returncode != 0
    finally:
        rack.end()


def _post(rack: Rack, url: str, body: str, method: str = "POST") -> int:
    """The status of an answer to a request without a token; 0 without an answer."""
    quiet = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "10"]
    send = ["--request", method, "--header", "Content-Type: application/json", "--data", body]
    return int(rack[DESK].run("curl", *quiet, *send, url).stdout)
