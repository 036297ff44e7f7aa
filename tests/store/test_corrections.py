"""What is taken back is gone, and what was learned from it too."""

from pathlib import Path

import numpy as np
import pytest
from store.stores import commit, label

from plr_edge.errors import StateError
from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Label, Store, TeachRequest


def test_undoing_a_label_drops_the_generations_that_learned_it(store):
    store.teach([label(1), label(2)])
    store.commit_generation({}, {})
    store.teach([label(3)])
    store.commit_generation({}, {})
    assert store.mark([3], UNDONE, "wrong") == [3]
    assert store.generations.read().generation == 1
    assert [x.status for x in store.labels] == [LEARNED, LEARNED, UNDONE]
    assert store.mark([1], UNDONE, "wrong") == [1]
    assert store.generations.read() is None
    assert store.mark([1], UNDONE, "again") == []


def test_rollback_sets_later_labels_aside(store):
    store.teach([label(1)])
    store.commit_generation({}, {})
    store.teach([label(2)])
    store.commit_generation({}, {})
    store.teach([label(3)])
    assert store.rollback() == 2
    assert store.generations.read().generation == 1
    assert store.commit_generation({}, {}) == 3  # a number is never used twice


def test_rollback_reaches_the_bundle_as_exported(store):
    store.teach([label(1)])
    store.commit_generation({}, {})
    assert store.rollback() == 1  # the first save: before it there was the bundle
    assert store.generations.read() is None and len(store.generations) == 0
    assert [x.status for x in store.labels] == ["undone"]
    assert "to the bundle as exported" in [text for _, _, text in store.events][-1]
    with pytest.raises(StateError, match="no generation older"):
        store.rollback()
    for _ in range(3):  # only two are kept: one step back, and then only if it is meant
        store.teach([label(2)])
        store.commit_generation({}, {})
    assert store.rollback() == 1
    with pytest.raises(StateError, match=r"no generation older.*--exported"):
        store.rollback()
    assert store.rollback(exported=True) == 2 and len(store.generations) == 0
    assert store.rollback(exported=True) == 0


def test_forgetting_leaves_no_byte_of_a_class(tmp_path):
    with Store(tmp_path / "s") as store:
        secret = Label(
            name="secret-name", predicted="x", source="secret-source", time_ns=0,
            record=np.frombuffer(b"secret-latent" * 9, np.uint8), taps=np.zeros(4, np.float16),
        )  # fmt: skip
        store.teach([label(1), secret, label(3)])
        store.commit_generation({"classes": ["a", "secret-name"]}, {})
        assert store.forget("secret-name") == 1
        assert store.generations.read() is None
        assert [x.seq for x in store.labels] == [1, 3]
    for file in (tmp_path / "s").rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes()
    with Store(tmp_path / "s") as store:
        assert store.teach([label(4)]) == [4]


def test_a_quarantined_label_is_taught_anew_when_it_is_confirmed(store):
    store.teach([label(1), label(2, status=QUARANTINED)])
    store.commit_generation({}, {})
    assert store.confirm([1, 2]) == [2]
    assert [(x.seq, x.status) for x in store.labels] == [
        (1, LEARNED), (2, UNDONE), (3, LEARNED),
    ]  # fmt: skip
    assert store.generations.read().upto == 2  # so that the confirmed one is still to be learned


def test_forgetting_leaves_no_byte_of_a_class_anywhere(tmp_path):
    """In what was answered to others, in answers to requests, in what a repair set aside."""
    from plr_edge.store import repair

    rng = np.random.default_rng(0)
    with Store(tmp_path / "s") as store:
        for i in range(400):  # enough to fill, split and free pages
            name = "secret-name" if rng.random() < 0.3 else f"class {i % 7}"
            predicted = "secret-name" if rng.random() < 0.2 else "b"
            own = label(i, name, n_bytes=int(rng.integers(1, 900)), predicted=predicted)
            store.teach([own], request=TeachRequest(f"k{i}", name, lambda x: {"label": x[0].name}))
            if i % 50 == 49:
                commit(store, classes=["secret-name"])
    (tmp_path / "s" / "store.db").write_bytes(
        (tmp_path / "s" / "store.db").read_bytes().replace(b"SQLite", b"SQLitf")
    )
    assert repair(tmp_path / "s").labels == 400
    assert list((tmp_path / "s").glob("damaged-*"))
    with Store(tmp_path / "s") as store:
        others = sum(x.name != "secret-name" for x in store.labels)
        assert store.forget("secret-name") == 400 - others
        assert len(list(store.labels)) == others
    files = [file for file in (tmp_path / "s").rglob("*") if file.is_file()]
    assert [file.name for file in files if b"secret" in file.read_bytes()] == []


def test_a_class_that_only_its_generations_know_is_forgotten_and_no_other(tmp_path):
    """Its labels were evicted; the names of facts are not those of classes."""
    with Store(tmp_path / "s") as store:
        store.teach([label(1), label(2)])
        commit(store, classes=["a", "secret"])
        for name in ("classes", "codec", "adaptive", "nobody"):
            assert store.forget(name) is None
        assert len(store.generations) == 1
        assert store.forget("secret") == 0
        assert len(store.generations) == 0 and store.last_seq == 2
    files = [file for file in (tmp_path / "s").rglob("*") if file.is_file()]
    assert [file.name for file in files if b"secret" in file.read_bytes()] == []


def test_a_file_that_cannot_be_deleted_is_named_and_deleted_next_time(tmp_path, monkeypatch):
    path = tmp_path / "s"
    with Store(path) as store:
        store.teach([label(1), label(2, "secret")])
        (path / "damaged-1.db").write_bytes(b"secret")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse_to_unlink)
            with pytest.raises(StateError, match=r"damaged-1\.db"):
                store.forget("secret")
        assert [x.name for x in store.labels] == ["a"]
        assert store.forget("secret") == 0
        assert store.forget("secret") is None
    assert not (path / "damaged-1.db").exists()


def refuse_to_unlink(file, missing_ok=False):
    raise PermissionError(13, "Permission denied")


def test_a_quarantined_label_without_a_latent_is_not_confirmed(tmp_path):
    with Store(tmp_path / "s", label_bytes=100) as store:
        store.teach([label(1, status=QUARANTINED), label(2)])
        commit(store)
        assert [x.seq for x in store.labels.with_latents(list(store.labels))] == [2]
        assert store.confirm([1]) == []
        assert store.mark([1], UNDONE, "dropped") == [1]
