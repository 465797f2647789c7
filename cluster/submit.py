"""`ray job submit` that tells a lost cluster from a failed job.

    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=... RAY_API_SERVER_ADDRESS=http://head:8265
    python cluster/submit.py -- python jobs/pipeline.py --store s3://...

With the head ends the driver of the job, and Ray's own command with a stack trace at best. This one
says within a minute what is needed. `--again` waits for the head and submits the job once more,
which goes on where it was. Options of `ray job submit` may stand before the `--`.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

from processes import RAY, ClusterError

ADDRESS = "RAY_API_SERVER_ADDRESS"
POLL_SECONDS = 5.0
# A head that does not answer as often in a row is gone; one answer may be late under load.
MISSES = 6
LOST = 3
_REMEDY = (
    "error: the head at {dashboard} does not answer, and the job's driver runs on it. Start it "
    "again (cluster/node.py head); the same command then goes on: finished stages are not repeated."
)


def submit(entrypoint: Sequence[str], dashboard: str, options: Sequence[str] = ()) -> int:
    """Run a job and show its output.

    Returns:
        The exit code of `ray job submit`; `LOST` if the head went away meanwhile.
    """
    process = subprocess.Popen([*RAY, "job", "submit", *options, "--", *entrypoint])
    misses = 0
    while misses < MISSES:
        try:
            code = process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            misses = 0 if answers(dashboard) else misses + 1
            continue
        return code if code == 0 or answers(dashboard) else LOST
    process.send_signal(signal.SIGINT)
    process.wait()
    return LOST


def answers(dashboard: str) -> bool:
    """Say whether a head is there: any HTTP answer, also one that asks for a token."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"{dashboard}/api/version", timeout=POLL_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _dashboard(environment: Mapping[str, str]) -> str:
    address = environment.get(ADDRESS, "").rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ClusterError(f"{ADDRESS} is {address!r}; want the head's, as in http://10.0.0.1:8265")
    return address


def _wait_for(dashboard: str) -> None:
    while not answers(dashboard):
        time.sleep(POLL_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit, and again if wanted; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--again", action="store_true", help="after a lost head, once it is back")
    parser.add_argument("entrypoint", nargs=argparse.REMAINDER, help="[options] -- command")
    given = parser.parse_args(arguments)
    options, entrypoint = _split(given.entrypoint)
    try:
        dashboard = _dashboard(os.environ)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    while (code := submit(entrypoint, dashboard, options)) == LOST:
        print(_REMEDY.format(dashboard=dashboard), file=sys.stderr, flush=True)
        if not given.again:
            break
        _wait_for(dashboard)
    return code


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Part Ray's options from the job's command."""
    place = words.index("--") if "--" in words else -1
    return words[: max(place, 0)], words[place + 1 :]


if __name__ == "__main__":
    sys.exit(main())
