import sqlite3

import pytest

from histo.archive.ledger import Entry, Ledger
from histo.errors import ArchiveError

ROW = Entry("a", "/x/a.svs", "key", "model", "done", "hash", 1.5)


def test_rows_come_back_in_order_and_a_new_result_replaces_the_old(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.record(ROW)
    ledger.record(Entry("b", "/x/b.svs", "k", "model", "failed", "h", 0.0))
    ledger.record(Entry("a", "/x/a.svs", "key2", "model", "review", "hash2", 2.0))
    ledger.close()
    entries = Ledger(tmp_path / "l.sqlite").entries()
    assert [e.slide_id for e in entries] == ["a", "b"]
    assert (entries[0].key, entries[0].status) == ("key2", "review")


def test_a_row_is_found_by_its_path_and_replaced_whole(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.record(Entry("b", "/x/b.svs", "k", "model", "failed", "h", 0.0))
    ledger.record(ROW)
    new = Entry("b", "/x/b.svs", "k2", "model2", "done", "h2", 2.0)
    ledger.record(new)
    assert ledger.entries() == [new, ROW], "in the order in which they were first named"
    assert (ledger.entry_of("/x/b.svs"), ledger.entry_of("b")) == (new, None)


def test_the_journal_is_one_that_a_network_s_disk_bears(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_row_that_cannot_be_written_stops_the_run_in_one_sentence(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger._db.execute("PRAGMA query_only=ON")  # as a full disk
    with pytest.raises(ArchiveError, match=r"l\.sqlite cannot be used"):
        ledger.record(ROW)


@pytest.mark.parametrize("damage", [b"x" * 4096, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_named_and_left_alone(damage, tmp_path):
    path = tmp_path / "l.sqlite"
    path.write_bytes(damage)
    with pytest.raises(ArchiveError, match=r"l\.sqlite cannot be used"):
        Ledger(path)
    assert path.read_bytes() == damage


def test_a_file_that_another_program_has_open_is_not_to_be_thrown_away(tmp_path, monkeypatch):
    """Regression: beside a backup or a database browser it was told to move the ledger away, and compute all anew."""
    path = tmp_path / "l.sqlite"
    Ledger(path).close()
    monkeypatch.setattr("histo.archive.ledger.PATIENCE_S", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ArchiveError, match=r"another program has it open; close it there and run again$"):
        Ledger(path).record(ROW)
    other.close()
    Ledger(path).record(ROW)


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    for i in range(500):
        ledger.record(Entry(f"s{i}", f"/x/{i}", "k" * 64, "m" * 64, "done", "h" * 64, 1.0))
    ledger.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArchiveError):
        Ledger(path).entries()


def test_a_row_is_on_the_disk_when_it_is_recorded_whatever_this_sqlite_is_built_for(tmp_path, monkeypatch):
    connect = sqlite3.connect

    def careless(*arguments, **options):
        db = connect(*arguments, **options)
        db.execute("PRAGMA synchronous=OFF")
        return db

    monkeypatch.setattr(sqlite3, "connect", careless)
    ledger = Ledger(tmp_path / "l.sqlite")
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


def test_a_damage_that_leaves_every_row_to_be_read_is_named(tmp_path):
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    ledger.record(ROW)
    ledger.close()
    raw = bytearray(path.read_bytes())
    raw[39] = 5  # free pages that the header counts and that there are none of
    path.write_bytes(raw)
    with pytest.raises(ArchiveError, match="free"):
        Ledger(path)
