import pytest

from plr_edge.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s") as opened:
        yield opened
