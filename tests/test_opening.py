"""What a slide is refused or failed for before and after its network, and when it counts as another file."""

import errno
import os
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from histo.errors import SlideFailed, SlideRefused
from histo.opening import Opened, check_areas, check_tissue, open_for, state_of
from histo.results import Areas
from histo.timing import Timings

RULE = SimpleNamespace(least_tissue_mm2=0.1, max_unreadable_share=0.25)
MODEL = SimpleNamespace(card=SimpleNamespace(rule=RULE))


def test_the_least_tissue_is_enough(tmp_path):
    check_tissue(0.1, MODEL, tmp_path)
    with pytest.raises(SlideRefused, match=r"shows 0\.0999 mm² of tissue and 0\.1 mm² is the least"):
        check_tissue(0.0999, MODEL, tmp_path)
    with pytest.raises(SlideRefused, match="shows no tissue and"):
        check_tissue(0.0, MODEL, tmp_path)


def test_a_share_of_all_tissue_may_be_unreadable(tmp_path):
    check_areas(Areas(4.0, 2.0, 1.0, 1.0), MODEL, tmp_path)
    with pytest.raises(SlideFailed, match=r"1\.001 of 4\.000 mm² of tissue cannot be read"):
        check_areas(Areas(4.0, 1.999, 1.001, 1.0), MODEL, tmp_path)


def test_what_the_screen_saw_is_tissue_to_judge_by_and_what_lies_under_ink_is_not(tmp_path):
    check_areas(Areas(1.0, 0.05, 0.0, 0.9, 0.05), MODEL, tmp_path)
    with pytest.raises(SlideRefused, match="tissue beside what looks like ink"):
        check_areas(Areas(1.0, 0.05, 0.0, 0.91, 0.04), MODEL, tmp_path)


def test_a_file_that_cannot_be_hashed_does_not_hide_what_was_wrong_before(tmp_path):
    hashing: Future[str] = Future()
    hashing.set_exception(SlideFailed("unreadable", "at its end"))
    refused = Opened(tmp_path, None, hashing, None, Timings(), found=SlideRefused("no_scale", "no scale"))
    assert refused.sha256 is None
    with pytest.raises(SlideRefused, match="no scale"):
        refused.laid  # noqa: B018  that it raises is the point


def test_a_file_is_another_when_it_was_replaced_or_written_to_within_the_same_second(tmp_path):
    slide, other = tmp_path / "a.svs", tmp_path / "b.svs"
    for path in (slide, other):
        path.write_bytes(b"abcd")
        os.utime(path, ns=(10**18, 10**18 + 10**6))
    before = state_of(slide)
    assert state_of(slide) == before
    os.utime(slide, ns=(10**18, 10**18 + 2 * 10**6))
    assert state_of(slide) != before
    os.replace(other, slide)
    assert state_of(slide) != before
    slide.unlink()
    assert state_of(slide) is None


def test_what_the_slide_s_disk_refuses_is_the_slide_s(painted, colour_model, monkeypatch):
    """Regression: any such error of one slide was taken for the output folder's and stopped the run."""

    def stale(slide):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("histo.opening.read_overview", stale)
    with open_for(painted, colour_model) as opened, pytest.raises(SlideFailed, match="Stale file handle") as caught:
        opened.laid  # noqa: B018  that it raises is the point
    assert caught.value.code == "unreadable"


def test_a_slide_of_several_files_is_another_when_one_of_them_is(tmp_path):
    slide, part = tmp_path / "a.mrxs", tmp_path / "a" / "Data0000.dat"
    part.parent.mkdir()
    for path in (slide, part):
        path.write_bytes(b"abcd")
    before = state_of(slide)
    part.write_bytes(b"abcde")
    assert state_of(slide) != before
