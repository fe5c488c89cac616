"""The ledger: the truth about what an output folder holds, in one SQLite file that one process writes."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from histo.errors import ArchiveError

PATIENCE_S = 60  # a backup, or a database browser, may have the file open for a while
_HELD = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS slides (
    slide_id TEXT PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    status TEXT NOT NULL,
    result_sha256 TEXT NOT NULL,
    seconds REAL NOT NULL
) STRICT
"""


@dataclass(frozen=True)
class Entry:
    """One slide's row: `key` pins content, model and settings, `result_sha256` the files that were written."""

    slide_id: str
    path: str
    key: str
    model: str
    status: str
    result_sha256: str
    seconds: float


class Ledger:
    """Reads and writes the rows of `ledger.sqlite`; every write is on disk when it returns.

    Rollback journal, full sync: SQLite's write-ahead log has a corruption bug before 3.51.3, and one writer
    needs no more. Raises `ArchiveError` when the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
            check = self._db.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if check != "ok":
            raise self._unusable(sqlite3.DatabaseError(check))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def entries(self) -> list[Entry]:
        """Return all rows, in the order in which the slides were first named."""
        try:
            rows = self._db.execute(
                "SELECT slide_id, path, key, model, status, result_sha256, seconds FROM slides ORDER BY rowid"
            ).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return [Entry(*row) for row in rows]

    def entry_of(self, path: str) -> Entry | None:
        """Return the row of the slide at a path, None where it has none."""
        try:
            row = self._db.execute(
                "SELECT slide_id, path, key, model, status, result_sha256, seconds FROM slides WHERE path = ?", (path,)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return Entry(*row) if row else None

    def record(self, entry: Entry) -> None:
        """Write one slide's row, in place of an older one of the same slide."""
        try:
            self._db.execute(
                "INSERT INTO slides VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (slide_id) DO UPDATE SET"
                " path=excluded.path, key=excluded.key, model=excluded.model, status=excluded.status,"
                " result_sha256=excluded.result_sha256, seconds=excluded.seconds",
                (entry.slide_id, entry.path, entry.key, entry.model, entry.status, entry.result_sha256, entry.seconds),
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> ArchiveError:
        what = "free the disk, or move the file away and run again: slides are then computed anew"
        if getattr(error, "sqlite_errorcode", None) in _HELD:
            what = "another program has it open; close it there and run again"
        return ArchiveError(f"the ledger {self._path} cannot be used ({error}); {what}")
