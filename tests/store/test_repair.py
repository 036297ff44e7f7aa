"""Whatever is damaged, the rest is saved; and a repair may be cut like anything else."""

import os
import random
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from store.stores import commit, label

from plr_edge.errors import StateError
from plr_edge.store import UNDONE, Store, repair
from plr_edge.store.rows import TABLES
from plr_edge.store.salvage import salvaged

PAGES = (512, 4096)  # of this version, and of earlier ones


def filled(path, n=300, size=1_444):
    rng = np.random.default_rng(0)
    with Store(path) as store:
        for start in range(0, n, 10):
            store.teach([label(i, f"class {i}", n_bytes=int(rng.integers(1, size)))
                         for i in range(start, start + 10)])  # fmt: skip
        commit(store)
    return path


@pytest.fixture(scope="module", params=PAGES)
def pristine(tmp_path_factory, request):
    return with_pages(request.param, filled(tmp_path_factory.mktemp("pristine") / "s"))


def with_pages(n_bytes, path):
    """Give a database pages of another size, as those of earlier versions have."""
    connection = sqlite3.connect(path / "store.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA page_size = {n_bytes}")
    connection.execute("VACUUM")
    connection.execute("PRAGMA journal_mode = WAL")
    assert connection.execute("PRAGMA page_size").fetchone() == (n_bytes,)
    connection.close()
    return path


def page_bytes(path):
    return int.from_bytes((path / "store.db").read_bytes()[16:18], "big")


def copied(pristine, path):
    shutil.rmtree(path, ignore_errors=True)
    return Path(shutil.copytree(pristine, path))


def test_a_row_that_is_damaged_is_the_only_one_lost(tmp_path):
    with Store(tmp_path / "s") as store:
        store.teach([label(i, f"class-{i}") for i in range(20)])
        commit(store)
    file = tmp_path / "s" / "store.db"
    data = bytearray(file.read_bytes())
    data[data.index(b"class-7") + 6] ^= 1
    file.write_bytes(data)
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(tmp_path / "s")
    saved = repair(tmp_path / "s")
    assert asdict(saved) == {
        "labels": 19, "latents": 19, "generations": 1, "labels_lost": 1, "changed": 1,
    }  # fmt: skip
    with Store(tmp_path / "s") as store:
        assert [x.name for x in store.labels] == [f"class-{i}" for i in range(20) if i != 7]
        assert store.generations.read().generation == 1
        assert store.teach([label()]) == [21] and commit(store) == 2
    assert repair(tmp_path / "s").changed == 0
    file.write_bytes(b"no database at all")
    assert repair(tmp_path / "s").generations == 2
    assert len(list((tmp_path / "s").glob("damaged-*.db"))) == 1  # only the latest is kept
    with Store(tmp_path / "s") as store:
        assert store.generations.read().generation == 2


def rows_by_sqlite(file):
    connection = sqlite3.connect(file)
    rows = {t: [row[:-1] for row in connection.execute(f"SELECT * FROM {t} ORDER BY 1")]
            for t in TABLES}  # fmt: skip
    connection.close()
    return rows


def test_what_is_salvaged_from_bytes_is_what_sqlite_reads(pristine, tmp_path):
    assert salvaged(pristine / "store.db") == rows_by_sqlite(pristine / "store.db")
    with Store(copied(pristine, tmp_path / "s")) as store:  # now with a log beside it
        store.teach([label(7, "in the log", n_bytes=n) for n in (1, 3_900, 4_100, 9_000, 50_000)])
        store.mark([3, 4], UNDONE, "test")
        shutil.copytree(store.path, tmp_path / "cut")
    assert (tmp_path / "cut" / "store.db-wal").stat().st_size > 0
    found = salvaged(tmp_path / "cut" / "store.db")
    assert found == rows_by_sqlite(tmp_path / "cut" / "store.db")
    assert found["labels"][-1][1] == "in the log"


def test_any_page_may_be_lost_and_only_what_lay_in_it_is(pristine, quick_path):
    """Even the header, a root, the table of contents: only leaves hold labels."""
    data, size = (pristine / "store.db").read_bytes(), page_bytes(pristine)
    lost = []
    for page in range(0, len(data) // size, 1 if size > 1_000 else 5):
        work = copied(pristine, quick_path / "work")
        damaged = bytearray(data)
        damaged[page * size : (page + 1) * size] = random.Random(page).randbytes(size)
        (work / "store.db").write_bytes(damaged)
        held = damaged_labels(data[page * size : (page + 1) * size])
        found = repair(work)
        assert found.labels >= 300 - held, page
        assert found.latents >= 300 - max(held, 40), page
        assert found.generations == 1, page
        lost.append(found.labels_lost)
        with Store(work) as store:
            assert store.generations.read() is not None
    assert lost.count(0) > 0.9 * len(lost)


def damaged_labels(page):
    """How many names of labels a page holds."""
    return page.count(b"class ")


def test_a_flipped_bit_in_the_header_costs_nothing(pristine, quick_path):
    for at in (0, 18, 60, 63, 100, 103):
        work = copied(pristine, quick_path / "work")
        data = bytearray((work / "store.db").read_bytes())
        data[at] ^= 0x41
        (work / "store.db").write_bytes(data)
        found = repair(work)
        assert (found.labels, found.labels_lost, found.generations) == (300, 0, 1), at


def test_generations_without_a_database_are_not_taken_for_a_new_state(pristine, tmp_path):
    work = copied(pristine, tmp_path / "work")
    (work / "store.db").unlink()
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(work)
    assert asdict(repair(work)) == {
        "labels": 0, "latents": 0, "generations": 1, "labels_lost": 300, "changed": 1,
    }  # fmt: skip
    with Store(work) as store:
        assert store.generations.read().generation == 1 and store.teach([label()]) == [301]


def test_a_database_that_was_lost_while_it_was_replaced_is_rebuilt_from_the_damaged_one(tmp_path):
    """A cut may undo the renaming to the new name, and not that from the old name."""
    with Store(tmp_path / "s") as store:
        store.teach([label(i) for i in range(3)])
    (tmp_path / "s" / "store.db").rename(tmp_path / "s" / "damaged-1.db")
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(tmp_path / "s")
    assert repair(tmp_path / "s").labels == 3
    with Store(tmp_path / "s") as store:
        assert len(list(store.labels)) == 3
    assert [file.name for file in (tmp_path / "s").glob("damaged-*")] == ["damaged-1.db"]


def test_generations_that_were_dropped_do_not_come_back(tmp_path):
    with Store(tmp_path / "s") as store:
        store.teach([label(1), label(2)])
        commit(store)
        kept = {f: f.read_bytes() for f in (store.path / "generations").iterdir()}
        store.mark([2], UNDONE, "wrong")
        store.teach([label(i, "a long name " * 20) for i in range(40)])
    for file, data in kept.items():  # as if the cut had come before they were deleted
        file.write_bytes(data)
    data = bytearray((tmp_path / "s" / "store.db").read_bytes())
    data[data.index(b"a long name")] ^= 1
    (tmp_path / "s" / "store.db").write_bytes(data)
    assert repair(tmp_path / "s").generations == 0
    with Store(tmp_path / "s") as store:
        assert store.generations.read() is None
    assert list((tmp_path / "s" / "generations").iterdir()) == []


def test_nothing_is_repaired_where_nothing_is_or_someone_is_at_work(tmp_path):
    with pytest.raises(StateError, match="nothing to repair"):
        repair(tmp_path / "none")
    with Store(tmp_path / "s") as store:
        with pytest.raises(StateError, match=f"in use by process {os.getpid()}"):
            repair(tmp_path / "s")
        store.facts.keep(a=1)
    assert repair(tmp_path / "s").changed == 0
