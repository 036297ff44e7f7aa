"""Progressive Latent Replay: the schedule, the latent memory and its codec, and the learner."""
