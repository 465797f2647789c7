"""What the measurements of the endpoint share: a server in a process of its own, and pairs."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np

from dtpf.core.machine import free_port
from dtpf.data.images import encode_png
from dtpf.data.scenes.render import render_scene
from dtpf.serving.config import ServeConfig

_PROGRAM = """
import json, sys
from dtpf.serving.config import ServeConfig
from dtpf.serving.local import serve_local
serve_local(json.loads(sys.argv[1]), ServeConfig.parse(sys.argv[2], "settings"))
"""


@contextmanager
def endpoint(
    bundles: dict[str, str], log: str | None = None, **settings: object
) -> Iterator[tuple[str, int]]:
    """Run the endpoint under uvicorn; yields its URL and the id of its process."""
    document = {"port": free_port(), "log_requests": False, **settings}
    config = ServeConfig.parse(document, "settings")
    arguments = [json.dumps(bundles), json.dumps(config.as_dict())]
    with open(log or "/dev/null", "w") as sink:
        command = [sys.executable, "-c", _PROGRAM, *arguments]
        process = subprocess.Popen(command, stderr=sink)
        url = f"http://127.0.0.1:{config.port}"
        try:
            _wait(url, process)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"the endpoint ended with {process.returncode}")
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the endpoint did not come up")


def png_pair(seed: int, height: int, width: int) -> dict[str, bytes]:
    """Return a synthetic road scene as two PNG files."""
    scene = render_scene(np.random.default_rng(seed), height, width, "dusk")
    return {"visible": encode_png(scene.visible), "infrared": encode_png(scene.infrared)}
