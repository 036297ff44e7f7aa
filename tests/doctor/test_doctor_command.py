"""`plr-edge doctor`: exit codes, JSON, a bundle and a state; nothing heavy in its own process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.doctor import examine as examination
from plr_edge.doctor.probing import run_probe
from plr_edge.store import LEARNED, Label, Store


def only(*probes: str):
    """Ask these probes for real, and let the rest be whole."""
    return lambda name, *given: run_probe(name, *given) if name in probes else {"version": "2.3"}


@pytest.fixture
def learned(bundle_path: Path, tmp_path: Path) -> Path:
    """A state of two labels and one generation."""
    bundle, path = open_bundle(bundle_path), tmp_path / "learned"
    label = Label(name="mug", predicted="", source="x", time_ns=1, status=LEARNED,
                  record=np.zeros(9, np.uint8), taps=np.zeros(4, np.float16))  # fmt: skip
    with Store(path) as store:
        store.facts.keep(identity={"bundle": bundle.name, "frozen_sha256": bundle.frozen_sha256})
        store.teach([label, label])
        store.commit_generation(
            {"classes": ["mug"]}, {"adaptive": {"w": np.ones((2, 2), np.float32)}}
        )
    return path


def findings(bundle: Path | None, state: Path | None = None) -> dict:
    found = examination.examine(bundle, state, probe=only("bundle", "state"))
    return {one.name: one for one in found}


def test_bundle_and_state_that_are_whole_run_here(bundle_path: Path, learned: Path) -> None:
    found = findings(bundle_path, learned)
    assert found["bundle"].status == "ok"
    assert found["bundle"].found == "mobilenet_v2 cut before block14 (fp32) is intact and runs"
    assert found["state"].status == "ok" and "2 labels, 1 generations" in found["state"].found


def test_flipped_byte_of_a_bundle_is_named(bundle_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_path, copy)
    data = bytearray((copy / "frozen.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "frozen.onnx").write_bytes(data)
    found = findings(copy)["bundle"]
    assert found.status == "broken" and "frozen.onnx does not match its sha256" in found.found
    assert found.fix == "copy or export the bundle again"


def test_damaged_state_is_named(learned: Path) -> None:
    (file,) = (learned / "generations").glob("*.adaptive.*")
    file.write_bytes(file.read_bytes()[:-1])
    found = findings(None, learned)["state"]
    assert found.status == "broken" and "damaged" in found.found
    assert found.fix == f"plr-edge repair {learned}"


def test_state_of_another_frozen_part_is_named(bundle_path: Path, learned: Path) -> None:
    def probe(name: str, *given: str) -> dict:
        answer = only("bundle", "state")(name, *given)
        return answer | ({"frozen_sha256": "of another"} if name == "bundle" else {})

    found = {one.name: one for one in examination.examine(bundle_path, learned, probe=probe)}
    assert found["state"].status == "broken" and "another frozen part" in found["state"].found


def test_state_in_use_is_left_alone(learned: Path) -> None:
    with Store(learned):
        found = findings(None, learned)["state"]
    assert found.status == "advice" and "is in use by process" in found.found


def test_exit_code_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plr_edge) -> None:
    examine = examination.examine
    monkeypatch.setattr(
        examination, "examine", lambda *given: examine(*given, probe=only("bundle"))
    )
    result = plr_edge("doctor", str(tmp_path / "none"), "--json")
    facts = json.loads(result.output)
    assert result.exit_code == 1 and facts["n_broken"] >= 1
    (bundle,) = [one for one in facts["findings"] if one["name"] == "bundle"]
    assert bundle["status"] == "broken" and "no manifest.json" in bundle["found"]
    assert bundle["mend"] == "make one with `plr-edge export`"
    people = plr_edge("doctor", str(tmp_path / "none"))
    assert people.exit_code == 1 and "How to fix what is broken:" in people.output
    assert plr_edge("doctor", "--state").exit_code == 2


def test_doctor_runs_here_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom plr_edge.cli import cli\n"
        "result = cli.main(['doctor', '--json'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'cv2', 'tensorrt'} & set(sys.modules)\n"
        "print(result, sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    facts = json.loads(done.stdout)
    assert done.stderr.strip() == f"{min(facts['n_broken'], 1)} []"
    named = {one["name"]: one for one in facts["findings"]}
    assert named["torch"]["status"] == named["ONNX Runtime"]["status"] == "ok"
    assert {"board", "Python", "NumPy", "memory", "disk", "power rails"} <= set(named)
    assert all(one["mend"] for one in named.values() if one["status"] in ("broken", "advice"))
