"""Files as they are read: whole, and without asking for more memory than they hold."""

import tracemalloc

import pytest

from plr_edge.files import read_regular


def test_reading_a_small_file_asks_for_little_memory(tmp_path):
    """A regression: the largest size allowed was reserved, a gigabyte, for every file."""
    (tmp_path / "a").write_bytes(b"0123456789")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "a") == b"0123456789"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_or_none_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for file, most in ((tmp_path / "a", 9), (tmp_path / "link", 100), (tmp_path, 100)):
        with pytest.raises(OSError):
            read_regular(file, most)
