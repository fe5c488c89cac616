import fcntl

import pytest

from histo.errors import ArchiveError


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
