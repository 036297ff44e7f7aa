"""Token files: made whole or not at all, refused if others may know them, replaced at once."""

import os
import threading

import pytest

from plr_edge.errors import ConfigError
from plr_edge.serve import tokens
from plr_edge.serve.certificate import own_certificate, read_fingerprint
from plr_edge.serve.tokens import TokenFiles, open_token, read_secret, read_token, rotate_token

GOOD = "a" * 32


def empty(file):
    file.write_text("")
    file.chmod(0o600)


def blank(file):
    file.write_text("\n \n")
    file.chmod(0o600)


def short(file):
    file.write_text("x")
    file.chmod(0o600)


def two_words(file):
    file.write_text(f"{GOOD} {GOOD}")
    file.chmod(0o600)


def binary(file):
    file.write_bytes(os.urandom(64))
    file.chmod(0o600)


def for_the_group(file):
    file.write_text(GOOD)
    file.chmod(0o640)


def for_everybody(file):
    file.write_text(GOOD)
    file.chmod(0o644)


def link(file):
    other = file.with_name("other")
    other.write_text(GOOD)
    other.chmod(0o600)
    file.symlink_to(other)


def dangling(file):
    file.symlink_to(file.with_name("nothing"))


def folder(file):
    file.mkdir(mode=0o700)


def pipe(file):
    os.mkfifo(file, 0o600)


BAD = (
    empty, blank, short, two_words, binary, for_the_group, for_everybody, link, dangling, folder,
    pipe,
)  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("role", ["teacher", "viewer"])
def test_a_token_file_that_is_no_secret_is_refused_and_left_alone(make, role, tmp_path):
    file = tmp_path / tokens.FILES[role]
    make(file)
    before = file.lstat()
    for read in (open_token, read_token):
        with pytest.raises(ConfigError, match=f"token {tmp_path} --rotate {role}"):
            read(tmp_path, role)
    assert file.lstat() == before
    if make is not folder:
        assert len(rotate_token(tmp_path, role)) >= 32
        assert read_token(tmp_path, role) == file.read_text() and file.stat().st_mode & 0o77 == 0


def test_a_disk_that_fills_up_leaves_no_token_of_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(ConfigError, match="No space left") as error:
            open_token(tmp_path)
    assert list(tmp_path.iterdir()) == [] and error.value.can_pass
    token = open_token(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(ConfigError, match="nothing was changed"):
            rotate_token(tmp_path, "teacher")
    assert read_token(tmp_path) == token and [x.name for x in tmp_path.iterdir()] == ["token"]


def test_two_that_start_at_once_have_the_same_token(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(open_token(tmp_path))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == read_token(tmp_path)


def test_a_token_of_the_first_release_is_still_one(tmp_path):
    (tmp_path / "token").write_text("Wm1xTzZ5cGVQdFV4a3BqS2R4c2Zt\n")
    (tmp_path / "token").chmod(0o600)
    assert TokenFiles(tmp_path)().teacher == "Wm1xTzZ5cGVQdFV4a3BqS2R4c2Zt"


def test_a_token_that_is_replaced_counts_within_a_second_and_a_bad_one_never(tmp_path, caplog):
    now = [0.0]
    files = TokenFiles(tmp_path, clock_s=lambda: now[0])
    old = files()
    assert old.teacher != old.viewer
    new = rotate_token(tmp_path, "viewer")
    assert files().viewer == old.viewer
    now[0] = 1.5
    assert files().viewer == new and files().teacher == old.teacher
    (tmp_path / "token").chmod(0o644)
    now[0] = 3.0
    assert files().teacher == old.teacher and "stay as they were" in caplog.text


def test_the_command_checks_shows_and_replaces(tmp_path, plr_edge):
    state = tmp_path / "s"
    state.mkdir(mode=0o700)
    assert plr_edge("token", str(state)).exit_code == 2  # nothing is made by looking
    for role in ("teacher", "viewer"):
        open_token(state, role)
    shown = plr_edge("token", str(state), "--show", "viewer")
    assert shown.stdout.strip() == read_token(state, "viewer")
    secret = read_token(state)
    listed = plr_edge("token", str(state))
    assert listed.exit_code == 0 and secret not in listed.output
    assert plr_edge("token", str(state), "--rotate", "both").exit_code == 0
    assert read_token(state) != secret
    (state / "token").chmod(0o604)
    refused = plr_edge("token", str(state))
    assert refused.exit_code == 2 and "0604" in refused.stderr
    assert plr_edge("token", str(tmp_path / "none")).exit_code == 2


def test_a_certificate_is_made_once_and_refused_if_others_can_read_it(tmp_path):
    made = own_certificate(tmp_path)
    assert own_certificate(tmp_path) == made and made.key.stat().st_mode & 0o77 == 0
    colons = ":".join(made.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    assert read_fingerprint(colons) == made.fingerprint
    for wrong in ("", "ab", "x" * 64, made.fingerprint[:-1]):
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            read_fingerprint(wrong)
    made.key.chmod(0o640)
    with pytest.raises(ConfigError, match="read by others"):
        own_certificate(tmp_path)
    made.key.chmod(0o600)
    made.key.write_text("damaged")
    with pytest.raises(ConfigError, match="damaged"):
        own_certificate(tmp_path)


def test_a_file_with_the_token_of_another_machine_is_held_to_the_same(tmp_path):
    file = tmp_path / "robot7"
    file.write_text(GOOD)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others"):
        read_secret(file, "ask for it")
