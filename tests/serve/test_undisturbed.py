"""Who teaches waits for no work of others: not their bodies, their pictures nor their questions."""

import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.serve import gets, limits
from plr_edge.serve.api import make_app
from tests.serve.robots import ADMIN, TOKEN, in_base64


def taught(client, frame, **more):
    began = time.monotonic()
    image = in_base64(frame.image)
    body = {"label": "a", "images": [image] * (1 + (80 << 10) // len(image)), **more}
    answered = client.post("/teach", json=body, headers=ADMIN)
    assert answered.status_code == 200, answered.text
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["bodies", "pictures"])
def test_teaching_goes_on_while_work_of_others_hangs(robot, demo_frames, monkeypatch, kind):
    wake, begun = threading.Event(), threading.Event()

    def hanging(work, names):
        def act(*arguments):
            if threading.current_thread().name.startswith(names):
                begun.set()
                wake.wait(60)
            return work(*arguments)

        return act

    monkeypatch.setattr(limits, "parse", hanging(limits.parse, "open bodies"))
    monkeypatch.setattr(gets, "jpeg", hanging(gets.jpeg, "pictures"))
    client = TestClient(make_app(robot, TOKEN))
    image = in_base64(demo_frames[0].image)
    large = {"images": [image] * (1 + (80 << 10) // len(image))}
    robot.call(lambda: robot.requests.predict([demo_frames[0].image])).result(20)
    robot.put(demo_frames[0])
    end = time.monotonic() + 20
    while robot.latest is None and time.monotonic() < end:
        time.sleep(0.01)
    with client:  # one loop for all requests
        others = [
            threading.Thread(
                target=(lambda: client.post("/predict", json=large))
                if kind == "bodies"
                else (lambda: client.get("/frame.jpg")),
                daemon=True,
            )
            for _ in range(12)
        ]
        for each in others:
            each.start()
        assert begun.wait(20)
        try:
            for _ in range(2):  # the second is answered from the state
                assert taught(client, demo_frames[1], key="k") < 5
        finally:
            wake.set()
            for each in others:
                each.join(60)


def test_a_change_goes_before_the_questions_that_wait(robot):
    gate, order = threading.Event(), []
    robot.call(lambda: gate.wait(20), changes=False)
    asked = [robot.call(lambda n=n: order.append(n), changes=False) for n in range(8)]
    changed = robot.call(lambda: order.append("teach"))
    gate.set()
    for each in (*asked, changed):
        each.result(20)
    assert order == ["teach", *range(8)]
