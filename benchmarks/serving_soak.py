"""The endpoint under load for a long time: nothing lost, nothing mixed up, no growth.

    python benchmarks/serving_soak.py [--seconds 1200] [--clients 12] [--swaps 50] [--json]
    python benchmarks/serving_soak.py --seconds 60          # the short way

Clients send good pairs of several sizes, arrays, archives and broken files without pause, more
than the queue takes. Meanwhile the published model changes `--swaps` times, and the storage goes
away for a tenth of the time. Every answer is compared with what the model it names gives. Done
when no accepted request failed or got another's answer, and memory did not grow (mean of the last
quarter over that of the second, at most 10 % and 50 MB).
"""

import argparse
import collections
import io
import json
import random
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch
from endpoint import endpoint, png_pair
from PIL import Image

from dtpf.core.bundle import save_bundle
from dtpf.core.fusion import Fuser
from dtpf.core.models import build
from dtpf.core.storage.keys import current_key, model_prefix
from dtpf.core.storage.store import Store
from dtpf.data.images import decode_infrared, decode_visible

SIZES = ((48, 64), (64, 64), (64, 48))
MODELS = 2
TOLERANCE = 1.01  # of 255: sums of a batch may round otherwise than those of one pair


class Published:
    """A store with some models, and what each makes of each pair."""

    def __init__(self, folder: str) -> None:
        self.store = Store(folder)
        self.pairs = [png_pair(seed, *size) for seed, size in enumerate(SIZES)]
        self.expected: dict[tuple[str, int], np.ndarray] = {}
        self._documents = [self._save(seed) for seed in range(MODELS)]
        apart = [np.abs(self.expected["v0", n] - self.expected["v1", n]).max() for n in range(3)]
        assert min(apart) > 5, "the models make nearly the same of a pair"
        self.publish(0)

    def _save(self, seed: int) -> dict:
        torch.manual_seed(seed)
        version = f"v{seed}"
        prefix = model_prefix("student", version)
        model = build("student_tiny")
        with torch.no_grad():  # untrained networks differ by less than the tolerance
            model.out.weight.mul_(4.0 * (1 + seed))
        digest = save_bundle(self.store, prefix, model, provenance={"seed": seed})
        uri = self.store.uri_of(prefix)
        fuser = Fuser.from_bundle(uri)
        for number, pair in enumerate(self.pairs):
            seen = decode_visible(pair["visible"], "visible")
            fused = fuser.fuse(seen, decode_infrared(pair["infrared"], "infrared"))
            self.expected[version, number] = 255.0 * fused
        return {"name": "student", "version": version, "uri": uri, "sha256": digest}

    def publish(self, number: int) -> None:
        """Make one of the models current."""
        self.store.write_json(current_key("student"), self._documents[number % MODELS])


class Load:
    """Clients that never pause, and the counts of what they were answered."""

    def __init__(self, url: str, published: Published, clients: int) -> None:
        self.url, self.published = url, published
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the clients; those under way finish."""
        self._end.set()
        for thread in self._threads:
            thread.join(120)

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(trust_env=False, timeout=120, base_url=self.url) as client:
            while not self._end.is_set():
                kinds = [self._fuse, self._fuse, self._fuse, self._archive, self._broken]
                try:
                    outcome = chance.choice(kinds)(client, chance)
                except (httpx.HTTPError, AssertionError) as error:
                    outcome = "wrong"
                    self.wrong.append(repr(error)[:200])
                with self._lock:
                    self.counts[outcome] += 1
                if outcome == "refused":
                    time.sleep(0.05 * chance.random())

    def _fuse(self, client: httpx.Client, chance: random.Random) -> str:
        number = chance.randrange(len(SIZES))
        answer = client.post("/fuse", files=self.published.pairs[number])
        if _refused(answer):
            return "refused"
        assert answer.status_code == 200, answer.text
        self._check(answer.content, answer.headers["X-Model-Version"], number)
        return "fused"

    def _archive(self, client: httpx.Client, chance: random.Random) -> str:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for number, pair in enumerate(self.published.pairs):
                for field, data in pair.items():
                    archive.writestr(f"{field}/{number}.png", data)
            archive.writestr("visible/broken.png", b"x")
        answer = client.post("/fuse/batch", content=sink.getvalue())
        if _refused(answer):
            return "refused"
        assert answer.status_code == 200, answer.text
        with zipfile.ZipFile(io.BytesIO(answer.content)) as fused:
            for item in json.loads(fused.read("report.json")):
                assert (item["status"] == "failed") is (item["name"] == "broken"), item
                if "file" in item:
                    self._check(fused.read(item["file"]), item["version"], int(item["name"]))
        return "archive"

    def _broken(self, client: httpx.Client, chance: random.Random) -> str:
        pair = self.published.pairs[0]
        damaged = bytearray(pair["visible"])
        damaged[chance.randrange(len(damaged))] ^= 1 + chance.randrange(255)
        answer = client.post("/fuse", files=pair | {"visible": bytes(damaged)})
        if _refused(answer):
            return "refused"
        # A flip may hit what decoders do not read; then the pair is simply fused.
        assert answer.status_code in (200, 422), answer.text
        return "broken"

    def _check(self, data: bytes, version: str, number: int) -> None:
        fused = np.asarray(Image.open(io.BytesIO(data)), dtype=np.float64)
        expected = self.published.expected[version, number]
        assert fused.shape == expected.shape, "another pair's answer"
        error = float(np.abs(fused - expected).max())
        assert error <= TOLERANCE, f"{version} and pair {number}: off by {error:.1f}"


def _refused(answer: httpx.Response) -> bool:
    if answer.status_code != 503:
        return False
    assert "Retry-After" in answer.headers
    return True


def soak(seconds: float, clients: int, swaps: int) -> dict:
    """Run it; returns the report."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        published = Published(str(root))
        source = published.store.uri_of(current_key("student"))
        # As many places as two thirds of the clients: the others are refused.
        places = {"max_ongoing_requests": max(1, clients // 2), "max_queued_requests": clients // 6}
        settings = {"watch_s": 0.2, "max_batch_size": 4, **places}
        with endpoint({"student": source}, **settings) as (url, pid):
            process = psutil.Process(pid)
            load = Load(url, published, clients)
            megabytes = _disturb(seconds, swaps, published, root, process)
            load.stop()
            info = httpx.get(f"{url}/v1/model", trust_env=False).json()
            metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    quarter = max(1, len(megabytes) // 4)
    early, late = np.mean(megabytes[quarter : 2 * quarter]), np.mean(megabytes[-quarter:])
    return {
        "seconds": seconds,
        "clients": clients,
        "swaps": swaps,
        "answers": dict(load.counts),
        "wrong": load.wrong[:10],
        "megabytes": {"early": round(float(early), 1), "late": round(float(late), 1)},
        "left_over_requests": _left_over(metrics),
        "version": info["version"],
        "holds": not load.wrong and bool(late <= max(1.1 * early, early + 50.0)),
    }


def _left_over(metrics: str) -> int:
    """Return how many requests the server still counts as under way, the scrape less."""
    line = next(line for line in metrics.splitlines() if line.startswith("dtpf_ongoing"))
    return int(float(line.split()[1])) - 1


def _disturb(
    seconds: float, swaps: int, published: Published, root: Path, process: psutil.Process
) -> list[float]:
    """Change the model, take the storage away for a while, and measure memory meanwhile."""
    begin = time.monotonic()
    megabytes, done, away = [], 0, root.with_name("away")
    while (elapsed := time.monotonic() - begin) < seconds:
        megabytes.append(process.memory_info().rss / 2**20)
        is_away = 0.45 * seconds < elapsed < 0.55 * seconds
        if is_away and root.exists():
            root.rename(away)
        if not is_away and away.exists():
            away.rename(root)
        if not is_away and elapsed > (done + 1) * seconds / (swaps + 1):
            done += 1
            published.publish(done)
        time.sleep(min(1.0, seconds / (4 * swaps + 40)))
    if away.exists():
        away.rename(root)
    return megabytes


def main() -> None:
    """Parse, run, print; exit code 1 where it does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--swaps", type=int, default=50)
    options = parser.parse_args()
    report = soak(options.seconds, options.clients, options.swaps)
    print(json.dumps(report, indent=2) if options.json else _as_lines(report))
    sys.exit(0 if report["holds"] else 1)


def _as_lines(report: dict) -> str:
    return "\n".join(f"{name}: {value}" for name, value in report.items())


if __name__ == "__main__":
    main()
