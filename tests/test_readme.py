"""The Python of the README runs as it stands there."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs_and_is_right(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    prequential, *lines = capsys.readouterr().out.splitlines()
    assert 0.5 < float(prequential) <= 1.0
    pairs = [line.split() for line in lines]
    assert len(pairs) == 216
    assert sum(a == b for a, b in pairs) / len(pairs) >= 0.95
