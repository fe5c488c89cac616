import errno
import fcntl
import os
import re
import socket

import pytest

from histo.errors import ArchiveError
from histo.owning import owned


def test_a_second_run_is_refused_with_the_owner(slides, tmp_path, colour_model, run):
    out = tmp_path / "out"
    out.mkdir()
    with open(out / ".lock", "w") as lock:
        lock.write("process 4242 on elsewhere")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArchiveError, match="process 4242 on elsewhere"):
            run([slides], out, colour_model)
    run([slides / "a.svs"], out, colour_model)


def test_an_output_folder_that_cannot_be_made_is_refused(slides, tmp_path, colour_model, run):
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="cannot be written"):
        run([slides], tmp_path / "file" / "out", colour_model)


def test_a_folder_is_held_by_one_process_whose_name_it_tells(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").write_text("process 4242 on a machine with a long name of before")
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    with owned(out), pytest.raises(ArchiveError, match=re.escape(f"is in use by {owner}; wait for it or")):
        owned(out).__enter__()


def test_a_folder_is_made_with_all_that_it_lies_in(tmp_path):
    with owned(tmp_path / "not" / "there"):
        assert (tmp_path / "not" / "there").is_dir()


def test_a_disk_without_locks_is_told_in_one_sentence(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(ArchiveError, match="cannot be written"):
        owned(tmp_path).__enter__()
