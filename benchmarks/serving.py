"""What HTTP costs: one client's median time and 32 clients' throughput beside the bare model.

    python benchmarks/serving.py [--model PRESET|BUNDLE] [--size HxW] [--rounds N] [--json]

The endpoint runs under uvicorn in a process of its own on this machine, the clients in another,
so clients and server share the cores with the model. Bare and served work take turns. Done when
one client's median is at most decode + model + encode + 10 ms, and 32 clients get at least 0.9 of
the bare model's throughput (the better of single calls and calls of a full batch).
"""

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import torch
from endpoint import endpoint, png_pair

from dtpf.core.fusion import Fuser
from dtpf.data.images import decode_infrared, decode_visible, encode_png

ADDED_MS_AT_MOST, THROUGHPUT_AT_LEAST = 10.0, 0.9
CLIENTS, EACH, BATCH = 32, 2, 8

# Clients of their own process: in this one they would fight with the bare model for Python's lock.
_CLIENTS = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import httpx
url, clients, each, visible, infrared = json.loads(sys.argv[1])
files = {"visible": open(visible, "rb").read(), "infrared": open(infrared, "rb").read()}
limits = httpx.Limits(max_connections=clients)
with httpx.Client(trust_env=False, timeout=600, limits=limits) as client:
    client.get(url + "/healthz")
    def work(_):
        return [client.post(url + "/fuse", files=files).status_code for _ in range(each)]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        statuses = sum(pool.map(work, range(clients)), [])
    print(json.dumps([time.perf_counter() - start, statuses]))
"""


def main() -> None:
    """Parse, measure, print; exit code 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--model", default="student_4m")
    parser.add_argument("--size", default="128x128", metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = map(int, options.size.split("x"))
    pair = png_pair(1, height, width)
    fuser = Fuser.from_bundle(options.model)
    settings = {"threads": options.threads, "max_batch_size": BATCH}
    with endpoint({"student": options.model}, **settings) as (url, _):
        latency = one_client(url, fuser, pair, options.rounds)
        throughput = many_clients(url, fuser, pair, options.rounds)
    report = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": options.threads,
            "torch": torch.__version__,
        },
        "model": options.model,
        "size": options.size,
        "one_client": latency,
        "many_clients": throughput,
        "holds": latency["holds"] and throughput["holds"],
    }
    print(json.dumps(report, indent=2) if options.json else as_lines(report))
    sys.exit(0 if report["holds"] else 1)


def one_client(url: str, fuser: Fuser, pair: dict[str, bytes], rounds: int) -> dict:
    """Return medians in milliseconds of a request and of the same work without HTTP.

    `around_ms` is what is left of a request beyond the server's own account of it.
    """
    names = ("decode", "model", "encode", "bare", "http", "around")
    times: dict[str, list[float]] = {name: [] for name in names}
    with httpx.Client(trust_env=False, timeout=600) as client:
        for turn in range(8 * rounds + 2):
            bare = _bare(fuser, pair)
            start = time.perf_counter()
            answer = client.post(f"{url}/fuse", files=pair)
            http = 1000.0 * (time.perf_counter() - start)
            assert answer.status_code == 200
            around = http - _told(answer)
            if turn >= 2:  # the first two warm up
                for name, value in {**bare, "http": http, "around": around}.items():
                    times[name].append(value)
    medians = {f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()}
    added = medians["http_ms"] - medians["bare_ms"]
    return {
        **medians,
        "added_ms": round(added, 2),
        "at_most_ms": ADDED_MS_AT_MOST,
        "requests": 8 * rounds,
        "holds": added <= ADDED_MS_AT_MOST,
    }


def _told(answer: httpx.Response) -> float:
    """Return what the server says that it spent on decode, model and encode, in milliseconds.

    The rest of a request is what HTTP adds, even where the machine is too busy for the model's
    time to be the same twice.
    """
    return sum(float(part.split("=")[1]) for part in answer.headers["Server-Timing"].split(","))


def _bare(fuser: Fuser, pair: dict[str, bytes]) -> dict[str, float]:
    marks = [time.perf_counter()]
    visible = decode_visible(pair["visible"], "visible")
    infrared = decode_infrared(pair["infrared"], "infrared")
    marks.append(time.perf_counter())
    fused = fuser.fuse(visible, infrared)
    marks.append(time.perf_counter())
    encode_png(fused)
    marks.append(time.perf_counter())
    laps = [1000.0 * (after - before) for before, after in itertools.pairwise(marks)]
    return dict(zip(("decode", "model", "encode"), laps, strict=True)) | {"bare": sum(laps)}


def many_clients(url: str, fuser: Fuser, pair: dict[str, bytes], rounds: int) -> dict:
    """Return pairs a second of the model alone and of 32 clients, in turns."""
    visible = decode_visible(pair["visible"], "visible")
    infrared = decode_infrared(pair["infrared"], "infrared")
    rows = []
    for _ in range(rounds):
        single = _rate(lambda: fuser.fuse(visible, infrared), BATCH)
        full = BATCH * _rate(lambda: fuser.fuse_batch([visible] * BATCH, [infrared] * BATCH), 2)
        rows.append({"single": single, "full": full, "http": _http_rate(url, pair)})
    ratios = [row["http"] / max(row["single"], row["full"]) for row in rows]
    median = {
        f"{name}_per_second": round(statistics.median(row[name] for row in rows), 2)
        for name in ("single", "full", "http")
    }
    ratio = statistics.median(ratios)
    return {
        "clients": CLIENTS,
        **median,
        "ratio": round(ratio, 3),
        "ratios": [round(value, 3) for value in ratios],
        "at_least": THROUGHPUT_AT_LEAST,
        "mean_batch": _mean_batch(url),
        "holds": ratio >= THROUGHPUT_AT_LEAST,
    }


def _rate(work, calls: int) -> float:
    work()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return calls / (time.perf_counter() - start)


def _http_rate(url: str, pair: dict[str, bytes]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in pair]
        for path, data in zip(paths, pair.values(), strict=True):
            path.write_bytes(data)
        arguments = json.dumps([url, CLIENTS, EACH, *map(str, paths)])
        done = subprocess.check_output([sys.executable, "-c", _CLIENTS, arguments])
    seconds, statuses = json.loads(done)
    assert set(statuses) == {200}, statuses
    return len(statuses) / seconds


def _mean_batch(url: str) -> float:
    """Return the mean size of all model calls so far; single requests count in it too."""
    lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("dtpf_batch_pairs_"))
    return round(float(values["dtpf_batch_pairs_sum"]) / float(values["dtpf_batch_pairs_count"]), 2)


def as_lines(report: dict) -> str:
    """Return the report for people."""
    one, many = report["one_client"], report["many_clients"]
    return (
        f"{report['model']} at {report['size']}, {report['machine']['threads']} threads\n"
        f"one client: {one['http_ms']:.1f} ms, bare {one['bare_ms']:.1f} ms, "
        f"added {one['added_ms']:.1f} ms (at most {one['at_most_ms']:g})\n"
        f"{many['clients']} clients: {many['http_per_second']:.1f} pairs/s, bare "
        f"{max(many['single_per_second'], many['full_per_second']):.1f}, "
        f"ratio {many['ratio']:.2f} (at least {many['at_least']:g})"
    )


if __name__ == "__main__":
    main()
