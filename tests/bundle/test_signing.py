import shutil

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import BundleError, ConfigError, StateError
from plr_edge.runtime.session import Session

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A private and a public key, and another public one, as PEM files."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "other"):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def signed(keys, tmp_path_factory, plr_edge):
    folder = tmp_path_factory.mktemp("signed")
    for release in (1, 2):
        done = plr_edge(
            "export", "--input-size", "64", "--sign", str(keys / "ours.pem"),
            "--release", str(release), "-o", str(folder / str(release)),
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    return folder


def test_a_signed_bundle_opens_with_its_key_and_no_other(signed, keys):
    assert open_bundle(signed / "1", keys / "ours.pub").trusted
    assert not open_bundle(signed / "1").trusted
    with pytest.raises(BundleError, match="not signed by"):
        open_bundle(signed / "1", keys / "other.pub")
    with pytest.raises(ConfigError, match="not a public key"):
        open_bundle(signed / "1", keys / "ours.pem")
    with pytest.raises(ConfigError, match="not a public key"):
        open_bundle(signed / "1", keys / "missing.pub")


def test_any_changed_bit_of_manifest_or_signature_is_refused(signed, keys, tmp_path):
    folder = tmp_path / "b"
    shutil.copytree(signed / "1", folder)
    for name in ("manifest.json", "manifest.sig"):
        data = (folder / name).read_bytes()
        for at in range(len(data)):
            changed = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
            (folder / name).write_bytes(changed)
            with pytest.raises(BundleError, match="not signed by"):
                open_bundle(folder, keys / "ours.pub")
        (folder / name).write_bytes(data)
    (folder / "manifest.sig").unlink()
    with pytest.raises(BundleError, match="is not signed"):
        open_bundle(folder, keys / "ours.pub")


def test_a_state_does_not_go_back_to_an_older_release(signed, keys, tmp_path):
    old, new = (open_bundle(signed / n, keys / "ours.pub") for n in ("1", "2"))
    assert old.frozen_sha256 == new.frozen_sha256
    Session(old, tmp_path / "s").close()
    Session(new, tmp_path / "s").close()
    with pytest.raises(StateError, match=r"release 1.*has seen 2"):
        Session(old, tmp_path / "s")


def test_the_command_line_takes_a_key(signed, keys, tmp_path, plr_edge):
    adapt = ("adapt", str(signed / "1"), "demo", "--limit-per-class", "2",
             "--state", str(tmp_path / "s"), "--trust")  # fmt: skip
    assert plr_edge(*adapt, str(keys / "ours.pub")).exit_code == 0
    refused = plr_edge(*adapt, str(keys / "other.pub"))
    assert refused.exit_code == 2 and "not signed by" in refused.output
