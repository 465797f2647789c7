"""Is the cluster closed to those without its token? Its ports run commands of whoever asks."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from dtpf.doctor.findings import Finding, Status, failed, passed, warned

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_OTHERS = 0o077
_OPEN = f"set {MODE}=token for `ray start` on every node, and restart the cluster"


def token_file(environment: Mapping[str, str]) -> Path:
    """Return where Ray looks for the token when it is not in the environment itself."""
    return Path(environment.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token").expanduser()


def token_of(environment: Mapping[str, str]) -> str | None:
    """Return the token as Ray reads it; None where there is none or it cannot be read."""
    if environment.get(TOKEN):
        return environment[TOKEN].strip()
    try:
        return token_file(environment).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def keyed_digest(environment: Mapping[str, str], key: bytes) -> str:
    """Return a digest by which nodes compare their tokens; without the key it says nothing."""
    token = token_of(environment)
    return hmac.new(key, token.encode(), hashlib.sha256).hexdigest() if token else "none"


def check_mode(environment: Mapping[str, str], unset: Status = "fail") -> Finding:
    """Ray 2.60 starts open clusters unless told otherwise; `unset` is what that is."""
    mode = environment.get(MODE)
    if mode == "token":
        return passed("token.mode", f"{MODE}=token")
    found = f"{MODE}={mode}" if mode else f"{MODE} is not set"
    status: Status = "fail" if mode else unset
    return Finding("token.mode", status, f"{found}: anyone may run commands here", _OPEN)


def check_token(environment: Mapping[str, str], missing: Status = "fail") -> Finding:
    """The token must be there, and its file for the owner's eyes alone."""
    if environment.get(TOKEN):
        remedy = f"keep it in a file of mode 0600 and name that with {TOKEN_PATH}"
        return warned("token.file", f"{TOKEN} is in the environment, for all to see there", remedy)
    path = token_file(environment)
    if token_of(environment) is None:
        found = f"{path} is missing, empty or not readable"
        remedy = "`ray get-auth-token --generate` makes one; copy it to every node, mode 0600"
        return Finding("token.file", missing, found, remedy)
    status = path.stat()
    if status.st_mode & _OTHERS:
        found = f"{path} has mode {status.st_mode & 0o777:04o}: others can read it"
        return failed("token.file", found, f"chmod 600 {path}; make a new token if others had it")
    if status.st_uid != os.getuid():
        found = f"{path} belongs to user {status.st_uid}, not to this one"
        return warned("token.file", found, f"chown it to user {os.getuid()}")
    return passed("token.file", f"{path}, readable by its owner alone")


def check_dashboard(address: str) -> Finding:
    """Ask the dashboard at HOST:PORT for its jobs, without the token."""
    return check_refused("token.dashboard", "GET", f"http://{address}/api/jobs/")


def check_agent(address: str) -> Finding:
    """Ask a node's agent at HOST:PORT to run a job that has no command, without the token."""
    return check_refused("token.agent", "POST", f"http://{address}/api/job_agent/jobs/")


def check_refused(name: str, method: str, url: str) -> Finding:
    """A request without a token must be answered with 401."""
    try:
        with httpx.Client(trust_env=False, timeout=10) as client:
            status = client.request(method, url, json=None if method == "GET" else {}).status_code
    except httpx.HTTPError as error:
        found = f"{url} does not answer ({type(error).__name__})"
        return warned(name, found, "see whether it runs, and whether a firewall is in between")
    if status in (401, 403):
        return passed(name, f"{url} refuses requests without the token ({status})")
    return failed(name, f"{url} hears requests without a token ({status})", _OPEN)
