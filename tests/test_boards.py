"""Board data, and which board a machine says it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_boards import BUILDERS, documented, make_board

from plr_edge.boards import boards, detect_board, find_jetpack, jetpacks, load_board
from plr_edge.errors import ConfigError
from plr_edge.meters import describe_machine

GIB_KB = 1 << 20


def tree(root: Path, model: str = "", compatible: str = "", mem_kb: int = 0) -> Path:
    """Make what `detect_board` reads; the device tree ends its strings with NUL."""
    (root / "proc/device-tree").mkdir(parents=True)
    if model:
        (root / "proc/device-tree/model").write_text(f"{model}\0")
    if compatible:
        (root / "proc/device-tree/compatible").write_text(f"{compatible}\0")
    if mem_kb:
        (root / "proc/meminfo").write_text(f"MemTotal:  {mem_kb} kB\n")
    return root


@pytest.mark.parametrize(
    ("model", "compatible", "mem_kb", "name"),
    [
        ("NVIDIA Jetson Nano Developer Kit", "", 4_059_288, "jetson-nano"),
        ("NVIDIA Jetson Nano 2GB Developer Kit", "", 2_027_000, "jetson-nano-2gb"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "", 7_770_000, "xavier-nx"),
        ("Jetson-AGX", "nvidia,p2972-0000\0nvidia,p2888-0001", 0, "agx-xavier"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "", 3_700_000, "orin-nano-4gb"),
        ("NVIDIA Orin Nano Developer Kit", "", 7_600_000, "orin-nano-8gb"),
        ("a carrier of our own", "nvidia,p3768-0000+p3767-0004", 0, "orin-nano-4gb"),
        ("a carrier of our own", "nvidia,p3768-0000+p3767-0005", 0, "orin-nano-8gb"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "", 0, "orin-nx"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "", 0, "agx-orin"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "", 0, "agx-thor"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", 0, "raspberry-pi-5"),
    ],
)
def test_board_is_recognised(
    tmp_path: Path, model: str, compatible: str, mem_kb: int, name: str
) -> None:
    board = detect_board(tree(tmp_path, model, compatible, mem_kb))
    assert board is not None and board.name == name


@pytest.mark.parametrize(
    ("model", "mem_kb"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", 0),  # 4 or 8 GB: nobody says
        ("NVIDIA Jetson Orin Nano Developer Kit", 16 * GIB_KB),
        ("NVIDIA Jetson TX2", 8 * GIB_KB),
        ("Raspberry Pi 4 Model B Rev 1.4", 4 * GIB_KB),
        ("", 8 * GIB_KB),
    ],
)
def test_board_is_never_guessed(tmp_path: Path, model: str, mem_kb: int) -> None:
    assert detect_board(tree(tmp_path, model, mem_kb=mem_kb)) is None


def test_x86_is_recognised_without_a_device_tree(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    board = detect_board(tmp_path)
    assert board is not None and board.name == "desktop"


def test_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(ConfigError) as error:
        load_board("jetson-tx2")
    assert all(board.name in str(error.value) for board in boards())
    assert load_board("agx-orin").title == "Jetson AGX Orin"


def test_total_is_part_of_the_rails_and_power_is_budgeted_only_where_it_is_measured() -> None:
    for board in boards():
        assert set(board.total_rails) <= set(board.rails), board.name
        assert (board.budget.power_w is not None) == bool(board.total_rails), board.name
        if board.budget.power_w is not None:
            assert board.budget.power_w <= max(documented(board.name)["power_modes_w"]), board.name


def test_tensorrt_needs_a_jetpack_with_python_3_10() -> None:
    able = {board.name for board in boards() if board.runs_tensorrt}
    assert able == {"orin-nano-4gb", "orin-nano-8gb", "orin-nx", "agx-orin", "agx-thor"}
    assert able == {board.name for board in boards() if board.engine == "tensorrt"}
    assert [release.name for release in jetpacks() if not release.runs_tensorrt] == ["4.6", "5.1"]


@pytest.mark.parametrize("name", BUILDERS)
def test_tree_of_a_board_is_recognised_as_that_board(tmp_path: Path, name: str) -> None:
    board = detect_board(make_board(name, tmp_path).root)
    assert board is not None and board.name == name


def test_every_board_has_a_tree() -> None:
    assert set(BUILDERS) == {board.name for board in boards()}


@pytest.mark.parametrize(
    ("l4t", "name"),
    [("36.4.3", "6.1"), ("36.3.0", "6.0"), ("32.7.4", "4.6"), ("35.4.1", "5.1"), ("38.2.0", "7.0"),
     ("39.2.1", "7.2"), ("36.40.1", None), ("34.1", None), ("", None)],
)  # fmt: skip
def test_jetpack_is_found_by_l4t(l4t: str, name: str | None) -> None:
    found = find_jetpack(l4t)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("name", BUILDERS)
def test_jetpack_of_a_tree_is_one_that_runs_on_its_board(tmp_path: Path, name: str) -> None:
    fake = make_board(name, tmp_path)
    l4t = describe_machine(fake.root).get("l4t_release")
    assert (l4t is not None) == bool(fake.board.jetpacks)
    assert l4t is None or find_jetpack(str(l4t)) in fake.board.jetpacks
