"""Trees of /sys, /proc and /etc as each known board has them, with power that is set by hand.

`make_board("agx-orin", folder)` writes a tree and returns a `FakeBoard`; the fixture `fake_board`
of conftest.py does so below `tmp_path`. Labels, addresses and units: tables of the boards' own
kernels; voltages are round numbers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plr_edge.boards
from plr_edge.boards import Board, load_board

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def documented(name: str) -> dict[str, Any]:
    """Return the facts about a board that stand in its file for people."""
    file = Path(plr_edge.boards.__file__).with_name(f"{name}.toml")
    return tomllib.loads(file.read_text()).get("documented", {})


def write(path: Path, text: object) -> None:
    """Write a line, as the files of /sys hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@dataclass
class FakeBoard:
    """A tree that looks like a board.

    Attributes:
        name: of the board.
        root: the folder to give as `root`; `sysfs` lies in it.
        owners: the rail that needs a file; a file that no rail needs is not in it.
        values: files that hold a power, current, voltage or count, read at every sample.
    """

    name: str
    root: Path
    owners: dict[Path, str] = field(default_factory=dict)
    values: set[Path] = field(default_factory=set)
    setters: dict[str, Callable[[float], None]] = field(default_factory=dict)
    n_hwmon: int = 0

    @property
    def sysfs(self) -> Path:
        return self.root / "sys"

    @property
    def board(self) -> Board:
        return load_board(self.name)

    @property
    def rails(self) -> tuple[str, ...]:
        return tuple(self.setters)

    def set_w(self, watts: Mapping[str, float]) -> None:
        """Let the rails have this power; on a desktop, let the counters stand at these joules."""
        for rail, value in watts.items():
            self.setters[rail](value)

    def set_total_w(self, watts: float) -> None:
        """Let the rails of the total add up to this power, in equal parts."""
        for rail in self.board.total_rails:
            self.setters[rail](watts / len(self.board.total_rails))

    def set_temp_c(self, celsius: float) -> None:
        """Let every thermal zone that is not offline have this temperature."""
        for path in self.sysfs.glob("class/thermal/thermal_zone*/temp"):
            if path.is_file():
                path.write_text(f"{round(celsius * 1000)}\n")

    def files(self) -> list[Path]:
        """Return every file of the tree, each by its one real path."""
        return sorted(
            Path(folder) / name for folder, _, names in os.walk(self.root) for name in names
        )

    def own(self, rail: str, *paths: Path, values: bool = False) -> None:
        for path in paths:
            self.owners[path] = rail
            if values:
                self.values.add(path)

    def hwmon(self, driver: str, address: str) -> Path:
        """Make a chip with the two paths that lead to it on a board."""
        self.n_hwmon += 1
        device = self.sysfs / "devices/platform/i2c" / address
        chip = device / f"hwmon/hwmon{self.n_hwmon}"
        write(chip / "name", driver)
        for link, target in (
            (self.sysfs / "bus/i2c/drivers" / driver / address, device),
            (self.sysfs / f"class/hwmon/hwmon{self.n_hwmon}", chip),
        ):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        return chip

    def ina3221(self, address: str, rails: Mapping[str, int]) -> None:
        """Make a chip of three channels; `NC...` is a channel that is not connected.

        Args:
            address: bus and address, such as `1-0040`.
            rails: millivolts of each label.
        """
        chip = self.hwmon("ina3221", address)
        for index, (label, millivolts) in enumerate(rails.items(), 1):
            paths = [chip / f"{kind}{index}_{end}" for kind, end in
                     (("in", "label"), ("in", "input"), ("curr", "input"))]  # fmt: skip
            write(paths[0], label[:2] if label.startswith("NC") else label)
            write(paths[1], millivolts)
            write(paths[2], 1000)
            for alarm in ("crit", "max"):
                write(chip / f"curr{index}_{alarm}_alarm", 0)
            if label.startswith("NC"):
                continue
            self.own(label, paths[0])
            self.own(label, *paths[1:], values=True)
            self.setters[label] = lambda watts, path=paths[2], mv=millivolts: write(
                path, round(watts * 1e6 / mv)
            )
        write(chip / "in7_label", "sum of shunt voltages")
        write(chip / "in7_input", 12345)

    def ina238(self, address: str, rail: str) -> None:
        """Make the chip of Thor's carrier, whose driver gives microwatts and no label."""
        chip = self.hwmon("ina238", address)
        write(chip / "in1_input", 12000)
        path = chip / "power1_input"
        write(path, 1_000_000)
        self.own(rail, path, values=True)
        self.setters[rail] = lambda watts: write(path, round(watts * 1e6))

    def iio(self, address: str, rails: tuple[str, ...]) -> None:
        """Make the chip as JetPack 4 shows it, in milliwatts."""
        device = self.sysfs / "bus/i2c/drivers/ina3221x" / address / "iio:device0"
        for number, rail in enumerate(rails):
            label, power = device / f"rail_name_{number}", device / f"in_power{number}_input"
            write(label, rail)
            write(power, 1000)
            write(device / f"in_voltage{number}_input", 5000)
            write(device / f"in_current{number}_input", 200)
            self.own(rail, label)
            self.own(rail, power, values=True)
            self.setters[rail] = lambda watts, path=power: write(path, round(watts * 1000))

    def rapl(self, zones: Mapping[str, str], range_uj: int) -> None:
        """Make counters of joules; `set_w` sets where they stand."""
        for folder, rail in zones.items():
            path = self.sysfs / "class/powercap" / folder
            write(path / "name", rail.rpartition("/")[2])
            write(path / "energy_uj", 0)
            write(path / "max_energy_range_uj", range_uj)
            self.own(rail, path / "name")
            self.own(rail, path / "energy_uj", path / "max_energy_range_uj", values=True)
            self.setters[rail] = lambda joules, path=path: write(
                path / "energy_uj", round(joules * 1e6) % range_uj
            )

    def machine(self, model: str, compatible: str, mem_kb: int, l4t: str, vendor: str) -> None:
        """Write who the machine says it is; what is empty is not written."""
        for path, text in (("model", model), ("compatible", compatible)):
            if text:
                write(self.root / "proc/device-tree" / path, text.replace(" | ", "\0") + "\0")
        if l4t:
            major, _, revision = l4t.partition(".")
            release = f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic"
            write(self.root / "etc/nv_tegra_release", release)
        write(self.root / "proc/meminfo",
              f"MemTotal: {mem_kb} kB\nMemAvailable: {mem_kb // 2} kB")  # fmt: skip
        cores = documented(self.board.name).get("cores", 8)
        who = f"vendor_id\t: {vendor}\n" if vendor else ""
        cpuinfo = "\n".join(f"processor\t: {i}\n{who}" for i in range(cores))
        write(self.root / "proc/cpuinfo", cpuinfo)
        for i in (0, cores - 1):
            cpufreq = self.sysfs / f"devices/system/cpu/cpu{i}/cpufreq"
            khz = {"min": 729600, "max": 1510400, "cur": 1113600}
            write(cpufreq / "scaling_governor", "schedutil")
            for name, text in khz.items():
                write(cpufreq / f"scaling_{name}_freq", text)

    def thermal(self, zones: tuple[str, ...], offline: tuple[str, ...] = ()) -> None:
        """Make thermal zones; those offline cannot be read, not even by root."""
        for number, name in enumerate((*zones, *offline)):
            folder = self.sysfs / f"class/thermal/thermal_zone{number}"
            write(folder / "type", name)
            if name in offline:
                (folder / "temp").mkdir()
            else:
                write(folder / "temp", 45000)

    def jetson(self, gpu: str, modes: tuple[str, ...]) -> None:
        """Make what only Jetsons have: GPU clocks, the power mode, a fan, cooling devices."""
        device = self.sysfs / "devices/platform" / gpu
        folder = device / "devfreq" / gpu
        for name, hertz in (("cur", 306_000_000), ("min", 306_000_000), ("max", 624_750_000)):
            write(folder / f"{name}_freq", hertz)
        write(device / "load", 375)
        (folder / "device").symlink_to(device)
        link = self.sysfs / "class/devfreq" / gpu
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
        conf = "\n".join(f"< POWER_MODEL ID={i} NAME={mode} >" for i, mode in enumerate(modes))
        write(self.root / "etc/nvpmodel.conf", conf)
        write(self.root / "var/lib/nvpmodel/status", "pmode:0001")
        fan = self.hwmon("pwmfan", "pwm-fan")
        write(fan / "pwm1", 0)
        for number, kind in enumerate(("cpu-throttle-alert", "gpu-throttle-alert", "pwm-fan")):
            cooling = self.sysfs / f"class/thermal/cooling_device{number}"
            write(cooling / "type", kind)
            write(cooling / "cur_state", 0)
            write(cooling / "max_state", 3)


ORIN_ZONES = ("cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal")
ORIN_OFFLINE = ("cv0-thermal", "cv1-thermal", "cv2-thermal")
XAVIER_ZONES = ("CPU-therm", "GPU-therm", "AUX-therm", "AO-therm")


def _nano(b: FakeBoard) -> None:
    b.machine("NVIDIA Jetson Nano Developer Kit", "nvidia,p3450-0000 | nvidia,jetson-nano",
              4_059_288, "32.7.4", "")  # fmt: skip
    b.iio("6-0040", ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"))
    b.thermal(("CPU-therm", "GPU-therm", "AO-therm"))
    b.jetson("57000000.gpu", ("MAXN", "5W"))


def _nano_2gb(b: FakeBoard) -> None:
    b.machine("NVIDIA Jetson Nano 2GB Developer Kit", "nvidia,p3542-0000 | nvidia,jetson-nano",
              2_027_276, "32.7.4", "")  # fmt: skip
    b.thermal(("CPU-therm", "GPU-therm", "AO-therm"))
    b.jetson("57000000.gpu", ("MAXN", "5W"))


def _xavier_nx(b: FakeBoard) -> None:
    b.machine("NVIDIA Jetson Xavier NX Developer Kit", "nvidia,p3509-0000+p3668-0001",
              6_857_000, "35.4.1", "")  # fmt: skip
    b.ina3221("7-0040", {"VDD_IN": 5000, "VDD_CPU_GPU_CV": 5000, "VDD_SOC": 5000})
    b.thermal(XAVIER_ZONES)
    b.jetson("17000000.gv11b", ("MODE_15W_2CORE", "MODE_15W_4CORE"))


def _agx_xavier(b: FakeBoard) -> None:
    b.machine("Jetson-AGX", "nvidia,p2972-0000 | nvidia,p2888-0001", 32_690_000, "35.4.1", "")
    b.ina3221("1-0040", {"GPU": 19000, "CPU": 19000, "SOC": 19000})
    b.ina3221("1-0041", {"CV": 19000, "VDDRQ": 19000, "SYS5V": 5000})
    b.thermal(XAVIER_ZONES)
    b.jetson("17000000.gv11b", ("MAXN", "MODE_10W"))


def _orin(model: str, module: str, mem_kb: int, modes: tuple[str, ...]) -> Callable:
    def build(b: FakeBoard) -> None:
        b.machine(model, f"nvidia,p3768-0000+{module} | nvidia,{module}", mem_kb, "36.4.3", "")
        b.ina3221("1-0040", {"VDD_IN": 5000, "VDD_CPU_GPU_CV": 5000, "VDD_SOC": 5000})
        b.thermal(ORIN_ZONES, ORIN_OFFLINE)
        b.jetson("17000000.gpu", modes)

    return build


def _agx_orin(b: FakeBoard) -> None:
    b.machine("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0005",
              64_328_000, "36.4.3", "")  # fmt: skip
    b.ina3221("1-0040", {"VDD_GPU_SOC": 20000, "VDD_CPU_CV": 20000, "VIN_SYS_5V0": 5000})
    b.ina3221("1-0041", {"NC 1": 5000, "VDDQ_VDD2_1V8AO": 5000, "NC 3": 5000})
    b.thermal(ORIN_ZONES, ORIN_OFFLINE)
    b.jetson("17000000.gpu", ("MAXN", "MODE_15W"))


def _agx_thor(b: FakeBoard) -> None:
    b.machine("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008",
              125_800_000, "38.2.0", "")  # fmt: skip
    b.ina3221("2-0040", {"VDD_GPU": 12000, "VDD_CPU_SOC_MSS": 12000, "VIN_SYS_5V0": 5000})
    b.ina238("2-0044", "VIN")
    b.thermal(("cpu-thermal", "tj-thermal"), ("gpu-thermal",))
    b.jetson("gpu-gpc-0", ("MAXN", "120W"))


def _pi_5(b: FakeBoard) -> None:
    b.machine("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b | brcm,bcm2712",
              8_245_000, "", "")  # fmt: skip
    b.thermal(("cpu-thermal",))


def _desktop(b: FakeBoard) -> None:
    b.machine("", "", 32_000_000, "", "GenuineIntel")
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "package-0/core",
             "intel-rapl:0:1": "package-0/dram"}  # fmt: skip
    b.rapl(zones, range_uj=100_000_000)  # wraps within a test
    b.thermal(("x86_pkg_temp",))


BUILDERS: dict[str, Callable[[FakeBoard], None]] = {
    "jetson-nano": _nano,
    "jetson-nano-2gb": _nano_2gb,
    "xavier-nx": _xavier_nx,
    "agx-xavier": _agx_xavier,
    "orin-nano-4gb": _orin("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit",
                           "p3767-0004", 3_730_000, ("10W", "7W_AI", "7W_CPU")),
    "orin-nano-8gb": _orin("NVIDIA Jetson Orin Nano Developer Kit Super",
                           "p3767-0005", 7_620_000, ("15W", "25W", "MAXN_SUPER")),
    "orin-nx": _orin("NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
                     "p3767-0000", 15_650_000, ("MAXN", "10W", "15W")),
    "agx-orin": _agx_orin,
    "agx-thor": _agx_thor,
    "raspberry-pi-5": _pi_5,
    "desktop": _desktop,
}  # fmt: skip


def make_board(name: str, folder: Path) -> FakeBoard:
    """Write the tree of a board into a folder that is empty or not there yet."""
    fake = FakeBoard(name=name, root=folder)
    BUILDERS[name](fake)
    return fake
