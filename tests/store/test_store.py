import numpy as np
import pytest

from plr_edge.errors import StateError
from plr_edge.store import Store, read_state


def arrays(value):
    return {"memory": {"x": np.full(3, value, np.float32)}, "adaptive": {"w": np.ones((2, 2))}}


def test_what_is_written_is_read_and_old_generations_go(tmp_path):
    store = Store(tmp_path / "s")
    for number in (1, 2, 3):
        store.write(number, {"classes": ["a"]}, arrays(number))
    state = store.read()
    assert (state.generation, state.facts) == (3, {"classes": ["a"]})
    np.testing.assert_array_equal(state.arrays["memory"]["x"], [3, 3, 3])
    assert sorted(f.name for f in (tmp_path / "s").glob("generation*")) == [
        "generation-000003.adaptive.safetensors", "generation-000003.memory.safetensors"
    ]  # fmt: skip
    assert set(read_state(tmp_path / "s", groups=("memory",)).arrays) == {"memory"}


def test_a_write_that_fails_at_any_step_leaves_the_old_generation(tmp_path, monkeypatch):
    import errno
    import os

    from plr_edge import store as module

    store = Store(tmp_path / "s")
    store.write(1, {}, arrays(1))
    for name in ("write_synced", "sync_folder"):
        for at in range(3):
            calls = iter(range(100))
            real = getattr(module, name)

            def failing(*arguments, real=real, calls=calls, at=at):
                if next(calls) == at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(module, name, failing)
                try:
                    store.write(2, {}, arrays(2))
                except StateError as error:
                    assert "No space left" in str(error)
            state = store.read()
            expected = 2 if state.generation == 2 else 1
            assert state.arrays["memory"]["x"][0] == expected
            store.write(1, {}, arrays(1))


def test_any_flipped_byte_is_noticed(tmp_path):
    store = Store(tmp_path / "s")
    store.write(1, {"n": 1}, arrays(1))
    for file in (tmp_path / "s").glob("generation*"):
        data = file.read_bytes()
        for i in range(len(data)):
            file.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :])
            with pytest.raises(StateError, match="sha256"):
                store.read()
        file.write_bytes(data)
    assert store.read().generation == 1


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    store = Store(tmp_path / "s")
    store.write(1, {}, arrays(1))
    file = tmp_path / "s" / "state.json"
    file.write_text(file.read_text().replace("generation-000001.memory", "../etc/passwd"))
    with pytest.raises(StateError, match="none of ours"):
        store.read()


def test_only_one_process_writes(tmp_path):
    store = Store(tmp_path / "s")
    with pytest.raises(StateError, match="in use"):
        Store(tmp_path / "s")
    store.close()
    Store(tmp_path / "s").close()
