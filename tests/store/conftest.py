import tempfile
from pathlib import Path

import pytest
from store.stores import in_memory

from plr_edge.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s") as opened:
        yield opened


@pytest.fixture
def quick_path():
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield Path(folder)
