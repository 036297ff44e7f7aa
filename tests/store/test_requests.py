"""Answers to requests with a key: durable with their labels, and forgotten with their class."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from store.stores import commit, label

from plr_edge.errors import StateError
from plr_edge.store import UNDONE, Store, TeachRequest, opened_for_reading, repair

GOLDEN = Path(__file__).parent / "golden"


def request(key, name="a", **answer):
    return TeachRequest(key, name, lambda labels: {"first": labels[0].seq, "label": name, **answer})


def files_with(word, path):
    files = [file for file in path.rglob("*") if file.is_file()]
    return [file.name for file in files if word in file.read_bytes()]


@pytest.fixture
def old(tmp_path):
    """A state of the last version that kept answers among the facts."""
    path = Path(shutil.copytree(GOLDEN / "schema-2-keys", tmp_path / "old"))
    for folder in (path, path / "generations"):
        folder.chmod(0o700)  # git knows no modes of folders
    return path


def test_an_answer_is_as_durable_as_its_labels(tmp_path):
    with Store(tmp_path / "s") as store:
        store.teach([label(1), label(2)], request=request("k", taught=2))
        shutil.copytree(tmp_path / "s", tmp_path / "cut")
    with Store(tmp_path / "cut") as store:
        assert store.last_seq == 2
        assert store.requests.answers() == {"k": {"first": 1, "label": "a", "taught": 2}}


class CommitsAndFails:
    """A connection whose next commit reaches the disk, and then reports that it did not."""

    def __init__(self, connection):
        self._connection = connection

    def execute(self, query, *values):
        found = self._connection.execute(query, *values)
        if query == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return found

    def __getattr__(self, name):
        return getattr(self._connection, name)


def test_an_answer_goes_with_labels_that_were_refused_and_are_there(store):
    store.teach([label(1)], request=request("before"))
    store._database._connection = CommitsAndFails(store._database._connection)
    with pytest.raises(StateError, match="I/O"):
        store.teach([label(2)], request=request("refused"))
    assert [x.seq for x in store.labels] == [1, 2] and "refused" in store.requests.answers()
    store.events.note("any", "write")
    assert [x.seq for x in store.labels if x.status == UNDONE] == [2]
    assert list(store.requests.answers()) == ["before"]
    assert store.teach([label(3)], request=request("refused")) == [3]


def test_a_repair_saves_answers(tmp_path):
    with Store(tmp_path / "s") as store:
        for i in range(300):
            store.teach([label(i)], request=request(f"k{i}", taught=i))
        answers = store.requests.answers()
    file = tmp_path / "s" / "store.db"
    file.write_bytes(file.read_bytes().replace(b"SQLite", b"SQLitf"))
    assert repair(tmp_path / "s").labels == 300
    with Store(tmp_path / "s") as store:
        assert store.requests.answers() == answers and len(answers) == 300


def test_a_table_of_answers_that_went_missing_is_damage(store):
    store.teach([label(1)], request=request("k"))
    store.close()
    file = store.path / "store.db"
    file.write_bytes(file.read_bytes().replace(b"requests", b"requestz"))
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(store.path)
    repair(store.path)
    with Store(store.path) as store:
        assert "k" in store.requests.answers()


# answers that an older version kept among the facts


def test_answers_of_an_older_version_are_taken_over(old):
    with Store(old) as store:
        assert store.requests.answers() == {
            "old": {"taught": 1, "first": 1, "label": "mug", "quarantined": 0},
            "k1": {"taught": 1, "first": 2, "label": "drill", "quarantined": 0},
            "k2": {"taught": 1, "first": 3, "label": "mug"},
        }
        assert store.facts.get("keys") is None and store.facts.get("key old") is None
        assert [x.name for x in store.labels] == ["mug", "drill", "mug"]
        assert store.generations.read().arrays["adaptive"]["w"].tolist() == [0.5, -0.5]
    with Store(old) as store:
        assert len(store.requests.answers()) == 3
        assert store.teach([label()], request=request("new")) == [4]


def test_a_class_that_an_older_version_taught_is_forgotten(old):
    with Store(old) as store:
        assert store.forget("mug") == 2
        assert list(store.requests.answers()) == ["k1"]
    assert files_with(b"mug", old) == []


def test_a_damaged_state_of_an_older_version_is_repaired(old):
    file = old / "store.db"
    file.write_bytes(file.read_bytes().replace(b"SQLite", b"SQLitf"))
    assert repair(old).labels == 3
    with Store(old) as store:
        assert len(store.requests.answers()) == 3


def test_a_state_of_an_older_version_is_read_where_nothing_can_be_written(old, monkeypatch):
    before = (old / "store.db").read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with opened_for_reading(old) as store:
        assert len(store.requests.answers()) == 3 and store.last_seq == 3
    assert (old / "store.db").read_bytes() == before


def test_a_full_disk_does_not_keep_a_state_of_an_older_version_from_opening(
    old, monkeypatch, caplog
):
    from plr_edge.store.database import Transaction

    def full(*_):
        raise StateError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "put", full)
        with Store(old) as store:
            assert [x.name for x in store.labels] == ["mug", "drill", "mug"]
            assert store.requests.answers() == {} and "not available" in caplog.text
    with Store(old) as store:
        assert len(store.requests.answers()) == 3


def test_a_state_without_answers_gets_their_table_with_its_first_write(tmp_path):
    path = Path(shutil.copytree(GOLDEN / "schema-2", tmp_path / "s"))
    for folder in (path, path / "generations"):
        folder.chmod(0o700)
    with Store(path) as store:
        assert store.requests.answers() == {} and store.forget("nothing") is None
        store.teach([label()], request=request("k"))
        commit(store)
    with Store(path) as store:
        assert list(store.requests.answers()) == ["k"]
