"""A state that was copied to another machine with its tokens gets tokens of its own."""

import logging
import shutil

import pytest

from plr_edge.errors import ConfigError
from plr_edge.serve import owner
from plr_edge.serve.access import make_access
from plr_edge.serve.tokens import FILES, read_token, rotate_token

ROLES = tuple(FILES)


@pytest.fixture
def on(tmp_path, monkeypatch):
    """Start a robot on a machine: returns what clients need, its tokens and its fingerprint."""
    monkeypatch.setattr(owner, "_IN_CONTAINER", (tmp_path / "containerenv",))

    def start(state, serial="", machine_id=""):
        numbers = tmp_path / "serial-number", tmp_path / "machine-id"
        monkeypatch.setattr(owner, "_NUMBERS", numbers)
        for file, number in zip(numbers, (serial, machine_id), strict=True):
            file.write_text(number)
        state.mkdir(exist_ok=True)
        own = make_access(state, "0.0.0.0:8077").certificate
        return *(read_token(state, role) for role in ROLES), own.fingerprint

    return start


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"machine_id": "4f1c\n"}, {"machine_id": "77aa\n"}),
        ({"serial": "1423\0"}, {"serial": "1424\0"}),
        ({"serial": "1423\0", "machine_id": "4f1c\n"}, {"serial": "9\0", "machine_id": "4f1c\n"}),
    ],
)
def test_a_copy_on_another_machine_makes_its_own_and_says_so(tmp_path, on, caplog, first, second):
    before = on(tmp_path / "a", **first)
    assert on(tmp_path / "a", **first) == before and not caplog.records
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # with times and modes, as `cp -a`
    with caplog.at_level(logging.WARNING):
        after = on(tmp_path / "b", **second)
    assert not set(before) & set(after)
    (said,) = [r.getMessage() for r in caplog.records if "another machine" in r.getMessage()]
    assert "token, viewer-token, tls.pem" in said and not any(x in said for x in before + after)
    caplog.clear()
    assert on(tmp_path / "b", **second) == after and on(tmp_path / "a", **first) == before
    assert not caplog.records


def test_a_state_of_before_keeps_its_tokens_and_is_marked(tmp_path, on):
    tokens = [rotate_token(tmp_path, role) for role in ROLES]
    assert list(on(tmp_path, machine_id="4f1c")[:2]) == tokens
    assert "4f1c" not in (tmp_path / owner.FILE).read_text()
    assert list(on(tmp_path, machine_id="77aa")[:2]) != tokens


@pytest.mark.parametrize("number", ["", "uninitialized\n", "container"])
def test_where_the_machine_has_no_number_that_stays_nothing_is_renewed(tmp_path, on, number):
    before = on(tmp_path / "s", machine_id="4f1c")
    if number == "container":
        (tmp_path / "containerenv").touch()
    assert on(tmp_path / "s", machine_id=number) == before


def test_what_cannot_be_renewed_is_refused(tmp_path, on, monkeypatch):
    on(tmp_path / "s", machine_id="4f1c")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, "write_private", full)
    with pytest.raises(ConfigError, match="may be those of another machine") as refused:
        on(tmp_path / "s", machine_id="77aa")
    assert refused.value.can_pass
    monkeypatch.undo()
