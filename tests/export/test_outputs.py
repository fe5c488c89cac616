import shutil

from histo.export.outputs import write_outputs
from histo.infer import predict_slide
from histo.results import load_result


def test_outputs_are_all_there_and_the_result_reads_back(painted, colour_model, tmp_path):
    prediction = predict_slide(painted, colour_model)
    result = write_outputs(prediction, tmp_path / "out")
    assert set(result.files) == {"report", "heatmap", "overlay", "thumbnail", "lesions", "tiles"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*result.files.values(), "result.json"}
    assert load_result(tmp_path / "out" / "result.json") == result
    shown = [e.lesion_id for e in prediction.evidence if e.lesion_id]
    assert shown == [lesion.lesion_id for lesion in result.lesions]


def test_what_an_earlier_result_left_goes(painted, colour_model, tmp_path):
    """Regression: a failed slide stood beside the pictures of an earlier result."""
    write_outputs(predict_slide(painted, colour_model), tmp_path)
    write_outputs(predict_slide(tmp_path / "nowhere.svs", colour_model), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "result.json"]


def test_nothing_is_written_beside_the_slide(painted, colour_model, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(painted, folder / "a.svs")
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir())
    write_outputs(predict_slide(folder / "a.svs", colour_model), tmp_path / "out")
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir()) == before
