"""Which configuration keeps within a budget: configurations, their costs, trials of accuracy."""
