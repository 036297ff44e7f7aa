"""Requests that schemathesis makes up from /openapi.json: right ones, wrong ones, anything."""

import threading

import pytest

pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")

import schemathesis
from hypothesis import HealthCheck, given, settings

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.serve.api import make_app
from plr_edge.serve.auth import OPEN_POSTS, TOKEN_POSTS

TOKEN = "secret-token"
OPERATIONS = (
    "GET /classes", "GET /health", "GET /health/live", "GET /health/ready", "GET /metrics",
    "GET /frame.jpg", "GET /thumbnails/{index}.jpg",
    "GET /asked/{sequence}.jpg", "GET /", "POST /teach", "POST /predict", "POST /undo",
    "POST /rollback", "POST /save", "POST /pause", "POST /resume", "GET /health/live",
    "GET /health/ready", "GET /operations/{number}", "GET /log", "GET /quarantine", "GET /inspect",
    "GET /repair", "POST /forget", "POST /quarantine", "POST /consolidate",
    "POST /consolidate/stop",
)  # fmt: skip
WITH_BODY = (
    "POST /teach",
    "POST /predict",
    "POST /undo",
    "POST /forget",
    "POST /quarantine",
    "POST /consolidate",
)


@pytest.fixture(scope="module")
def schema(bundle_path, tmp_path_factory):
    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, tmp_path_factory.mktemp("openapi") / "s", LearningConfig())
    model.trainer.process.given_up = True  # the interface is what is tested
    robot = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
    thread = threading.Thread(target=robot.run)
    thread.start()
    yield schemathesis.openapi.from_asgi("/openapi.json", make_app(robot, TOKEN))
    assert thread.is_alive() and model.store.last_seq == model.last_seq
    robot.stop()
    thread.join(60)
    model.close()


def test_every_operation_is_described_and_tested(schema):
    described = {o.ok().label for o in schema.get_all_operations()}
    assert described == {*OPERATIONS, "GET /events"}  # which never ends


@pytest.mark.parametrize("token", [TOKEN, "wrong"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_answers_are_what_is_described_and_never_a_failure_of_its_own(schema, operation, token):
    ask(schema, operation, token, 12 if operation in WITH_BODY else 3)


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_thousand_answers_are_what_is_described(schema, operation):
    ask(schema, operation, TOKEN, 1000 if operation in WITH_BODY else 30)


def ask(schema, operation, token, n):
    found = next(o.ok() for o in schema.get_all_operations() if o.ok().label == operation)
    known = schemathesis.checks
    checks = [known.not_a_server_error, known.status_code_conformance,
              known.content_type_conformance, known.response_schema_conformance]  # fmt: skip

    @given(case=found.as_strategy())
    @settings(
        max_examples=n, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def answered(case):
        answer = case.call(headers={"Authorization": f"Bearer {token}"})
        case.validate_response(answer, checks=checks)
        assert "Traceback" not in answer.text
        if token == "wrong" and operation.startswith("POST") and operation != "POST /predict":
            assert answer.status_code == 401

    answered()


def test_every_post_is_open_or_needs_the_token_and_is_described_so(schema):
    posts = {
        path: "security" in operations["post"]
        for path, operations in schema.raw_schema["paths"].items()
        if "post" in operations
    }
    assert {path for path, needs_token in posts.items() if needs_token} == TOKEN_POSTS
    assert {path for path, needs_token in posts.items() if not needs_token} == OPEN_POSTS
