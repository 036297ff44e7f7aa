"""Many calls in processes of their own, here or on more machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plr_edge.errors import MissingExtraError

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def in_processes(calls: list[Call], jobs: int, backend: str = "loky") -> Iterator[Any]:
    """Yield the results of calls as they come.

    Args:
        calls: function, arguments, keyword arguments; all can be pickled.
        jobs: processes at a time.
        backend: `loky` for processes here, `ray` for a cluster that `ray.init` finds.

    Raises:
        MissingExtraError: joblib or ray is not installed.
    """
    try:
        import joblib
    except ImportError:
        raise MissingExtraError(
            "the comparison needs joblib; pip install 'plr-edge[bench]'"
        ) from None
    if backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError:
            raise MissingExtraError("there is no ray; pip install 'plr-edge[cluster]'") from None
        register_ray()
    threads = {"inner_max_num_threads": 1} if backend == "loky" else {}
    with joblib.parallel_config(backend=backend, n_jobs=jobs, **threads):
        tasks = (joblib.delayed(function)(*args, **kwargs) for function, args, kwargs in calls)
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)
