"""Rules about a bundle and a state: are they intact, do they run here, do they match."""

from __future__ import annotations

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok


def _bundle_fails(setup: Setup) -> Finding | None:
    return _probe_error(setup, "bundle", "plr-edge export -o bundle")


def _probe_error(setup: Setup, probe: str, otherwise: str) -> Finding | None:
    """Return the error of a probe as a finding; the part after the last `; ` is the fix."""
    error = setup.result(probe).get("error")
    if error is None:
        return None
    found, _, fix = str(error).rpartition("; ")
    return broken(found, fix) if found else broken(str(error), otherwise)


def _unsigned_on_jetson(setup: Setup) -> Finding | None:
    result = setup.result("bundle")
    if result.get("precision") != "int8 u8s8" or not setup.result("tensorrt").get("found"):
        return None
    return advice(
        f"{result['bundle']} is intact and runs, but TensorRT refuses its int8 profile u8s8",
        "plr-edge export --precision int8 --int8-profile s8s8 -o bundle",
    )


def _bundle(setup: Setup) -> Finding | None:
    result = setup.result("bundle")
    return ok(f"{result['bundle']} ({result['precision']}) is intact and runs") if result else None


def _state_in_use(setup: Setup) -> Finding | None:
    error = str(setup.result("state").get("error", ""))
    if "is in use by process" not in error:
        return None
    found, _, fix = error.partition("; ")
    return advice(f"{found}, so it was not read", fix)


def _no_state(setup: Setup) -> Finding | None:
    error = str(setup.result("state").get("error", ""))
    found, _, fix = error.partition("; ")
    return absent(found, fix) if "holds no state" in found else None


def _state_fails(setup: Setup) -> Finding | None:
    return _probe_error(setup, "state", "plr-edge repair STATE")


def _state_damaged(setup: Setup) -> Finding | None:
    damage = setup.result("state").get("damage")
    if not damage:
        return None
    more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
    return broken(f"damaged: {damage[0]}{more}", f"plr-edge repair {setup.state}")


def _state_of_another_bundle(setup: Setup) -> Finding | None:
    state, bundle = setup.result("state"), setup.result("bundle")
    digests = state.get("frozen_sha256"), bundle.get("frozen_sha256")
    if None in digests or digests[0] == digests[1]:
        return None
    return broken(
        f"learned with another frozen part ({state['bundle']}) than this bundle's "
        f"({bundle['bundle']})",
        "use the bundle that it was learned with, or another --state",
    )


def _state(setup: Setup) -> Finding | None:
    result = setup.result("state")
    if not result:
        return None
    return ok(
        f"intact: {result['n_labels']} labels, {result['n_generations']} generations, learned with "
        f"{result['bundle']}"
    )


CHECKS: dict[str, tuple[Rule, ...]] = {
    "bundle": (_bundle_fails, _unsigned_on_jetson, _bundle),
    "state": (
        _state_in_use,
        _no_state,
        _state_fails,
        _state_damaged,
        _state_of_another_bundle,
        _state,
    ),
}
