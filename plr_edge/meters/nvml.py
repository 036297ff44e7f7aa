"""Energy of NVIDIA GPUs through NVML, where it answers.

On a Jetson NVML starts and finds a device, yet answers NOT_SUPPORTED to every call for power or
energy (JetPack 6 and 7). Each metric is therefore tried before it is believed.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plr_edge.meters.base import Clock, PowerMeter
from plr_edge.meters.sampling import COUNT_EVERY_S, SAMPLE_EVERY_S, CountingMeter, IntegratingMeter

NOTE = "GPU boards only, not the machine"


def _load() -> Any | str:
    """Return the module of nvidia-ml-py, or why it cannot be used."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return "nvml: nvidia-ml-py is not installed; `pip install 'plr-edge[gpu]'`"


def _answers(
    nvml: Any, handles: dict[str, Any], call: Callable[[Any], int]
) -> tuple[dict[str, float], str]:
    """Ask every GPU; return those that answer, and the last error."""
    values: dict[str, float] = {}
    error_text = ""
    for rail, handle in handles.items():
        try:
            values[rail] = float(call(handle))
        except nvml.NVMLError as error:
            error_text = str(error)
    return values, error_text


def _handles(nvml: Any) -> dict[str, Any] | str:
    """Return the GPUs as `gpu0`, `gpu1`, ..., or why there are none."""
    try:
        nvml.nvmlInit()
        n_gpus = nvml.nvmlDeviceGetCount()
        handles = {f"gpu{i}": nvml.nvmlDeviceGetHandleByIndex(i) for i in range(n_gpus)}
    except nvml.NVMLError as error:
        return f"nvml: {error}"
    return handles or "nvml: no GPU"


def find_nvml(
    sysfs: Path = Path("/sys"),
    *,
    nvml: Any | None = None,
    threaded: bool = True,
    clock_ns: Clock = time.monotonic_ns,
) -> PowerMeter | str:
    """Return the meter, or one line that says why there is none.

    Args:
        sysfs: not used; every finder takes it.
        nvml: stands in for the module of nvidia-ml-py.
        threaded: sample in the background, as often as suits the metric.
        clock_ns: the clock, which tests replace.
    """
    nvml = _load() if nvml is None else nvml
    if isinstance(nvml, str):
        return nvml
    handles = _handles(nvml)
    if isinstance(handles, str):
        return handles
    metrics: list[tuple[Callable[[Any], int], type[Any], float]] = [
        (nvml.nvmlDeviceGetTotalEnergyConsumption, CountingMeter, COUNT_EVERY_S),  # mJ
        (nvml.nvmlDeviceGetPowerUsage, IntegratingMeter, SAMPLE_EVERY_S),  # mW
    ]
    probes = [_answers(nvml, handles, call) for call, _, _ in metrics]
    # the counter, unless only power is answered by more of the GPUs
    best = max(range(2), key=lambda i: len(probes[i][0]))
    values, _ = probes[best]
    if not values:
        return f"nvml: {len(handles)} GPU found, but power and energy answer: {probes[1][1]}"
    call, kind, default_s = metrics[best]
    meter: PowerMeter = kind(
        "nvml",
        tuple(values),
        tuple(handles),
        lambda: _answers(nvml, handles, call)[0],
        interval_s=default_s if threaded else None,
        clock_ns=clock_ns,
        notes=(NOTE, *(f"{rail} does not answer" for rail in handles if rail not in values)),
    )
    return meter
