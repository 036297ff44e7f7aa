"""Runs under the preloaded shim: faults, kills and power cuts of a store.

driver.py SHIM sweep ACTION AGAIN EVERY [FIRST]   fail (and AGAIN times more) or kill at every call
driver.py SHIM commands ACTION AGAIN EVERY   the same in undo, forget, rollback, confirm and repair
driver.py SHIM command-cuts SHARE SEED [BROKEN]   power cuts in these
driver.py SHIM nested EVERY STEP             kill; kill the recovery, and that of this, everywhere
driver.py SHIM kills N SEED                  kill at random instants, on one directory
driver.py SHIM cuts N SEED [BROKEN]          states that a power cut may leave, about N of them
driver.py SHIM nested-cuts N STEP SEED       cut the recovery of N of these, and that of this
driver.py SHIM bundle-cuts SHARE SEED        power cuts while a bundle is replaced
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path

import cutting
import faulting


def main() -> None:
    shim, command = ctypes.CDLL(sys.argv[1]), sys.argv[2]
    words = sys.argv[3:]
    numbers = [int(word) for word in words if word.isdigit()]
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        root = Path(folder)
        runs = {
            "sweep": lambda: faulting.sweep(shim, root, words[0], *numbers),
            "commands": lambda: faulting.sweep_commands(shim, root, words[0], *numbers),
            "nested": lambda: faulting.nested(shim, root, *numbers),
            "kills": lambda: faulting.kills(root, *numbers),
            "cuts": lambda: cutting.cuts(shim, root, *numbers, *words[2:]),
            "command-cuts": lambda: cutting.command_cuts(
                shim, root, float(words[0]), *numbers, *words[2:]
            ),
            "bundle-cuts": lambda: cutting.bundle_cuts(
                shim, root, float(words[0]), *numbers, *words[2:]
            ),
            "nested-cuts": lambda: cutting.nested_cuts(shim, root, *numbers),
        }
        facts = runs[command]()
    print(json.dumps(facts), file=sys.stderr)


if __name__ == "__main__":
    main()
