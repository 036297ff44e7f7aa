"""Whose directory it is, who may hold it, and what may lie in it."""

import errno
import fcntl
import logging
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from store.stores import commit, label

from plr_edge.errors import StateError
from plr_edge.store import Store, opened_for_reading, read_state
from plr_edge.store.folder import warn_of_place


def test_a_second_writer_is_refused_at_once_and_told_who_is_first(tmp_path):
    store = Store(tmp_path / "s")
    for _ in range(3):
        start = time.monotonic()
        with pytest.raises(StateError, match=f"in use by process {os.getpid()}"):
            Store(tmp_path / "s")
        assert time.monotonic() - start < 1.0  # the promise: the waiting is a part of it
    store.close()
    Store(tmp_path / "s").close()


def forked_holder(path):
    """Hold a store in another process; returns its id."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        Store(path)
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return pid


def test_a_hundred_writers_that_are_killed_are_named_and_leave_no_lock_behind(
    quick_path, monkeypatch
):
    monkeypatch.setattr("plr_edge.store.folder._LOCK_WAIT_S", 0.0)
    for _ in range(100):
        pid = forked_holder(quick_path / "s")
        with pytest.raises(StateError, match=f"in use by process {pid}"):
            Store(quick_path / "s")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        Store(quick_path / "s").close()


def test_a_writer_that_was_stopped_still_holds_its_state(tmp_path):
    pid = forked_holder(tmp_path / "s")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StateError, match=f"in use by process {pid}"):
            Store(tmp_path / "s")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    Store(tmp_path / "s").close()


def test_a_lock_file_that_someone_deleted_lets_no_second_writer_in(tmp_path):
    with Store(tmp_path / "s") as store:
        store.teach([label()])
        (tmp_path / "s" / "lock").unlink()
        with pytest.raises(StateError, match="another process uses it"):
            Store(tmp_path / "s")
        assert store.teach([label()]) == [2]


def test_a_place_where_nothing_can_be_locked_is_refused_as_such(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StateError, match="local disk"):
        Store(tmp_path / "s")


@pytest.mark.parametrize("how", ["link", "everybody", "group", "older", "newer row"])
def test_directories_that_are_not_ours_are_refused(tmp_path, how):
    path = tmp_path / "s"
    if how == "link":
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real")
    elif how in ("everybody", "group"):
        path.mkdir()
        path.chmod(0o777 if how == "everybody" else 0o770)
    elif how == "older":
        path.mkdir()
        (path / "state.json").write_text("{}")
    else:
        with Store(path) as store:
            store.facts.keep(schema=99)
    with pytest.raises(StateError, match=r"link|chmod 700|older version|schema 99"):
        Store(path)
    if how == "link":
        assert list((tmp_path / "real").iterdir()) == []


def test_files_are_their_owners_alone_whatever_the_directory_allows(tmp_path):
    path = tmp_path / "s"
    path.mkdir(mode=0o755)
    with Store(path) as store:
        store.teach([label()])
        commit(store)
        files = [file for file in path.rglob("*") if file.is_file()]
        assert {file.name for file in files} >= {"store.db", "store.db-wal", "lock"}
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("name", ["store.db", "store.db-wal"])
@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder"])
def test_a_database_that_is_no_plain_file_is_not_opened(tmp_path, name, kind):
    path, elsewhere = tmp_path / "s", tmp_path / "elsewhere"
    with Store(path) as store:
        store.teach([label()])
        if name == "store.db-wal":
            shutil.copy(path / name, elsewhere)
    file = path / name
    if name == "store.db":
        shutil.copy(file, elsewhere)
        file.unlink()
    before = elsewhere.read_bytes()
    if kind == "link":
        file.symlink_to(elsewhere)
    elif kind == "hard link":
        os.link(elsewhere, file)
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(StateError, match=r"plain file|second name"):
        Store(path)
    assert elsewhere.read_bytes() == before


def test_a_folder_of_generations_that_leads_elsewhere_costs_no_file_there(store, tmp_path):
    store.close()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_text("mine")
    (store.path / "generations").rmdir()
    (store.path / "generations").symlink_to(photos)
    with pytest.raises(StateError, match="link"):
        Store(store.path)
    assert (photos / "holiday.jpg").exists()


def test_only_files_of_generations_are_tidied_away(store):
    commit(store)
    mine = store.path / "generations" / "notes.txt"
    stale = store.path / "generations" / f"000009.adaptive.{'0' * 16}.safetensors"
    for file in (mine, stale):
        file.write_text("x")
    store.close()
    Store(store.path).close()
    assert mine.exists() and not stale.exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_generation_that_is_no_plain_file_is_not_read(store, kind, tmp_path):
    store.commit_generation({}, {"memory": {"x": np.ones(3, np.float32)}})
    (file,) = (store.path / "generations").glob("*.memory.*")
    data = file.read_bytes()
    file.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    assert store.generations.read() is None and "damaged" in store.notes[0]


# versions


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "s"
    path.mkdir(mode=0o700)
    with sqlite3.connect(path / "store.db") as connection:
        connection.execute("CREATE TABLE recipes (x)")
    connection.close()
    before = (path / "store.db").read_bytes()
    with pytest.raises(StateError, match="another program"):
        Store(path)
    assert (path / "store.db").read_bytes() == before


def test_a_newer_version_is_refused_untouched_and_not_repaired_either(store):
    from plr_edge.store import repair

    store.teach([label()])
    store.close()
    with sqlite3.connect(store.path / "store.db") as connection:
        connection.execute("ALTER TABLE meta ADD COLUMN colour TEXT DEFAULT 'red'")
        connection.execute("UPDATE meta SET value = '3' WHERE key = 'schema'")
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    before = (store.path / "store.db").read_bytes()
    for attempt in (Store, repair):
        with pytest.raises(StateError, match="schema 3; this version of plr-edge reads 2"):
            attempt(store.path)
        assert (store.path / "store.db").read_bytes() == before


def test_a_store_of_the_first_version_opens(tmp_path):
    golden = os.path.join(os.path.dirname(__file__), "golden", "schema-2")
    shutil.copytree(golden, tmp_path / "s")
    for folder in (tmp_path / "s", tmp_path / "s" / "generations"):
        folder.chmod(0o700)  # git knows no modes of folders
    with Store(tmp_path / "s") as store:
        assert [(x.seq, x.name) for x in store.labels] == [(1, "mug"), (2, "drill"), (3, "mug")]
        assert [x.record.tobytes() for x in store.labels.with_latents(list(store.labels))] == [
            bytes(range(i, i + 64)) for i in (1, 2, 3)
        ]
        assert store.generations.read().arrays["adaptive"]["w"].tolist() == [0.5, -0.5]
        assert store.teach([label()]) == [4]


# media


def test_a_state_on_a_medium_that_cannot_be_written_is_read_from_a_copy(tmp_path, monkeypatch):
    with Store(tmp_path / "s") as store:
        store.teach([label(1)])
        commit(store, n=1)
        store.teach([label(2)])
        commit(store, n=2)
    os.mkfifo(tmp_path / "s" / "pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert read_state(tmp_path / "s").facts["n"] == 2
    before = sorted((f.name, f.stat().st_mtime_ns) for f in (tmp_path / "s").rglob("*"))
    with opened_for_reading(tmp_path / "s") as store:
        for change in (
            lambda: store.teach([label(3)]), lambda: commit(store), store.rollback,
            lambda: store.mark([1], "undone", "x"), lambda: store.forget("a"),
            lambda: store.confirm([1]), lambda: store.facts.keep(a=1),
        ):  # fmt: skip
            with pytest.raises(StateError, match="cannot be written"):
                change()
        assert store.last_seq == 2 and store.generations.read().facts["n"] == 2
    assert sorted((f.name, f.stat().st_mtime_ns) for f in (tmp_path / "s").rglob("*")) == before
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(StateError, match="TMPDIR"):
        read_state(tmp_path / "s")


def test_network_disks_and_open_parents_are_warned_of(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nnas:/x {tmp_path} nfs4 rw 0 0\n")
    warn_of_place(tmp_path / "s", mounts)
    assert "nfs4" in caplog.text
    caplog.clear()
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nnas:/x {tmp_path}/other nfs4 rw 0 0\n")
    warn_of_place(tmp_path / "s", mounts)
    assert caplog.text == ""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    warn_of_place(tmp_path / "open" / "s", mounts)
    assert "anybody" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is played by root")
def test_another_users_state_is_refused(tmp_path):
    Store(tmp_path / "s").close()
    shutil.chown(tmp_path / "s", 12345)
    with pytest.raises(StateError, match="another user"):
        Store(tmp_path / "s")
    code = (
        "import os, sys\n"
        "from plr_edge.errors import StateError\n"
        "from plr_edge.store import read_state\n"
        "os.setuid(54321)\n"
        "try: read_state(sys.argv[1])\n"
        "except StateError as error: print(error)\n"
    )
    tmp_path.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
