"""What an output folder tells of itself."""

import json

import pytest

from histo.errors import UsageError
from histo.out_folder import RUN, is_result, model_of_last_run


def test_the_model_of_the_last_run_is_told_or_why_not(tmp_path):
    assert model_of_last_run(tmp_path) is None
    (tmp_path / RUN).write_text(json.dumps({"model_digest": "ab"}))
    assert model_of_last_run(tmp_path) == "ab"
    for damaged in ("{}", "[]", "not JSON", ""):
        (tmp_path / RUN).write_text(damaged)
        with pytest.raises(UsageError, match=r"run\.json is not histo's"):
            model_of_last_run(tmp_path)


def test_another_program_s_result_is_none_of_histo_s(tmp_path):
    for text, is_ours in (('{\n "slide_id": "a"', True), ('{"slides": []}', False), ("", False)):
        (tmp_path / "result.json").write_text(text)
        assert is_result(tmp_path) == is_ours
