"""Files are whole or absent."""

import errno
import os
import stat
from pathlib import Path

import pytest

from histo.files import path_text, sync, whole, write_text


def test_a_disk_that_syncs_files_alone_is_no_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: on some network disks, which refuse it for folders, nothing could be written at all."""

    def files_alone(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("histo.files.os.fsync", files_alone)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"

    def fails(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("histo.files.os.fsync", fails)
    with pytest.raises(OSError, match="Input/output"):
        sync(tmp_path)


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "µ ≥ 😀\n")
    assert (tmp_path / "a.txt").read_bytes() == "µ ≥ 😀\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_at_the_path_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with whole(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_content_reaches_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    synced = []
    fsync = os.fsync

    def spy(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), path.read_text()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    write_text(path, "new")
    (first, before), (second, after) = synced
    assert (Path(first).parent, before) == (tmp_path, "old")
    assert (second, after) == (str(tmp_path), "new")


def test_a_failed_rename_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "full").touch()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == ["a"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "a.txt"):
        pass
    assert not os.listdir(tmp_path)


def test_a_path_of_any_bytes_becomes_text_that_can_be_stored(tmp_path: Path) -> None:
    assert path_text("/a/µ.svs") == "/a/µ.svs"
    assert path_text(os.fsdecode(b"n\xff\xfe.svs")) == "n\\xff\\xfe.svs"
    path_text(os.fsdecode(bytes(range(1, 256)))).encode("utf-8")


def test_text_with_bytes_that_are_not_utf8_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "n\udcff")
    assert (tmp_path / "a").read_bytes() == b"n\xff"


def test_syncing_leaves_no_handle_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        sync(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
