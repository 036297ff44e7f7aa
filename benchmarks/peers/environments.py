"""Virtual environments for peers: made once, beside the results. Knows pip, no method."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]
_CHECKOUT = Path(__file__).parents[2]
_LIMIT_S = 1800


class PeerMissing(Exception):
    """A peer that cannot be installed here; its row says why."""


@dataclass(frozen=True)
class Peer:
    """A package to compare with.

    Attributes:
        name: its methods are run by `run_NAME.py` beside this file.
        needs: requirements, installed with what they need.
        alone: requirements installed without, since they ask for another torch or much more.
    """

    name: str
    needs: tuple[str, ...]
    alone: tuple[str, ...] = ()


PEERS = {
    peer.name: peer
    for peer in (
        # wandb, gdown, tensorboard and matplotlib are imported at the top of its modules
        Peer("avalanche", ("dill", "gdown", "gputil", "matplotlib", "qpsolvers", "scikit-learn",
                           "setuptools<81", "tensorboard", "torchmetrics", "tqdm", "wandb"),
             ("avalanche-lib==0.6.0", "pytorchcv", "torchvision")),
        Peer("capymoa", ("capymoa==0.15.1",), ("torchvision",)),
        Peer("river", ("river>=0.21",)),
    )
}  # fmt: skip


def python_of(peer: Peer, folder: Path, say: Say) -> Path:
    """Return the Python of a peer's environment, made on the way if it is not there.

    What this Python has installed (torch, NumPy) stands behind what the peer installs for itself,
    so that a second torch is not downloaded.

    Raises:
        PeerMissing: it cannot be installed here.
    """
    python, done = folder / "bin" / "python", folder / "installed"
    if done.is_file():
        return python
    say(f"installing {peer.name} into {folder}")
    venv.create(folder, with_pip=True, clear=True)
    places = [sysconfig.get_path("purelib"), str(_CHECKOUT)]
    (next((folder / "lib").glob("python*")) / "site-packages" / "zz-behind.pth").write_text(
        "\n".join(places) + "\n"
    )
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *peer.needs])
    if peer.alone:
        _run([*pip, "--no-deps", *map(_matching, peer.alone)])
    done.touch()
    return python


def _matching(requirement: str) -> str:
    """Name the torchvision that belongs to the torch that is installed: 2.13 -> 0.28."""
    if requirement != "torchvision":
        return requirement
    _, minor = importlib.metadata.version("torch").split(".")[:2]
    return f"torchvision==0.{int(minor) + 15}.*"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"pip took more than {_LIMIT_S} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.splitlines() or ["pip failed"])[-1]
        raise PeerMissing(f"{' '.join(reason.split())[:200]} (Python {sys.version.split()[0]})")
