"""Which configuration keeps to a budget: candidates, their cost, and trials of their accuracy."""
