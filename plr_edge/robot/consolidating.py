"""Consolidating: when a running robot trains its blocks, at which level, and what came of it.

Every label banks a credit of multiply-adds. It is spent in one annealed cycle, once no label came
and little was to be done for a while, when the robot is charged, or when somebody asks for it. The
trainer does the steps, at the rate that the governor allows, and the publish gate decides about the
result. All methods belong to the thread of the frames.
"""

from __future__ import annotations

import logging
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from plr_edge.errors import StreamError
from plr_edge.replay.schedule import Schedule, macs_from
from plr_edge.robot.governor import Governor
from plr_edge.robot.level_choice import LevelWorth, steps_within
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.protocol import Message
from plr_edge.robot.trainer_memory import TrainerNeeds
from plr_edge.runtime.consolidation import ConsolidationBudget, recalled, remember
from plr_edge.runtime.validation import Evaluation

_log = logging.getLogger(__name__)
IDLE_S = 60.0  # without a label and with little to do
_RATIO = 1.5  # multiply-adds that a label banks, for each one of perceiving it; see level_choice
_LEAST_STEPS = 80  # at level 1, of a cycle that the robot begins by itself
_IDLE_MOST_S, _CHARGING_MOST_S = 600.0, 1800.0
_LEAST_NEW, _LEAST_NEW_SHARE = 20, 0.1  # labels since the last cycle, and their share of all


@dataclass
class _Running:
    """A cycle under way: in the trainer, and then in front of the publish gate."""

    budget: ConsolidationBudget
    asked: str
    level: int
    level_name: str
    upto: int
    child: subprocess.Popen[bytes] | None
    progress: dict[str, Any] = field(default_factory=dict)
    took: dict[str, Any] | None = None


class Consolidation:
    """At most one cycle at a time.

    Attributes:
        last: what came of the last cycle. None before the first.
        worth: what cycles at each level are worth.
        needs: memory that the trainer needs. None if it has no limit.
    """

    def __init__(self, model: OnlineModel, governor: Governor) -> None:
        """Continue with what an earlier run found out.

        Args:
            model: what is trained.
            governor: limits the rate of its steps.
        """
        kept = recalled(model.store)
        levels = model.bundle.trained_levels(model.config.window)
        self.worth = LevelWorth(macs_from(levels), kept.get("worth"))
        self.last: dict[str, Any] | None = None
        self.needs: TrainerNeeds | None = None
        self._model, self._governor = model, governor
        self._names = [level.name for level in levels]
        self._step_macs = [3 * model.trainer.batch * macs for macs in macs_from(levels)]
        self._upto = int(kept.get("upto", 0))
        self._running: _Running | None = None
        self._seq, self._quiet_since = model.last_seq, time.monotonic()
        model.evaluated = self._evaluated

    @property
    def running(self) -> bool:
        """Whether a cycle is under way."""
        return self._running is not None

    @property
    def n_new(self) -> int:
        """Labels since the last cycle."""
        return max(0, self._model.last_seq - self._upto)

    @property
    def banked_macs(self) -> float:
        """Multiply-adds that these labels have banked."""
        return _RATIO * self._model.bundle.perception_macs * self.n_new

    def facts(self) -> dict[str, Any]:
        """Return what is under way, what is banked, and what came of the last cycle."""
        run = self._running
        now = None
        if run is not None:
            left_s = run.progress.get("left_s")
            now = {
                "asked": run.asked,
                "budget": str(run.budget),
                "level": run.level_name,
                "share": round(run.progress.get("share", 0.0), 4) if run.took is None else 1.0,
                "n_steps": int(run.progress.get("n_steps", 0)),
                "left_s": None if left_s is None else round(left_s, 1),
                "phase": "training" if run.took is None else "evaluating",
            }
        return {"now": now, "banked_macs": self.banked_macs, "last": self.last}

    @property
    def text(self) -> str:
        """What is under way, in a few words. Empty if there is nothing."""
        run = self._running
        return "" if run is None else f"consolidating at {run.level_name} ({run.asked})"

    def start(self, budget: ConsolidationBudget, asked: str = "on request") -> dict[str, Any]:
        """Begin a cycle.

        Args:
            budget: what it may spend.
            asked: who asked for it.

        Raises:
            StreamError: there is nothing to train, training is paused or the trainer is not there,
                or a cycle is under way.
        """
        model = self._model
        trainer = model.trainer
        if self._running is not None:
            raise StreamError(f"{self.text}; stop it first")
        if len(model.learned.classes) < 2:
            raise StreamError("fewer than two classes are known; teach them first")
        if trainer.paused:
            raise StreamError("training is paused; resume it first")
        if not trainer.process.alive or not trainer.report:
            raise StreamError("the trainer is not up yet, or keeps dying; try again")
        schedule, level, reason = self._choose(budget)
        name = self._names[level]
        child = trainer.process.child
        self._running = _Running(budget, asked, level, name, model.last_seq, child)
        self._governor.consolidate(schedule, reason)
        trainer.consolidated = None
        trainer.consolidate(budget, schedule)
        self._tell("began", f"{asked}, {budget}, {reason}")
        return self.facts()

    def stop(self) -> dict[str, Any]:
        """End the cycle now. What it has trained answers if the publish gate agrees.

        Raises:
            StreamError: none is under way.
        """
        if self._running is None:
            raise StreamError("nothing is being consolidated")
        self._model.trainer.stop_consolidating()
        return self.facts()

    def tick(self, *, busy: bool, charging: bool) -> None:
        """Take in how far the cycle is, or begin one if it is time. Call it once a second.

        Args:
            busy: whether frames or other programs need the machine.
            charging: whether a battery is being charged.
        """
        now, model = time.monotonic(), self._model
        if model.last_seq != self._seq or (busy and not charging):
            self._seq, self._quiet_since = model.last_seq, now
        if self._running is not None:
            self._follow(self._running)
        elif now - self._quiet_since >= IDLE_S and self._is_due():
            asked = "charging" if charging else "idle"
            most_s = _CHARGING_MOST_S if charging else _IDLE_MOST_S
            macs = max(self.banked_macs, float(_LEAST_STEPS * self._step_macs[0]))
            self._quiet_since = now
            self.start(ConsolidationBudget(macs=macs, seconds=most_s), asked)

    def _is_due(self) -> bool:
        """Return whether enough was learned since the last cycle, and the trainer has caught up."""
        model = self._model
        trainer, n_taught = model.trainer, model.learned.n_taught
        if self.n_new < max(_LEAST_NEW, _LEAST_NEW_SHARE * n_taught) or trainer.paused:
            return False
        caught_up = trainer.report and not trainer.report.get("to_go")
        return bool(caught_up and trainer.process.alive and len(model.learned.classes) > 1)

    def _choose(self, budget: ConsolidationBudget) -> tuple[Schedule, int, str]:
        """Return the schedule of a cycle, its level, and why."""
        governor = self._governor
        if self._model.config.schedule != "auto":  # the user's own
            shares = governor.schedule.shares
            reason = f"as --schedule {governor.schedule.name}"
            return governor.schedule, shares.index(max(shares)), reason
        n_steps = steps_within(
            self._step_macs, governor.step_s, governor.core_share, budget.macs, budget.seconds
        )
        limit = self._model.trainer.memory_limit_bytes
        allowed = self.needs.allowed(limit) if self.needs and limit else None
        choice = self.worth.choose(self._names, n_steps, allowed)
        return choice.schedule(len(self._names)), choice.level, choice.reason

    def _follow(self, run: _Running) -> None:
        """Take in what the trainer says about a cycle."""
        trainer = self._model.trainer
        if run.took is None and trainer.consolidated is not None:
            run.took, trainer.consolidated = trainer.consolidated, None
            self._governor.end_cycle()
            if not run.took["offered"]:
                self._end(run, "training diverged" if run.took["n_steps"] else "no step was done")
            return
        if run.took is None:
            run.progress = trainer.report.get("cycle") or run.progress
        gone = trainer.process.child is not run.child or not trainer.process.alive
        if gone and (run.took is None or not (trainer.candidate or self._model.evaluating)):
            self._end(run, "interrupted: the trainer ended; nothing of it is kept")

    def _evaluated(self, message: Message, evaluation: Evaluation | None) -> None:
        """Take in the verdict of the publish gate on a candidate."""
        run = self._running
        if run is None or not message[1].get("consolidated"):
            return
        if run.took is None and self._model.trainer.consolidated is not None:
            run.took, self._model.trainer.consolidated = self._model.trainer.consolidated, None
        if run.took is None or evaluation is None:
            self._end(run, "interrupted: labels were taken back, or it could not be evaluated")
            return
        verdict = evaluation.verdict
        gain = 100 * (verdict.after - verdict.before)
        if self._model.config.schedule == "auto":
            self.worth.observe(run.level, run.took["n_steps"], gain, verdict.n)
        self._upto = max(self._upto, run.upto)
        kept = partial(remember, self._model.store, upto=self._upto, worth=self.worth.facts())
        self._model.workers.disk.submit(kept)
        outcome = "published" if verdict.passed else "refused by the publish gate"
        self._end(run, f"{outcome}: {verdict.reason}", published=verdict.passed,
                  held_out=verdict.n, before=verdict.before, after=verdict.after)  # fmt: skip

    def _end(self, run: _Running, outcome: str, *, published: bool = False, **verdict: Any) -> None:
        """Remember what came of a cycle."""
        self._running, self._quiet_since = None, time.monotonic()
        self._governor.end_cycle()
        took = run.took or {}
        self.last = {
            "asked": run.asked,
            "budget": str(run.budget),
            "level": run.level_name,
            "n_steps": took.get("n_steps", int(run.progress.get("n_steps", 0))),
            "macs": took.get("macs"),
            "seconds": took.get("seconds"),
            "stopped": bool(took.get("stopped")),
            "published": published,
            "outcome": outcome,
            **verdict,
        }
        self._tell("ended", f"{run.level_name}, {self.last['n_steps']} steps, {outcome}")

    def _tell(self, phase: str, text: str) -> None:
        _log.info("consolidation %s: %s", phase, text)
        self._model.note("consolidation", f"{phase}: {text}", phase=phase, **self.facts())
