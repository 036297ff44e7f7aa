"""Rules about meters: rails of the board, RAPL, NVML, temperatures."""

from __future__ import annotations

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok
from plr_edge.files import read_text
from plr_edge.meters import read_temperatures_c
from plr_edge.meters.base import PowerMeter
from plr_edge.meters.hwmon import DRIVERS, find_ina3221
from plr_edge.meters.rapl import HOW_TO_ALLOW, UDEV_RULE, find_rapl

_LET_IN = (
    'sudo groupadd -rf power && sudo usermod -aG power "$USER" && '
    f"echo '{UDEV_RULE}' | sudo tee /etc/udev/rules.d/60-powercap.rules && "
    "sudo udevadm control --reload && "
    "sudo udevadm trigger --subsystem-match=powercap --action=add  # and log in again"
)


def _no_rails(setup: Setup) -> Finding | None:
    if isinstance(find_ina3221(setup.root / "sys", interval_s=None), PowerMeter):
        return None
    if setup.board is None or not setup.board.rails:
        return absent("this machine has no rails that can be read; `run --power` needs a meter")
    names = [read_text(path) or "" for path in setup.root.glob("sys/class/hwmon/*/name")]
    fallback = (
        "; tegrastats stands in for them" if (setup.root / "usr/bin/tegrastats").exists() else ""
    )
    found = f"{setup.board.title} has {', '.join(setup.board.rails)}, but "
    if any(name in DRIVERS for name in names):
        return broken(f"{found}none of them can be read{fallback}", _readable(setup))
    return broken(f"{found}no INA3221 or INA238 is seen below /sys{fallback}", _readable(setup))


def _readable(setup: Setup) -> str:
    if setup.in_container:
        return "add `-v /sys:/sys:ro` to `docker run`"
    return "sudo modprobe ina3221 && ls /sys/class/hwmon/*/in*_label  # dmesg says why, where not"


def _rails_missing(setup: Setup) -> Finding | None:
    meter = find_ina3221(setup.root / "sys", interval_s=None)
    assert isinstance(meter, PowerMeter)
    missing = [r for r in (setup.board.rails if setup.board else ()) if r not in meter.rails]
    if not missing:
        return None
    no_total = "" if meter.has_total else "; without it there is no total, so no `run --power`"
    return broken(
        f"{', '.join(missing)} cannot be read, of {', '.join(meter.rails)}{no_total}",
        _readable(setup),
    )


def _rails(setup: Setup) -> Finding | None:
    meter = find_ina3221(setup.root / "sys", interval_s=None)
    assert isinstance(meter, PowerMeter)
    total = "+".join(meter.total_rails) or "none"
    return ok(f"{', '.join(meter.rails)}; total: {total} ({meter.notes[0]})")


def _no_rapl(setup: Setup) -> Finding | None:
    if next(setup.root.glob("sys/class/powercap/intel-rapl*"), None) is not None:
        return None
    if setup.facts["arch"] != "x86_64":
        return absent("for x86 only")
    return absent("no counter below /sys/class/powercap, as in a virtual machine or a container")


def _rapl_locked(setup: Setup) -> Finding | None:
    meter = find_rapl(setup.root / "sys", interval_s=None)
    if isinstance(meter, PowerMeter):
        return None
    if HOW_TO_ALLOW not in meter:
        return absent(meter.removeprefix("rapl: "))
    return advice("the processor counts its energy, but only root may read it", _LET_IN)


def _rapl(setup: Setup) -> Finding | None:
    meter = find_rapl(setup.root / "sys", interval_s=None)
    assert isinstance(meter, PowerMeter)
    return ok(f"{', '.join(meter.rails)}; {meter.notes[0]}")


def _nvml_not_needed(setup: Setup) -> Finding | None:
    if setup.has_gpu and not setup.is_jetson:
        return None
    if setup.is_jetson:
        return absent("a Jetson answers no power by NVML; its rails do")
    return absent("no NVIDIA GPU")


def _nvml_missing(setup: Setup) -> Finding | None:
    if setup.answer("nvml").get("found") is not False:
        return None
    return advice(
        "nvidia-ml-py is not installed, so the GPU's energy is not measured",
        f"{setup.pip} install 'plr-edge[gpu]'",
    )


def _nvml_fails(setup: Setup) -> Finding | None:
    answer = setup.answer("nvml")
    reason = answer.get("error") or answer.get("reason")
    if not reason:
        return None
    return broken(f"NVML does not answer: {reason}", "nvidia-smi  # says why")


def _nvml(setup: Setup) -> Finding | None:
    return ok(f"{', '.join(setup.answer('nvml').get('rails', []))}: the GPU's energy is measured")


def _temperatures(setup: Setup) -> Finding | None:
    zones_c = read_temperatures_c(setup.root / "sys")
    if not zones_c:
        return absent("no thermal zone can be read, so `run --max-temp` is refused")
    hottest = max(zones_c, key=lambda zone: zones_c[zone])
    return ok(f"{zones_c[hottest]:.0f} C at {hottest}, the hottest of {len(zones_c)} zones")


CHECKS: dict[str, tuple[Rule, ...]] = {
    "power rails": (_no_rails, _rails_missing, _rails),
    "RAPL": (_no_rapl, _rapl_locked, _rapl),
    "NVML": (_nvml_not_needed, _nvml_missing, _nvml_fails, _nvml),
    "temperature": (_temperatures,),
}
