"""Zip archives of pairs: read from clients nobody knows, written as a stream.

An archive holds `visible/NAME.*` and `infrared/NAME.*`; pairs share NAME. Nothing is ever
extracted to disk, and what a member unpacks to is counted while it is read: headers may lie.
"""

import io
import json
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from dtpf.core.records import MODALITIES
from dtpf.serving.problems import InputError

FIELD = "archive"
REPORT = "report.json"

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 2**20
_MEMBER = re.compile(r"(visible|infrared)/([^/\\\x00-\x1f:*?\"<>|]{1,150})\.([A-Za-z0-9]{1,5})")


@dataclass(frozen=True)
class Members:
    """The two members of one pair; None where one is missing."""

    name: str
    visible: zipfile.ZipInfo | None
    infrared: zipfile.ZipInfo | None


class PairArchive:
    """An archive whose directory has been checked; members are read on demand."""

    def __init__(self, source: BinaryIO, max_pairs: int, max_bytes: int) -> None:
        """Open an archive.

        Args:
            source: the file; read from while pairs are.
            max_pairs: more are refused.
            max_bytes: largest sum of all members, unpacked.

        Raises:
            InputError: not a zip file, unusable names, encrypted, too much in it, or no pair.
        """
        try:
            self._zip = zipfile.ZipFile(source)
        except Exception as error:  # damaged directories raise nearly anything
            raise InputError(FIELD, f"not a zip file ({_one_line(error)})") from None
        self._left = max_bytes
        entries = [info for info in self._zip.infolist() if not info.is_dir()]
        if len(entries) > 2 * max_pairs:
            raise InputError(FIELD, f"{len(entries)} files, the limit is {max_pairs} pairs")
        total = sum(info.file_size for info in entries)
        if total > max_bytes:
            raise InputError(FIELD, f"unpacks to {total} bytes, the limit is {max_bytes}")
        self.pairs = _paired(entries)
        if not self.pairs:
            raise InputError(FIELD, "no pairs; expected visible/NAME.png and infrared/NAME.png")

    def read(self, info: zipfile.ZipInfo, field: str) -> bytes:
        """Return a member's bytes; InputError naming `field` where it is damaged or too large."""
        parts = []
        try:
            with self._zip.open(info) as member:
                while chunk := member.read(_CHUNK):
                    parts.append(chunk)
                    self._left -= len(chunk)
                    if self._left < 0:
                        raise InputError(FIELD, "unpacks to more than its directory says")
        except InputError:
            raise
        except Exception as error:
            raise InputError(field, f"damaged in the archive ({_one_line(error)})") from None
        return b"".join(parts)


def _paired(entries: list[zipfile.ZipInfo]) -> list[Members]:
    found: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in entries:
        modality, name = _judged(info)
        members = found.setdefault(name, {})
        if modality in members:
            raise InputError(FIELD, f"{info.filename[:100]!r}: a second {modality} of that name")
        members[modality] = info
    return [Members(name, *(members.get(m) for m in MODALITIES)) for name, members in found.items()]


def _judged(info: zipfile.ZipInfo) -> tuple[str, str]:
    """Return modality and name of a member that may be read."""
    shown = repr(info.filename[:100])
    match = _MEMBER.fullmatch(info.filename)
    if match is None or match[2].startswith(".") or not match[2].isprintable():
        raise InputError(FIELD, f"{shown}: expected visible/NAME.png or infrared/NAME.png")
    if info.flag_bits & 0x1:
        raise InputError(FIELD, f"{shown} is encrypted")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InputError(FIELD, f"{shown} is a link")
    if info.compress_type not in _METHODS:
        raise InputError(FIELD, f"{shown}: compression {info.compress_type}; use deflate or store")
    return match[1], match[2]


class ZipStream:
    """Writes a zip file piece by piece; nothing but the present member is held."""

    def __init__(self) -> None:
        self._sink = _Pipe()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)

    def add(self, name: str, data: bytes) -> bytes:
        """Add a member; returns the bytes to send."""
        self._zip.writestr(name, data)
        return self._sink.taken()

    def end(self, report: list[dict[str, Any]]) -> Iterator[bytes]:
        """Add the report and the directory."""
        yield self.add(REPORT, (json.dumps(report, indent=2) + "\n").encode())
        self._zip.close()
        yield self._sink.taken()


class _Pipe(io.RawIOBase):
    """A sink that cannot seek, as a network connection; `zipfile` then writes forward only."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
