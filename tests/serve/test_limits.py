import asyncio
import json

import pytest

from plr_edge.serve.auth import TokenCheck
from plr_edge.serve.limits import PARSED, Rate, RequestLimits, parse


def served(scope, parts, pause_s=0.0):
    """Send one request through the limits; returns status, bodies behind them, bytes read."""
    seen, sent, n_read = [], [], [0]

    async def app(scope, receive, send):
        seen.append((await receive())["body"])
        assert scope[PARSED] == json.loads(seen[-1])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    waiting = list(parts)

    async def receive():
        await asyncio.sleep(pause_s)
        part = waiting.pop(0) if waiting else b""
        n_read[0] += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    async def run():
        limits = RequestLimits(app, auth=TokenCheck("t"))
        await limits(scope, receive, send)
        assert (limits._in_flight, limits._reading_bytes) == (0, 0)

    asyncio.run(run())
    return sent[0]["status"], seen, n_read[0]


def request(path, method="POST", **headers):
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": pairs}


BODY = json.dumps({"a": 1}).encode()


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (request("/predict"), 200),
        (request("/teach"), 401),
        (request("/teach", authorization="Bearer wrong"), 401),
        (request("/teach", authorization="t"), 401),
        (request("/teach", authorization="Bearer t"), 200),
        (request("/teach/"), 404),
        (request("/etc/passwd"), 404),
        (request("/predict", method="DELETE"), 405),
        (request("/predict", content_encoding="gzip"), 415),
        (request("/predict", content_length="99999999999"), 413),
        (request("/predict", content_length="-1"), 413),
        (request("/predict", content_length="1e3"), 413),
    ],
)
def test_who_may_not_ask_is_refused_before_a_byte_is_read(scope, status):
    found, seen, n_read = served(scope, [BODY])
    assert (found, seen) == (status, [BODY] if status == 200 else [])
    assert n_read == (len(BODY) if status == 200 else 0)


def test_a_body_without_a_length_is_cut_off_where_it_grows_too_large():
    megabyte = [b"[" + b" " * (1 << 20) + b"]"]
    assert served(request("/predict"), megabyte)[0] == 413
    assert served(request("/teach", authorization="Bearer t"), megabyte)[0] == 200
    parts = [b" " * (1 << 20)] * 100
    status, _, n_read = served(request("/teach", authorization="Bearer t"), parts)
    assert status == 413 and n_read <= 10 << 20


def test_a_slow_body_is_given_up(monkeypatch):
    monkeypatch.setattr("plr_edge.serve.limits._READ_S", 0.05)
    assert served(request("/predict"), [b"["] * 100, pause_s=0.01)[0] == 408


@pytest.mark.parametrize(
    "body",
    [b"{", b"NaN", b'{"a": Infinity}', b'{"a": 1, "a": 2}', b"[" * 17 + b"]" * 17, b"\xff\xfe",
     b"[" * 100_000, b'{"a":' * 20 + b"1" + b"}" * 20],
)  # fmt: skip
def test_what_is_no_sound_json_is_refused(body):
    with pytest.raises(ValueError):
        parse(body)
    assert served(request("/predict"), [body])[0] == 400


def test_sound_json_passes_whole():
    for body in (b"[" * 16 + b"]" * 16, b'{"a": [1.5, null, "\xc3\xa9"]}', b"1"):
        assert parse(body) == json.loads(body)
    large = json.dumps({"images": ["A" * 500_000]}).encode()
    assert served(request("/predict"), [large[:1000], large[1000:]])[1] == [large]


def test_a_rate_allows_a_burst_and_then_so_many_a_second():
    now = [0.0]
    rate = Rate(10, 30, clock_s=lambda: now[0])
    assert rate.take(30) and not rate.take(1)
    assert rate.wait_s(20) == 2
    now[0] = 2.0
    assert rate.take(20) and not rate.take(1)
    now[0] = 1000.0
    assert not rate.take(31) and rate.take(30)
