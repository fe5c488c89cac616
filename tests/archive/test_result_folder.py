"""Folders of slides that change places: nothing of the user's is lost, and nothing of histo's stays behind."""

import errno
import json
import os
from pathlib import Path

import pytest

from histo.archive.result_folder import SEAL, clear, is_of_others, retire, swap_in

RESULT = '{\n "slide_id": "a"'


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def test_what_is_carried_over_of_the_user_s_was_not_edited(tmp_path):
    final = folder(tmp_path / "a", result_json=RESULT, report_html="old", notes_txt="mine")
    old = swap_in(folder(tmp_path / ".histo-tmp-a", result_json=RESULT, report_html="new"), final)
    (final / "notes.txt").write_text("newer")
    assert old is not None
    assert retire(old, final) == []
    assert names(tmp_path) == ["a"]
    assert names(final) == [SEAL, "notes.edited.txt", "notes.txt", "report.html", "result.json"]
    assert (final / "notes.edited.txt").read_text() == "mine"


def test_a_report_in_a_folder_without_a_result_may_be_the_user_s(tmp_path):
    final, old = folder(tmp_path / "a"), folder(tmp_path / ".histo-tmp-a~old0", report_html="mine")
    for row in (None, "of the ledger"):
        assert retire(old, final, row) == [final / "report.edited.html"]
        assert (final / "report.edited.html").read_text() == "mine"
        (final / "report.edited.html").unlink()
        folder(old, report_html="mine")


def test_an_old_folder_that_cannot_be_emptied_waits(tmp_path, monkeypatch):
    final, old = folder(tmp_path / "a"), folder(tmp_path / ".histo-tmp-a~old0", result_json=RESULT, notes_txt="mine")

    def busy(*_):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", busy)
    assert retire(old, final) == []
    monkeypatch.undo()
    assert (old / "notes.txt").exists()
    clear(tmp_path)
    assert (final / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == ["a"]


def test_of_several_old_results_the_newest_is_put_back(tmp_path):
    for number in range(2):
        folder(tmp_path / f".histo-tmp-a~old{number}", result_json=RESULT, notes_txt=f"{number}")
    clear(tmp_path)
    assert (tmp_path / "a" / "notes.txt").read_text() == "1"
    assert (tmp_path / "a" / "notes.edited.txt").read_text() == "0"


def test_what_is_no_result_is_not_put_back_and_not_lost(tmp_path):
    """It would close the folder to every later run."""
    old = folder(tmp_path / ".histo-tmp-a~old0", notes_txt="mine")
    clear(tmp_path)
    assert names(tmp_path) == [old.name]
    assert names(old) == ["notes.txt"]


@pytest.mark.parametrize("name", [".histo-tmp-a upload", ".histo-tmp-a~older", ".histo-tmp-a~old1~"])
def test_what_only_begins_like_a_folder_of_histo_s_stays(name, tmp_path):
    folder(tmp_path / name, notes_txt="mine")
    clear(tmp_path)
    assert names(tmp_path) == [name]


def test_a_file_among_the_results_is_nobody_s_folder(tmp_path):
    (tmp_path / "Thumbs.db").touch()
    assert not is_of_others(tmp_path / "Thumbs.db")
    assert is_of_others(folder(tmp_path / "mine", notes_txt="mine"))
    assert not is_of_others(folder(tmp_path / "a", report_html="of a killed run"))
    (folder(tmp_path / "b") / SEAL).write_text(json.dumps({}))
    assert not is_of_others(tmp_path / "b")
