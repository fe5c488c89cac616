import csv

import cv2

from histo.learning.diary import Diary
from histo.learning.pictures import draw_curves


def table_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_start_is_the_row_of_epoch_0_and_lacks_what_training_measures(tmp_path):
    path, said = tmp_path / "metrics.csv", []
    diary = Diary(path, said.append, epochs=2)
    diary.before({"patient_loss": 0.5})
    diary.begin(0)
    diary.note(1, {"training_loss": 0.75, "patient_loss": 0.25})
    diary.end(1)
    assert table_of(path) == [
        {"epoch": "0", "patient_loss": "0.5", "training_loss": ""},
        {"epoch": "1", "patient_loss": "0.25", "training_loss": "0.75"},
    ]
    assert said[0] == "before training: patient loss 0.500"
    assert said[1].startswith("epoch 1/2: patient loss 0.250, training loss 0.750; ")
    draw_curves(path, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 5


def test_a_run_that_goes_on_keeps_the_rows_that_were_finished(tmp_path):
    path = tmp_path / "metrics.csv"
    before = Diary(path, print, epochs=3)
    before.before({"patient_loss": 5.0})
    before.note(1, {"patient_loss": 1.0})
    in_the_checkpoint = list(before.rows)  # and the kill comes before end()
    again = Diary(path, print, epochs=3)
    again.restore(in_the_checkpoint)
    assert [row["epoch"] for row in table_of(path)] == ["0", "1"]
    again.begin(1)
    again.note(2, {"patient_loss": 2.0})
    again.end(2)
    assert [(row["epoch"], row["patient_loss"]) for row in table_of(path)] == [("0", "5"), ("1", "1"), ("2", "2")]


def test_a_run_that_begins_anew_keeps_no_row_of_one_that_was_killed_in_its_first_epoch(tmp_path):
    # Bug: the losses of another start stood as epoch 0 of a start that is not weighed.
    path = tmp_path / "metrics.csv"
    Diary(path, print, epochs=3).before({"patient_loss": 5.0})
    again = Diary(path, print, epochs=3)
    again.begin(0)
    again.note(1, {"patient_loss": 2.0})
    again.end(1)
    assert [row["epoch"] for row in table_of(path)] == ["1"]
