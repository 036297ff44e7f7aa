"""What a robot was taught, by requests with keys too, is forgotten without a trace."""

import shutil
import threading

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.store import Store
from plr_edge.stream.base import Frame

SECRET = "grandma"


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


@pytest.fixture
def running(bundle, tmp_path):
    """Start a robot on one state, and let a function ask it; returns what the function returns."""

    def run(act):
        model = OnlineModel(bundle, tmp_path / "s", LearningConfig(train_ratio=0.2))
        robot = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
        thread = threading.Thread(target=robot.run)
        thread.start()
        try:
            return act(lambda *a, **k: robot.call(lambda: robot.requests.teach(*a, **k)).result(60))
        finally:
            robot.stop()
            thread.join(60)
            model.close()

    return run


def test_a_forgotten_class_stands_in_no_file_of_the_state(
    running, bundle, bundle_path, tmp_path, demo_frames, plr_edge
):
    path = tmp_path / "s"
    names = list(dict.fromkeys(frame.label for frame in demo_frames))
    images = {n: [f.image for f in demo_frames if f.label == n] for n in names}
    hers, mug = images[names[0]], images[names[1]]

    def teach(taught):
        first = taught(SECRET, images=hers[:8], key="k1")
        second = taught("mug", images=mug[:8], key=f"{SECRET}-is-not-a-mug")
        taught(SECRET, images=hers[8:10], key=SECRET)
        taught("mug", images=hers[10:11])  # answered with her name before it is learned
        return first, second

    answers = running(teach)
    assert [answer["quarantined"] for answer in answers] == [0, 0]
    assert running(lambda taught: taught(SECRET, images=hers, key="k1")) == answers[0]

    from plr_edge.runtime.session import Session

    with Session(bundle, path, LearningConfig(train_ratio=0.2)) as session:
        session.observe_many([Frame(mug[0], "mug", 0, f"photos/{SECRET}/1.jpg", 0, b"c" * 16)])
        # as earlier versions kept it
        positions = {f"photos/{SECRET}#train": 1, "photos/mug#train": 1}
        session.store.facts.keep(positions=positions)
        session.finish()
    shutil.copy(path / "store.db", tmp_path / "copy")
    data = (path / "store.db").read_bytes()
    (path / "store.db").write_bytes(data.replace(b"SQLite", b"SQLitf"))
    assert plr_edge("repair", str(path)).exit_code == 0
    shutil.copy(tmp_path / "copy", path / "repairing.db")  # of a repair that was cut

    holding = [f for f in path.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]
    assert {f.name.split("-")[0] for f in holding} >= {"store.db", "damaged", "repairing.db"}
    assert any("facts" in f.name for f in holding)
    forgotten = plr_edge("forget", str(bundle_path), SECRET, "--state", str(path))
    assert forgotten.exit_code == 0 and "10 labels" in forgotten.stdout
    files = [f for f in path.rglob("*") if f.is_file()]
    assert [f.name for f in files if SECRET.encode() in f.read_bytes()] == []
    with Store(path) as store:
        assert {x.name for x in store.labels} == {"mug"}
        assert [x.source for x in store.labels if "jpg" in x.source] == ["photos/unknown/1.jpg"]
        assert store.facts.get("positions") == {"photos/mug#train": 1}
        assert store.requests.answers() == {}
    again = plr_edge("forget", str(bundle_path), SECRET, "--state", str(path))
    assert again.exit_code == 2 and "mug" in again.stderr
