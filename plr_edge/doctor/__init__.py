"""Doctor: checks what this machine has, what is broken or could be better, and how to fix it.

Each check is a row of rules over what was found. `examine` collects that and applies the rules.
Packages are tried in child processes, so one that crashes or hangs is a finding. Nothing heavy is
imported here.
"""
