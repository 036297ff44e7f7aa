"""A running robot: perception that never waits, and a trainer in a process of its own."""
