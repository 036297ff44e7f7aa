import pytest

from plr_edge.meters import cpu_quota

TREES = {
    "version 2": ("0::/robot/app\n", {"fs/cgroup/robot/app/cpu.max": "50000 100000\n"}, 0.5),
    "version 2, parent is tighter": (
        "0::/a/b\n",
        {"fs/cgroup/a/b/cpu.max": "200000 100000", "fs/cgroup/a/cpu.max": "150000 100000"},
        1.5,
    ),
    "version 2, none": ("0::/a\n", {"fs/cgroup/a/cpu.max": "max 100000"}, None),
    "version 1": (
        "5:memory:/x\n4:cpu,cpuacct:/a\n",
        {
            "fs/cgroup/cpu/a/cpu.cfs_quota_us": "25000",
            "fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
        },
        0.25,
    ),
    "version 1, none": (
        "4:cpu:/a\n",
        {"fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1", "fs/cgroup/cpu/a/cpu.cfs_period_us": "100000"},
        None,
    ),
    "nothing there": ("", {}, None),
}


@pytest.mark.parametrize("name", TREES)
def test_the_tightest_quota_is_found(name, tmp_path):
    lines, files, expected = TREES[name]
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(lines)
    for path, text in files.items():
        file = tmp_path / "sys" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cpu_quota(tmp_path / "proc", tmp_path / "sys") == expected
