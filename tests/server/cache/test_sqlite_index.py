"""The index on disk: whatever stands in its place, a start is healthy and harms nothing."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from mlxdeck.server.cache import sqlite_index
from mlxdeck.server.cache.answers.disk import DiskAnswers
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import NAME, SqliteIndex

ROW = ("k" * 80, 3, 1.0, 2.0, b"abc")
INSERT = "insert into answers values (?,?,?,?,?)"


def totals(index: SqliteIndex) -> list[tuple[str, int, int]]:
    """What is counted of each kind."""
    with index.begin() as connection:
        return connection.execute("select what, n, n_bytes from totals").fetchall()


async def test_totals_that_are_no_numbers_count_as_none(tmp_path: Path) -> None:
    """Somebody has changed them meanwhile: nothing fails, and the next start counts again."""
    disk = DiskIO(SqliteIndex(tmp_path))
    answers = DiskAnswers(disk, 1 << 20)
    change = "insert or replace into totals values ('answers', '', ?, ?)"
    for value in ("many", b"\xff", -5, 1e300):
        with disk.database.begin() as connection:
            connection.execute(change, (value, value))
        await answers.clear()
        disk.write(lambda _: None).result()
        assert answers.n_bytes >= 0 and disk.errors == 0
    disk.close()


def test_totals_are_those_of_the_rows(tmp_path: Path) -> None:
    """Kept up with every row that comes and goes, and counted again at the start."""
    index = SqliteIndex(tmp_path)
    with index.begin() as connection:
        for n in range(3):
            connection.execute(INSERT, (str(n), 10, 1.0, 2.0, b""))
        connection.execute("delete from answers where key = '1'")
    assert totals(index) == [("answers", 2, 20)]
    with index.begin() as connection:
        connection.execute("update totals set n = 99, n_bytes = 'many'")
    index.close()
    index = SqliteIndex(tmp_path)
    assert totals(index) == [("answers", 2, 20)]
    index.close()


@pytest.mark.parametrize(
    "damage",
    [
        "drop table answers",
        "drop table totals",
        "drop index runs_by_use",
        "drop trigger run_removed",
        "alter table answers add column more text",
        "create view more as select 1",
        "create trigger evil after insert on answers begin delete from runs; end",
        "pragma user_version = 2",
        "pragma user_version = 99",
        "pragma user_version = 0",
    ],
)
def test_a_database_of_another_shape_is_begun_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of an earlier version, a later one, or changed by somebody; a line says which."""
    index = SqliteIndex(tmp_path)
    with index.begin() as connection:
        connection.execute(INSERT, ROW)
        connection.executescript(damage)
    index.close()
    index = SqliteIndex(tmp_path)
    is_other = "user_version" in damage
    assert (index.n_outdated, index.n_damaged) == (int(is_other), int(not is_other))
    assert totals(index) == [("answers", 0, 0)]
    assert "is replaced" in caplog.text and ("another version" in caplog.text) is is_other
    index.close()


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"SQLite format 3\0", b"\0"])
def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    """Nothing in it is worth refusing to start."""
    (tmp_path / NAME).write_bytes(content)
    index = SqliteIndex(tmp_path)
    with index.begin() as connection:
        connection.execute(INSERT, ROW)
    assert totals(index) == [("answers", 1, 3)]
    index.close()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe, a folder: the caches go without a disk, and nothing waits for it."""
    for make in (os.mkfifo, os.mkdir):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / NAME)
        with pytest.raises(OSError):
            SqliteIndex(folder)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_link_beside_it_is_not_followed(tmp_path: Path, suffix: str) -> None:
    """SQLite would write through it."""
    precious = tmp_path / "precious"
    precious.write_text("dear")
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / (NAME + suffix)).symlink_to(precious)
    index = SqliteIndex(folder)
    with index.begin() as connection:
        connection.execute(INSERT, ROW)
    index.close()
    assert precious.read_text() == "dear"


async def test_damage_that_is_found_later_costs_what_was_stored(tmp_path: Path) -> None:
    """The database is begun anew while it is in use, by whichever thread finds out, once."""
    disk = DiskIO(SqliteIndex(tmp_path))
    blob = b"x" * 3000
    disk.write(
        lambda c: c.executemany(INSERT, ((f"{n}", 1, 1.0, 2.0, blob) for n in range(500)))
    ).result()
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xff" * 4096 * 300)
    query = "select total(length(body)) from answers"
    # A thread that has nothing of it in its page cache.
    assert await disk.check(lambda c: c.execute(query).fetchone()[0], -1.0) == -1.0
    assert disk.errors == 1 and disk.database.n_damaged == 1
    disk.write(lambda c: c.execute(INSERT, ROW)).result()
    assert await disk.read(lambda c: c.execute("select key from answers").fetchall(), []) == [
        (ROW[0],)
    ]
    assert disk.working
    disk.close()


async def test_a_bug_costs_what_was_cached(tmp_path: Path) -> None:
    """Whatever is raised on a disk's thread is counted; the thread goes on."""
    disk = DiskIO(SqliteIndex(tmp_path))

    def fail(_: sqlite3.Connection) -> int:
        raise RuntimeError("a bug")

    assert await disk.read(fail, 7) == 7
    disk.write(fail).result()
    assert (await disk.read(lambda _: 8, 7), disk.errors) == (8, 2)
    disk.close()


@pytest.mark.parametrize("within_s", [0.0, 600.0])
def test_closing_has_a_limit(
    within_s: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What has not begun by then, or when asked to hurry, is given up, counted and told."""
    disk = DiskIO(SqliteIndex(tmp_path))
    entered, go, done = threading.Event(), threading.Event(), []

    def slow(_: sqlite3.Connection) -> None:
        entered.set()
        assert go.wait(10)
        done.append("slow")

    disk.write(slow)
    for _ in range(5):
        disk.write(lambda _: done.append("late"))
    assert entered.wait(10)
    threading.Timer(0.05, go.set).start()
    if within_s:
        disk.hurry()
    disk.close(within_s)
    assert (done, disk.dropped) == (["slow"], 5)
    assert "5 answers and states are not written" in caplog.text


async def test_what_comes_after_the_end_fails_nobody(tmp_path: Path) -> None:
    """Requests may still be there while the server is stopping."""
    disk = DiskIO(SqliteIndex(tmp_path))
    disk.close()
    assert await disk.read(lambda _: 1, 2) == await disk.check(lambda _: 1, 2) == 2
    disk.write(lambda _: None).result()
    assert disk.dropped == 1


def test_unused_space_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is much, and more than half of the file."""
    index = SqliteIndex(tmp_path)

    def n_pages(change: str = "select 1") -> int:
        with index.begin() as connection:
            connection.execute(change)
            index.shrink(connection)
            return int(connection.execute("pragma page_count").fetchone()[0])

    with index.begin() as connection:
        rows = [(f"k{n}", 1000, 1.0, 1.0, b"x" * 1000) for n in range(1000)]
        connection.executemany("insert into answers values (?,?,?,?,?)", rows)
    full = n_pages()
    assert n_pages("delete from answers where key > 'k2'") == full
    monkeypatch.setattr(sqlite_index, "MIN_FREE_BYTES", 1000)
    assert n_pages() < full / 2
    (n_left,) = (n for what, n, _ in totals(index) if what == "answers")
    assert 0 < n_left < 200
    index.close()
    assert (tmp_path / NAME).stat().st_size < full * 4096 / 2
