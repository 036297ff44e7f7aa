"""What several tests do with a session."""

import numpy as np


def observe(session, frames, size=8):
    """Teach frames, some at a time; returns what was answered."""
    return [
        p for i in range(0, len(frames), size) for p in session.observe_many(frames[i : i + size])
    ]


def share_right(perception, frames):
    answers = perception.predict_many(frames)
    return float(np.mean([a.top[0][0] == f.label for a, f in zip(answers, frames, strict=True)]))
