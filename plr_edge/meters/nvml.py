"""Energy of NVIDIA GPUs through NVML.

On a Jetson, NVML starts and finds a device, but returns NOT_SUPPORTED for power and energy (JetPack
6 and 7). Each metric is therefore tried before it is used.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plr_edge.meters.base import Clock, PowerMeter
from plr_edge.meters.sampling import COUNT_EVERY_S, SAMPLE_EVERY_S, CountingMeter, IntegratingMeter

NOTE = "graphics cards only, not the machine"


def _load() -> Any | str:
    """Return the module of nvidia-ml-py, or why it cannot be used."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return "nvml: nvidia-ml-py is not installed; `pip install 'plr-edge[gpu]'`"


def _answers(
    nvml: Any, handles: dict[str, Any], call: Callable[[Any], int]
) -> tuple[dict[str, float], str]:
    """Return the value of each GPU that supports a call, and the last error."""
    values: dict[str, float] = {}
    error_text = ""
    for rail, handle in handles.items():
        try:
            values[rail] = float(call(handle))
        except nvml.NVMLError as error:
            error_text = str(error)
    return values, error_text


def _handles(nvml: Any) -> dict[str, Any] | str:
    """Return the handles of the GPUs by name (`gpu0`, `gpu1`, ...), or why there are none."""
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
        sysfs: ignored; every function in `METERS` takes it.
        nvml: replaces the module of nvidia-ml-py in tests.
        threaded: sample in a background thread, at an interval that suits the metric.
        clock_ns: monotonic clock in nanoseconds; tests replace it.
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
    # the energy counter, unless more GPUs support power
    best = max(range(2), key=lambda i: len(probes[i][0]))
    values, _ = probes[best]
    if not values:
        return f"nvml: found {len(handles)} GPU, but power and energy return: {probes[1][1]}"
    call, make, default_s = metrics[best]
    meter: PowerMeter = make(
        "nvml",
        tuple(values),
        tuple(handles),
        lambda: _answers(nvml, handles, call)[0],
        interval_s=default_s if threaded else None,
        clock_ns=clock_ns,
        notes=(NOTE, *(f"{rail} cannot be read" for rail in handles if rail not in values)),
    )
    return meter
