import hashlib
import os
from pathlib import Path

from histo.archive.listing import absolute, holds_slides, list_slides, name_slides
from histo.data.slide_file import WHOLE_SLIDE


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_folder_gives_its_slides_in_order_and_nothing_else(tmp_path):
    touch(tmp_path, "b.SVS", "a.tif", "deep/er/c.ndpi", "notes.txt", "a.geojson", "d.mask.tif")
    assert [p.name for p in list_slides([tmp_path])] == ["a.tif", "b.SVS", "c.ndpi"]


def test_results_of_an_earlier_run_are_no_slides(tmp_path):
    touch(tmp_path, "a.svs", "out/ledger.sqlite", "out/slides/a/heatmap.ome.tif")
    (tmp_path / "out/slides/a/result.json").write_text('{\n "slide_id": "a"')
    assert [p.name for p in list_slides([tmp_path])] == ["a.svs"]


def test_slides_below_a_ledger_are_slides(tmp_path):
    """Regression: a ledger that a refused run had left above a folder `slides` hid all of its slides."""
    touch(tmp_path, "ledger.sqlite", "slides/case/a.svs", "slides/case2/b.svs", "slides/case2/result.json")
    assert [p.name for p in list_slides([tmp_path])] == ["a.svs", "b.svs"]


def test_what_is_not_there_is_kept_and_what_is_named_twice_counts_once(tmp_path):
    touch(tmp_path, "a.svs")
    (tmp_path / "empty").mkdir()
    named = [tmp_path / "a.svs", tmp_path, tmp_path / "gone.svs", tmp_path / "empty"]
    assert [p.name for p in list_slides(named)] == ["a.svs", "gone.svs", "empty"]


def test_what_begins_with_a_dot_is_no_slide_unless_it_is_named(tmp_path):
    """Regression: a Mac's `._x.svs` became slide x, and the real one got another name."""
    touch(tmp_path, "x.svs", "._x.svs", ".hidden/y.svs")
    assert [p.name for p in list_slides([tmp_path])] == ["x.svs"]
    assert [p.name for p in list_slides([tmp_path / "._x.svs"])] == ["._x.svs"]


def test_paths_are_absolute_however_they_were_typed(tmp_path, monkeypatch):
    touch(tmp_path, "a/x.svs")
    monkeypatch.chdir(tmp_path)
    assert list_slides([Path("a"), Path("a/../a/x.svs"), Path("gone.svs")]) == [
        tmp_path / "a" / "x.svs",
        tmp_path / "gone.svs",
    ]


def test_stems_that_collide_get_a_hash_and_no_file_is_read_for_it(tmp_path, monkeypatch):
    """Regression: all slides of one name were read whole before the first was examined, and again at every call."""
    touch(tmp_path, "x/s.svs", "y/s.svs", "y/S.tif")
    monkeypatch.setattr(hashlib, "file_digest", None)
    slides = list_slides([tmp_path])
    names = name_slides(slides, {})
    assert next(iter(names.values())) == "s"
    assert len({n.casefold() for n in names.values()}) == 3
    assert all(n.lower().startswith("s-") for n in list(names.values())[1:])


def test_known_slides_keep_their_ids_and_odd_names_become_plain(tmp_path):
    touch(tmp_path, "s.svs", "-rf *; $(x).svs", "-..svs")
    known = {absolute(tmp_path / "s.svs"): "old-id", "/elsewhere/s.svs": "s"}
    names = name_slides(list_slides([tmp_path]), known)
    assert names[tmp_path / "s.svs"] == "old-id"
    assert names[tmp_path / "-rf *; $(x).svs"] == "rf_x"
    assert names[tmp_path / "-..svs"] == "slide"


def test_a_long_name_in_any_script_leaves_room_for_what_is_added(tmp_path):
    """Regression: two slides named with 83 kanji stopped the run, for temporary names were longer than 255 bytes."""
    slides = [tmp_path / folder / ("骨" * 83 + ".svs") for folder in "ab"]
    for slide in slides:
        slide.parent.mkdir()
        slide.write_text(str(slide))
    ids = list(name_slides(slides, {}).values())
    assert len(set(ids)) == 2
    assert all(len(f".histo-tmp-{one}~gone0".encode()) <= 255 and set(one) <= set("骨-0123456789abcdef") for one in ids)


def test_the_same_content_under_colliding_names_still_gets_two_ids(tmp_path):
    for name in ("x/s.svs", "y/s.svs", "z/s.svs"):
        touch(tmp_path, name)
        (tmp_path / name).write_bytes(b"same")
    assert len(set(name_slides(list_slides([tmp_path]), {}).values())) == 3


def test_linked_folders_are_entered_once(tmp_path):
    real, inside = tmp_path / "real", tmp_path / "in"
    for folder in (real, inside):
        folder.mkdir()
    (real / "a.svs").touch()
    (inside / "b.svs").touch()
    (inside / "link").symlink_to(real)
    (real / "round").symlink_to(inside)
    assert [p.name for p in list_slides([inside])] == ["b.svs", "a.svs"]
    (tmp_path / "a_link").symlink_to(real)
    assert list_slides([tmp_path]) == [inside / "b.svs", real / "a.svs"]


def test_a_link_beside_its_slide_is_not_another(tmp_path):
    """Regression: both were examined. A link to what lies elsewhere is the only way to that slide."""
    touch(tmp_path, "in/case/b.svs", "elsewhere/c.svs")
    (tmp_path / "in" / "a.svs").symlink_to(tmp_path / "in" / "case" / "b.svs")
    (tmp_path / "in" / "c.svs").symlink_to(tmp_path / "elsewhere" / "c.svs")
    assert list_slides([tmp_path / "in"]) == [tmp_path / "in" / "c.svs", tmp_path / "in" / "case" / "b.svs"]
    assert list_slides([tmp_path / "in" / "a.svs"]) == [tmp_path / "in" / "a.svs"]


def test_links_to_nothing_are_slides_that_are_not_found(tmp_path):
    """Regression: a link to the folder of a case on a disk that was away was passed over without a word."""
    touch(tmp_path, "a.svs")
    for name in ("case7", ".hidden", "b.svs", "c.mask.tif", "notes.txt"):
        (tmp_path / name).symlink_to(tmp_path / "away" / name)
    assert [p.name for p in list_slides([tmp_path])] == ["a.svs", "b.svs", "case7"]


def test_a_series_counts_once_however_its_files_are_named(tmp_path, monkeypatch):
    # Bug: files of one DICOM slide that were named one by one became a slide each.
    monkeypatch.setattr("histo.archive.listing.series_of", lambda path: path.stem[0] if path.suffix == ".dcm" else None)
    files = [tmp_path / name for name in ("a1.dcm", "a2.dcm", "b1.dcm", "c.svs")]
    for file in files:
        file.touch()
    assert list_slides(files) == list_slides([tmp_path]) == list_slides([files[0], tmp_path]) == [
        files[0], files[2], files[3],
    ]  # fmt: skip


def test_one_series_in_two_folders_is_two_slides(tmp_path, monkeypatch):
    """A copy may be damaged where the other is whole, and has a folder and a diagnosis of its own."""
    monkeypatch.setattr("histo.archive.listing.series_of", lambda path: "1.2.3")
    touch(tmp_path, "x/a.dcm", "x/b.dcm", "y/a.dcm")
    assert list_slides([tmp_path]) == [tmp_path / "x" / "a.dcm", tmp_path / "y" / "a.dcm"]


def test_dicom_without_a_suffix_is_a_slide(tmp_path):
    touch(tmp_path, "notes", "a.svs")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + WHOLE_SLIDE)
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert [p.name for p in list_slides([tmp_path])] == ["IM0001", "a.svs"]


def test_a_folder_that_may_not_be_entered_is_kept(tmp_path, monkeypatch):
    """It becomes a failed slide, not silence."""
    touch(tmp_path, "a.svs", "closed/b.svs")
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [p.name for p in list_slides([tmp_path])] == ["a.svs", "closed"]


def test_the_id_of_a_slide_of_before_is_given_to_no_other(tmp_path):
    touch(tmp_path, "s.svs")
    names = name_slides(list_slides([tmp_path]), {"/elsewhere/S.svs": "S"})
    assert names[tmp_path / "s.svs"].startswith("s-")


def test_a_folder_that_is_called_like_a_slide_is_none(tmp_path):
    (tmp_path / "a.svs").mkdir()
    assert holds_slides(tmp_path) is None
    touch(tmp_path, "b.svs")
    assert holds_slides(tmp_path) == tmp_path / "b.svs"
