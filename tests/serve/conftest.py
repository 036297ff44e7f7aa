"""What tests of the HTTP interface share."""

import pytest


@pytest.fixture
def robot(bundle_path, tmp_path):
    """A robot of its own for each test, without a source."""
    from tests.serve.robots import running

    with running(bundle_path, tmp_path / "s") as made:
        yield made
