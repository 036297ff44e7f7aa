"""Rules about a bundle and a state: are they whole, do they run here, do they belong together."""

from __future__ import annotations

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok


def _bundle_fails(setup: Setup) -> Finding | None:
    return _told(setup, "bundle", "plr-edge export -o bundle")


def _told(setup: Setup, probe: str, otherwise: str) -> Finding | None:
    """Return the error of a probe; our own errors end with what mends them."""
    error = setup.answer(probe).get("error")
    if error is None:
        return None
    found, _, mend = str(error).rpartition("; ")
    return broken(found, mend) if found else broken(str(error), otherwise)


def _unsigned_on_jetson(setup: Setup) -> Finding | None:
    answer = setup.answer("bundle")
    if answer.get("precision") != "int8 u8s8" or not setup.answer("tensorrt").get("found"):
        return None
    return advice(
        f"{answer['bundle']} is whole and runs, but TensorRT refuses its int8 u8s8",
        "plr-edge export --precision int8 --int8-profile s8s8 -o bundle",
    )


def _bundle(setup: Setup) -> Finding | None:
    answer = setup.answer("bundle")
    return ok(f"{answer['bundle']} ({answer['precision']}) is whole and runs") if answer else None


def _state_in_use(setup: Setup) -> Finding | None:
    error = str(setup.answer("state").get("error", ""))
    if "is in use by process" not in error:
        return None
    found, _, mend = error.partition("; ")
    return advice(f"{found}, so it was not read", mend)


def _state_not_there(setup: Setup) -> Finding | None:
    error = str(setup.answer("state").get("error", ""))
    found, _, mend = error.partition("; ")
    return absent(found, mend) if "holds no state" in found else None


def _state_fails(setup: Setup) -> Finding | None:
    return _told(setup, "state", "plr-edge repair STATE")


def _state_damaged(setup: Setup) -> Finding | None:
    damage = setup.answer("state").get("damage")
    if not damage:
        return None
    more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
    return broken(f"damaged: {damage[0]}{more}", f"plr-edge repair {setup.state}")


def _state_of_another_bundle(setup: Setup) -> Finding | None:
    state, bundle = setup.answer("state"), setup.answer("bundle")
    digests = state.get("frozen_sha256"), bundle.get("frozen_sha256")
    if None in digests or digests[0] == digests[1]:
        return None
    return broken(
        f"learned with another frozen part ({state['bundle']}) than that of this bundle "
        f"({bundle['bundle']})",
        "take the bundle that it was learned with, or another --state",
    )


def _state(setup: Setup) -> Finding | None:
    answer = setup.answer("state")
    if not answer:
        return None
    return ok(
        f"whole: {answer['n_labels']} labels, {answer['n_generations']} generations, learned with "
        f"{answer['bundle']}"
    )


CHECKS: dict[str, tuple[Rule, ...]] = {
    "bundle": (_bundle_fails, _unsigned_on_jetson, _bundle),
    "state": (
        _state_in_use,
        _state_not_there,
        _state_fails,
        _state_damaged,
        _state_of_another_bundle,
        _state,
    ),
}
