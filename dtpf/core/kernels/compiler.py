"""Compiles the kernels for this machine's processor, once, and keeps the library."""

import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)

_FLAGS = (
    *("-x", "c++", "-std=c++17", "-O3", "-march=native", "-fPIC", "-shared"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-exceptions", "-fno-rtti"),
)
_TIMEOUT = 120
_APPLE = ("c++",) if sys.platform == "darwin" else ()


def sources() -> list[Path]:
    """Return the files that the library is made of, headers last."""
    here = Path(__file__).parent
    return sorted(here.glob("*.cpp")) + sorted(here.glob("*.h"))


def compilers() -> list[list[str]]:
    """Return the commands of the C++ compilers that are at hand, the first choice first.

    `CXX` if it is set; else clang, then that of the package `ziglang`. GCC is as good with AVX-512,
    and too slow without: it splits the kernels' vectors of 16 numbers through memory.
    """
    if chosen := os.environ.get("CXX", "").strip():
        try:
            return [shlex.split(chosen)]
        except ValueError:  # an open quote: not a command line, perhaps a path
            return [[chosen]]
    # On macOS, c++ is clang.
    clang = [path for name in ("clang++", *_APPLE) if (path := shutil.which(name))]
    found = [[path] for path in clang]
    if importlib.util.find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc"])
    if "avx512f" in _processor() and (path := shutil.which("g++")):
        found.append([path])
    return found


def compiled(cache: Path | None = None) -> Path | None:
    """Return the library for this processor, compiled now if it is not there yet.

    Args:
        cache: folder of compiled libraries; by default `dtpf` in the user's cache folder.

    Returns:
        Its path; None, with a warning in the log, where no compiler succeeds.
    """
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dtpf"
    name = f"kernels-{_fingerprint()}.so"
    reasons = []
    try:
        folder = _own(folder.expanduser())
        if (folder / name).exists():
            return folder / name
        if not os.access(folder, os.W_OK):
            folder = _private()
        _log.info("compiling kernels for this processor, once, into %s", folder)
        for command in compilers():
            reason = _compile(command, folder / name)
            if reason is None:
                return folder / name
            reasons.append(reason)
    except (OSError, RuntimeError) as error:  # a full disk, no home
        reasons.append(str(error))
    _log.warning(
        "Networks run two to four times slower than this processor could: %s."
        " Install clang, or `pip install 'dtpf[compiler]'`",
        "; ".join(reasons) or "no C++ compiler was found for their kernels",
    )
    return None


def _own(folder: Path) -> Path:
    """Return the folder, made if it is not there; another if it is not this user's alone to write.

    What lies in it is loaded into the process, so nobody else may have put it there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return _private()
    owner = folder.stat()
    foreign = hasattr(os, "getuid") and owner.st_uid != os.getuid()
    return _private() if foreign or owner.st_mode & stat.S_IWOTH else folder


def _private() -> Path:
    """Return a new folder that lasts as long as the system likes."""
    return Path(tempfile.mkdtemp(prefix="dtpf-kernels-"))


def _compile(command: list[str], library: Path) -> str | None:
    """Compile to `library`, which appears complete or not at all; return what went wrong."""
    descriptor, unfinished = tempfile.mkstemp(dir=library.parent, suffix=".part")
    os.close(descriptor)
    files = [str(path) for path in sources() if path.suffix == ".cpp"]
    call = [*command, *_FLAGS, "-o", unfinished, *files]
    try:
        done = subprocess.run(
            call, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
        )
        if done.returncode == 0:
            os.replace(unfinished, library)
            return None
        said = next((line for line in done.stderr.splitlines() if "error" in line), "")
        return f"{command[0]} ended with {done.returncode} {said}".strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _fingerprint() -> str:
    """Return what names a library: its sources, how it is compiled, and for which processor."""
    digest = hashlib.sha256(" ".join([*_FLAGS, os.environ.get("CXX", ""), _processor()]).encode())
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return what tells processors apart that need different machine code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return " ".join([platform.machine(), platform.processor(), *sorted(kinds)])
