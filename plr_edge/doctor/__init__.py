"""Doctor: what this machine has, what of it is broken or could be better, and what mends it.

Each check is a row of rules over what was found; `examine` asks and judges. Packages are tried in
child processes, so that one which crashes or hangs is a finding; here nothing heavy is imported.
"""
