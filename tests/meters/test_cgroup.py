import pytest

from plr_edge.meters import cpu_quota
from plr_edge.meters.cgroup import memory_left_bytes

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


MEMORY_TREES = {
    "version 2, and files that can be dropped": (
        "0::/a\n",
        {
            "fs/cgroup/a/memory.max": "400",
            "fs/cgroup/a/memory.current": "300",
            "fs/cgroup/a/memory.stat": "anon 100\ninactive_file 150\nactive_file 50\n",
        },
        250,
    ),
    "version 2, parent is tighter": (
        "0::/a/b\n",
        {
            "fs/cgroup/a/b/memory.max": "400",
            "fs/cgroup/a/b/memory.current": "100",
            "fs/cgroup/a/memory.max": "450",
            "fs/cgroup/a/memory.current": "440",
        },
        10,
    ),
    "version 2, none": (
        "0::/a\n",
        {"fs/cgroup/a/memory.max": "max", "fs/cgroup/a/memory.current": "5"},
        None,
    ),
    "version 1": (
        "4:cpu:/x\n3:memory:/a\n",
        {
            "fs/cgroup/memory/a/memory.limit_in_bytes": "400",
            "fs/cgroup/memory/a/memory.usage_in_bytes": "500",
            "fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "fs/cgroup/memory/memory.usage_in_bytes": "900",
        },
        0,
    ),
    "use is not readable": ("0::/a\n", {"fs/cgroup/a/memory.max": "400"}, None),
    "nothing there": ("", {}, None),
}


def tree(root, lines, files):
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(lines)
    for path, text in files.items():
        file = root / "sys" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "proc", root / "sys"


@pytest.mark.parametrize("name", TREES)
def test_the_tightest_quota_is_found(name, tmp_path):
    lines, files, expected = TREES[name]
    assert cpu_quota(*tree(tmp_path, lines, files)) == expected


@pytest.mark.parametrize("name", MEMORY_TREES)
def test_the_tightest_limit_says_what_memory_is_left(name, tmp_path):
    lines, files, expected = MEMORY_TREES[name]
    assert memory_left_bytes(*tree(tmp_path, lines, files)) == expected
