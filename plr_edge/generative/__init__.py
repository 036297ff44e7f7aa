"""Rehearsal from a generator instead of stored latents, as in the paper. Needs torch."""
