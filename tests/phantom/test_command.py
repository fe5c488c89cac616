"""What `histo phantom` makes of its options."""

from pathlib import Path

import pytest

from histo.errors import ArchiveError, UsageError
from histo.phantom import cohort
from histo.phantom.cohort import Job
from histo.phantom.command import Options, make_phantoms, read_settings, spec_of


def run(folder: Path, options: Options, spec: Path | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    return make_phantoms(folder, options, spec, 1, lambda done, total: None, said.append), said


def test_one_slide_is_named_by_kind_and_seed_and_kept(tmp_path: Path) -> None:
    options = Options(kind="calcium", seed=3, size="1000x1100", set=("calcium.count=1",))
    ending, _ = run(tmp_path, options)
    made = tmp_path / "calcinosis_cutis_3.svs"
    assert str(made) in ending
    assert "calcinosis_cutis" in ending
    when = made.stat().st_mtime_ns
    assert "made before" in run(tmp_path, options)[0]
    assert made.stat().st_mtime_ns == when
    run(tmp_path, Options(kind="calcium", seed=3, size="1000x1100", no_lesions=True))
    assert (tmp_path / "calcinosis_cutis_3_twin.svs").is_file()
    assert not (tmp_path / "slides.csv").exists()


def test_another_slide_of_the_same_name_is_not_overwritten(tmp_path: Path) -> None:
    """Regression: variants of one kind and seed replaced one another without a word."""
    run(tmp_path, Options(kind="normal", seed=3, size="1000"))
    with pytest.raises(UsageError, match="a folder of its own"):
        run(tmp_path, Options(kind="normal", seed=3, size="1000", set=("confounder.count=0",)))


def test_steps_are_told_and_the_manifest_named(tmp_path: Path) -> None:
    ending, said = run(tmp_path, Options(slides=2, size="1000", kind="normal"))
    assert said == ["1/2 slides", "2/2 slides"]
    assert str(tmp_path / "slides.csv") in ending


def test_without_options_twelve_slides_of_all_kinds_are_planned() -> None:
    spec = spec_of(Options())
    assert spec.groups[0].slides == 12
    assert len(spec.groups[0].kinds) == 5
    assert spec_of(Options(slides=3, domain="shift", mpp=1.0)).groups[0].mpp == 1.0


def test_a_specification_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --kind, --set away"):
        run(tmp_path, Options(kind="bone", set=("bone.h=1",)), tmp_path / "cohort.yaml")


def test_settings_are_yaml() -> None:
    lines = ["calcium.form=granular", "stain.white=[240, 240, 240]", "bone.lacunae=false", "ink.dark=1.5"]
    assert list(read_settings(lines).values()) == ["granular", [240, 240, 240], False, 1.5]
    for line in ("calcium.form", "=3", "x=[1"):
        with pytest.raises(UsageError, match="--set"):
            read_settings([line])


def test_a_single_slide_that_cannot_be_drawn_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Regression: only a cohort's was; of one alone there was a traceback."""
    wanted = Options(kind="bone", seed=3, size="1000", set=("bone.lacunae_mm2=0",))
    with pytest.raises(UsageError, match=r"_3 cannot be made with bone\.lacunae_mm2=0\.0 \(.*\); take other values"):
        run(tmp_path, wanted)


def test_a_full_disk_stops_the_run_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, job: Job) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cohort, "_make", full)
    with pytest.raises(ArchiveError, match="No space left on device"):
        run(tmp_path, Options(slides=1, size="1000"))
