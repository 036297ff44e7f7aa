"""Other people's packages, run in virtual environments of their own on our features.

`run_*.py` are run by a peer's Python, and import nothing of plr-edge but `exchange`.
"""
