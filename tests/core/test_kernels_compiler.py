"""Compiling the kernels: which compiler, once, never half a library, and going on without."""

import ctypes
import logging
import shutil
import threading

import pytest

from dtpf.core.kernels.compiler import compiled, compilers


@pytest.fixture
def one_function(tmp_path_factory, monkeypatch):
    """A source that compiles faster than the kernels do."""
    source = tmp_path_factory.mktemp("sources") / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }\n')
    monkeypatch.setattr("dtpf.core.kernels.compiler.sources", lambda: [source])
    return source


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_compiles_once(tmp_path, one_function, monkeypatch):
    library = compiled(tmp_path)
    assert library is not None
    assert [path.name for path in tmp_path.iterdir()] == [library.name]
    changed = library.stat().st_mtime_ns
    monkeypatch.setattr("dtpf.core.kernels.compiler.compilers", pytest.fail)
    assert compiled(tmp_path) == library
    assert library.stat().st_mtime_ns == changed


def test_other_sources_are_another_library(tmp_path, one_function):
    first = compiled(tmp_path)
    assert first is not None
    assert ctypes.CDLL(str(first)).one() == 1
    one_function.write_text('extern "C" int one() { return 2; }\n')
    second = compiled(tmp_path)
    assert second not in (None, first)
    assert ctypes.CDLL(str(second)).one() == 2


def test_every_compiler_at_hand_compiles_them(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    commands = compilers()
    assert any("ziglang" in command for command in commands)
    for number, command in enumerate(commands):
        monkeypatch.setattr(
            "dtpf.core.kernels.compiler.compilers", lambda command=command: [command]
        )
        assert compiled(tmp_path / str(number)) is not None, command


def test_gcc_only_where_its_code_is_fast(tmp_path, monkeypatch):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for flags, taken in (("avx2 avx512f", True), ("avx2", False)):
        monkeypatch.setattr("dtpf.core.kernels.compiler._processor", lambda flags=flags: flags)
        assert ([str(compiler)] in compilers()) == taken


def test_without_a_compiler(tmp_path, no_compiler, caplog):
    assert compilers() == []
    with caplog.at_level(logging.WARNING):
        assert compiled(tmp_path) is None
    assert "no C++ compiler was found" in caplog.text
    assert "pip install 'dtpf[compiler]'" in caplog.text


def test_a_compiler_that_fails(tmp_path, monkeypatch, caplog):
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'fatal error: no such header' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with caplog.at_level(logging.WARNING):
        assert compiled(tmp_path / "cache") is None
    assert "broken-cc ended with 3 fatal error: no such header" in caplog.text
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_compiler_that_is_not_there(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "/nowhere/c++ -pipe")
    with caplog.at_level(logging.WARNING):
        assert compiled(tmp_path) is None
    assert "/nowhere/c++" in caplog.text


def test_the_next_compiler_is_tried(tmp_path, one_function, monkeypatch):
    commands = [["/nowhere/c++"], *compilers()]
    monkeypatch.setattr("dtpf.core.kernels.compiler.compilers", lambda: commands)
    assert compiled(tmp_path) is not None


def test_the_first_compiler_that_works_is_the_last(tmp_path, one_function, monkeypatch):
    first, *_ = compilers()
    second = tmp_path / "second"
    second.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    second.chmod(0o755)
    commands = [first, [str(second)]]
    monkeypatch.setattr("dtpf.core.kernels.compiler.compilers", lambda: commands)
    assert compiled(tmp_path / "cache") is not None
    assert not (tmp_path / "called").exists()


def test_a_cache_that_others_may_write(tmp_path, one_function):
    tmp_path.chmod(0o777)
    library = compiled(tmp_path)
    assert library is not None
    assert library.parent != tmp_path
    shutil.rmtree(library.parent)


def test_a_ready_library_in_a_cache_that_cannot_be_written(tmp_path, one_function, monkeypatch):
    library = compiled(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert compiled(tmp_path) == library


def test_a_full_disk(tmp_path, one_function, monkeypatch, caplog):
    def full(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    assert compiled(tmp_path) is None
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("chosen", ["'open quote", "   "])
def test_a_compiler_that_is_no_command(tmp_path, one_function, monkeypatch, chosen):
    monkeypatch.setenv("CXX", chosen)
    assert (compiled(tmp_path) is not None) == (not chosen.strip())


def test_a_cache_that_cannot_be_made(tmp_path, one_function):
    (tmp_path / "file").write_text("")
    library = compiled(tmp_path / "file" / "cache")
    assert library is not None
    assert tmp_path not in library.parents
    shutil.rmtree(library.parent)


def test_processes_that_compile_at_once_do_not_disturb_each_other(tmp_path, one_function):
    found = []
    threads = [threading.Thread(target=lambda: found.append(compiled(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert list(tmp_path.iterdir()) == [found[0]]
