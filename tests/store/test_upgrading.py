"""States of earlier versions: rewritten in the form of this one, whole at every instant."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from store.stores import commit, label
from store.test_repair import page_bytes, with_pages

from plr_edge.errors import StateError
from plr_edge.store import Store, database, opened_for_reading, upgrading
from plr_edge.store.database import PAGE_BYTES, Database

GOLDEN = Path(__file__).parent / "golden"
RUNTIME = Path(__file__).parents[1] / "runtime" / "golden"
STATES = [*sorted(GOLDEN.iterdir()), RUNTIME / "live", RUNTIME / "session"]


def rows_of(path):
    connection = sqlite3.connect(path / "store.db")
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY 1")
             if not name.startswith("sqlite_")]  # fmt: skip
    rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
            for name in names if name != "meta"}  # fmt: skip
    connection.close()
    return rows


@pytest.mark.parametrize("golden", STATES, ids=lambda path: path.name)
def test_a_state_of_an_earlier_version_is_rewritten_row_by_row(golden, tmp_path):
    path = Path(shutil.copytree(golden, tmp_path / "s"))
    path.chmod(0o700)
    before = rows_of(path)
    assert page_bytes(path) == 4096
    with opened_for_reading(path) as store:
        labels = [(x.seq, x.name, x.status) for x in store.labels]
    assert page_bytes(path) == 4096  # who only reads rewrites nothing
    with Store(path) as store:
        assert [(x.seq, x.name, x.status) for x in store.labels] == labels
        store.teach([label(1, "new")])
    assert page_bytes(path) == PAGE_BYTES and not list(path.glob("upgrading*"))
    after = rows_of(path)
    for table, rows in before.items():
        if table != "requests":  # keys of the first versions move into this table
            assert after[table][: len(rows)] == rows, table
    with Store(path) as store:
        assert store.last_seq == labels[-1][0] + 1 and not store.generations.damage()


def old(path, n=40):
    with Store(path) as store:
        store.teach([label(i) for i in range(n)])
        commit(store)
    return with_pages(4096, path)


def test_a_log_that_was_left_behind_is_taken_along(tmp_path):
    first = old(tmp_path / "a")
    database_ = Database(first)  # the process dies before it folds its log
    with database_.transaction() as tx:
        tx.put("events", [(99, 1, "kind", "in the log")])
    shutil.copytree(first, tmp_path / "s", ignore=shutil.ignore_patterns("lock"))
    database_.close()
    (tmp_path / "s").chmod(0o700)
    assert (tmp_path / "s" / "store.db-wal").stat().st_size > 0
    with Store(tmp_path / "s") as store:
        assert "in the log" in [text for _, _, text in store.events]
        assert store._database.page_bytes == PAGE_BYTES


@pytest.mark.parametrize("step", ["copy", "replace", "sync"])
def test_a_power_cut_leaves_the_old_database_or_the_new_one(tmp_path, monkeypatch, step):
    path = old(tmp_path / "s")
    before = rows_of(path)

    class Cut(BaseException):
        pass

    def cut(*_):
        raise Cut

    with monkeypatch.context() as patch:
        if step == "copy":
            patch.setattr(database.os, "fsync", cut)
        elif step == "replace":
            patch.setattr(upgrading.os, "replace", cut)
        else:
            patch.setattr(upgrading, "sync_folder", cut)
        with pytest.raises(Cut):
            Store(path)
    assert rows_of(path) == before
    with Store(path) as store:
        assert store._database.page_bytes == PAGE_BYTES and len(store.labels) == 40
    assert not list(path.glob("upgrading*"))


def test_without_room_the_old_form_stays_in_use(tmp_path, monkeypatch, caplog):
    path = old(tmp_path / "s")

    def full(self, file):
        file.write_bytes(b"half")
        raise StateError("no space")

    monkeypatch.setattr(Database, "copy_to", full)
    with Store(path) as store:
        assert store.teach([label()]) == [41]
    assert page_bytes(path) == 4096 and "no space" in caplog.text
    assert not list(path.glob("upgrading*"))


def test_damage_is_found_before_it_would_be_copied(tmp_path):
    path = old(tmp_path / "s", 300)
    data = bytearray((path / "store.db").read_bytes())
    for page in range(6, len(data) // 4096, 3):
        data[page * 4096 : page * 4096 + 8] = os.urandom(8)
    (path / "store.db").write_bytes(data)
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(path)
    assert (path / "store.db").read_bytes() == bytes(data)
