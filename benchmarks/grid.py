"""Many calls in processes of their own, here or on more machines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from plr_edge.errors import MissingExtraError

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def in_processes(calls: list[Call], jobs: int, backend: str = "loky") -> Iterator[Any]:
    """Yield the results of calls as they come.

    Args:
        calls: function, arguments, keyword arguments; all can be pickled.
        jobs: processes at a time; a cluster uses the cores that it has.
        backend: `loky` for processes here, `ray` for a cluster that `ray.init` finds, whose
            machines see the same files.

    Raises:
        MissingExtraError: joblib or ray is not installed.
    """
    if backend == "ray":
        yield from _on_cluster(calls)
        return
    try:
        import joblib
    except ImportError:
        raise MissingExtraError(
            "the comparison needs joblib; pip install 'plr-edge[bench]'"
        ) from None
    # a process whose memory grew is replaced by a new one, which is what we want
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    with joblib.parallel_config(backend=backend, n_jobs=jobs, inner_max_num_threads=1):
        tasks = (joblib.delayed(function)(*args, **kwargs) for function, args, kwargs in calls)
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)


def _on_cluster(calls: list[Call]) -> Iterator[Any]:
    """Use Ray itself: its backend for joblib cannot give results as they come."""
    try:
        import ray
    except ImportError:
        raise MissingExtraError("there is no ray; pip install 'plr-edge[cluster]'") from None
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    waiting = [ray.remote(num_cpus=1)(_call).remote(*call) for call in calls]
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        yield ray.get(done)


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)
