"""Ask the Ray node of this container whether it works: exit code 0 if so, for HEALTHCHECK.

The agent of each node listens on loopback too, and answers this without a token.
"""

import os
import sys
import urllib.request

DEFAULT_PORT = "52365"


def main() -> int:
    """Return 0 if raylet, and on the head GCS, answer."""
    port = os.environ.get("DTPF_AGENT_PORT", DEFAULT_PORT)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/api/healthz", timeout=8) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(f"the Ray node does not answer: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
