"""Bearer tokens: who may use the endpoint, and how much.

The file holds digests, never tokens. It is read again when it changes; a file that has become
unreadable or wrong leaves the last good one in force, so a slip neither locks everybody out nor
opens the door.
"""

import hashlib
import json
import logging
import os
import secrets
import threading
from pathlib import Path

from pydantic import Field

from dtpf.core.config import Config
from dtpf.core.errors import UserError

_logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


class Token(Config):
    """One token.

    Attributes:
        name: who uses it; shown in the log. Not secret.
        sha256: digest of the token, 64 hex digits.
        max_body_bytes: largest body of its requests; None leaves the endpoint's own limit.
        requests_per_minute: how many fusions each replica answers it a minute; None is unlimited.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    max_body_bytes: int | None = Field(None, ge=1)
    requests_per_minute: int | None = Field(None, ge=1)


class TokenDocument(Config):
    """The tokens file."""

    tokens: tuple[Token, ...]


def digest(token: str) -> str:
    """Return the sha256 of a token.

    Tokens are 256 random bits, so a plain digest is as good as a slow one.
    """
    return hashlib.sha256(token.encode()).hexdigest()


class TokenFile:
    """The tokens in force: those of the file as it is now."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file; UserError if it cannot be read or used."""
        self._path = Path(path)
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._by_digest = self._read()

    def find(self, token: str) -> Token | None:
        """Return what belongs to a token; None for an unknown one."""
        with self._lock:
            self._refresh()
            return self._by_digest.get(digest(token))

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._by_digest = self._read()
                _logger.info("%s: %d tokens in force", self._path, len(self._by_digest))
        except UserError as error:
            if self._stamp != (0, 0, 0):
                _logger.error("the last good tokens stay in force: %s", error)
            self._stamp = self._stamp if self._path.exists() else (0, 0, 0)

    def _look(self) -> Stamp:
        try:
            status = self._path.stat()
        except OSError as error:
            raise UserError(f"{self._path}: {error.strerror}; `dtpf token` writes it") from None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> dict[str, Token]:
        return {token.sha256: token for token in _parse(self._path).tokens}


def add_token(
    path: Path,
    name: str,
    max_body_bytes: int | None = None,
    requests_per_minute: int | None = None,
) -> str:
    """Make a token, add its digest to the file (made if missing), and return the token.

    A name may have several tokens: add the new one, hand it out, then remove the old.
    """
    secret = secrets.token_urlsafe(32)
    fields = {
        "name": name,
        "sha256": digest(secret),
        "max_body_bytes": max_body_bytes,
        "requests_per_minute": requests_per_minute,
    }
    present = _parse(path).tokens if path.exists() else ()
    _write(path, (*present, Token.parse(fields, f"token {name}")))
    return secret


def remove_tokens(path: Path, name: str, keep_newest: bool = False) -> int:
    """Take the tokens of a name out of the file; returns how many there were."""
    present = _parse(path).tokens
    doomed = [token for token in present if token.name == name]
    if keep_newest:
        doomed = doomed[:-1]
    _write(path, tuple(token for token in present if token not in doomed))
    return len(doomed)


def _parse(path: Path) -> TokenDocument:
    try:
        return TokenDocument.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `dtpf token` writes it") from None


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    """Replace the file in one step: a server may read it at any moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    document = TokenDocument(tokens=tokens).as_dict()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "w") as sink:
        sink.write(json.dumps(document, indent=2) + "\n")
    temporary.replace(path)
