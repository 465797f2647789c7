"""Shared memory, disk and open files."""

import pytest

from dtpf.doctor.resources import GIB, check_disk, check_open_files, check_shared_memory


def disk(total: int, used: int, free: int):
    return lambda path: (total, used, free)


@pytest.mark.parametrize(
    ("total", "status"), [(64 * 2**20, "fail"), (2 * GIB, "warn"), (16 * GIB, "pass")]
)
def test_shared_memory_by_its_size(tmp_path, total, status):
    found = check_shared_memory(str(tmp_path), disk(total, 0, total))
    assert found.status == status
    assert bool(found.remedy) == (status != "pass")


def test_a_machine_without_shared_memory_is_warned_of(tmp_path):
    assert check_shared_memory(str(tmp_path / "none")).status == "warn"


@pytest.mark.parametrize(
    ("used", "free", "status"),
    [(10, 90, "pass"), (90, 10, "warn"), (96, 4, "fail"), (960, 40, "fail")],
)
def test_space_by_what_is_free_and_by_rays_limit(tmp_path, used, free, status):
    usage = disk((used + free) * GIB, used * GIB, free * GIB)
    assert check_disk(tmp_path, slowest=0, usage=usage)[0].status == status


def test_the_speed_is_measured_and_nothing_is_left(tmp_path):
    space, speed = check_disk(tmp_path / "not/yet/there", fewest_bytes=0, slowest=1)
    assert speed.status == "pass"
    assert str(tmp_path) in space.found
    assert check_disk(tmp_path, slowest=1e15)[1].status == "warn"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_failure():
    found = check_disk("/proc", fewest_bytes=0)[1]  # not even root makes files there
    assert found.status == "fail"
    assert "/proc" in found.found


@pytest.mark.parametrize(
    ("limit", "status"), [(256, "fail"), (4096, "warn"), (65_536, "pass"), (-1, "pass")]
)
def test_open_files_by_their_limit(limit, status):
    assert check_open_files(limit).status == status


def test_the_limit_of_this_process_is_read():
    assert "at a time" in check_open_files().found or "no limit" in check_open_files().found
