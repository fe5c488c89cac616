import csv

from histo.learning.scores import Held, read_held_out, suspects, write_held_out, write_suspects

LABELS = ("normal", "calcinosis_cutis")


def held(slide, label, normal, verdict=None):
    found = verdict or ("normal" if normal >= 0.5 else "calcinosis_cutis")
    return Held(slide, "p", label, found, "done", "", "fold 1", {"normal": normal, "calcinosis_cutis": 1 - normal})


def test_the_most_contradicted_label_comes_first():
    rows = [held("agrees", "normal", 0.9), held("doubtful", "normal", 0.4), held("flipped", "calcinosis_cutis", 0.95)]
    found = suspects([*rows, held("unread", "normal", 0.0, "none")])
    assert [s.held.slide for s in found] == ["flipped", "doubtful", "agrees"]
    assert found[0].other == "normal"
    assert found[0].margin < found[1].margin < 0 < found[2].margin


def test_tables_name_their_source_and_read_back(tmp_path):
    rows = [held("a,b", "normal", 0.25), held("c", "calcinosis_cutis", 0.125)]
    write_held_out(tmp_path / "held.csv", rows, LABELS)
    assert read_held_out(tmp_path / "held.csv", LABELS) == rows
    write_suspects(tmp_path / "suspicious.csv", suspects(rows))
    with open(tmp_path / "suspicious.csv", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first["slide"] == "a,b"
    assert first["likelier_label"] == "calcinosis_cutis"
    assert second["likelier_label"] == ""
    assert first["source"].startswith("fold 1: ")
