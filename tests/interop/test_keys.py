"""Keys that die, the vendor's way: PyPI's websocket-client and requests, over TLS."""

import json

import pytest
import requests
import websocket
from harness import DEADLINE, by_subscription, key_of, replay

NAME = "north-monitoring"
TOPIC = "monitoring"


@pytest.fixture
def input_file(tmp_path):
    """The vendor's input file, which its client rewrites."""
    path = tmp_path / "input.json"
    customer = {"username": "a@example.com", "wsskey": key_of("north"), "topic": TOPIC}
    path.write_text(json.dumps({"customers": {NAME: customer}}))
    return path


def key_in(path):
    return json.loads(path.read_text())["customers"][NAME]["wsskey"]


def connect(feed, key):
    headers = {"Authorization": key, "Topic": TOPIC, "UserName": "a@example.com"}
    return websocket.create_connection(
        feed.url, header=headers, sslopt={"ca_certs": feed.ca}, timeout=DEADLINE
    )


def validate(feed, key):
    return requests.get(
        f"https://{feed.hostname}/streaming/token/validate",
        headers={"Authorization": key},
        verify=feed.ca,
        timeout=DEADLINE,
    )


def connect_as_the_vendor_does(feed, path):
    """If the key is refused, it is validated once, written back, and tried again."""
    try:
        return connect(feed, key_in(path))
    except websocket.WebSocketBadStatusException as refused:
        assert refused.status_code == 401
    answer = validate(feed, key_in(path))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    content = json.loads(path.read_text())
    content["customers"][NAME]["wsskey"] = answer.json()["token"]
    path.write_text(json.dumps(content))
    return connect(feed, key_in(path))


def receive_all(client, source):
    """All frames of a connection that goes on."""
    frames = by_subscription(source.frames)[NAME]
    received = [client.recv_data() for _ in frames]
    assert [data for _, data in received] == frames
    assert {opcode for opcode, _ in received} == {websocket.ABNF.OPCODE_BINARY}


def test_a_dead_key_is_renewed_and_written_back(source, input_file):
    options = ["--accounts", source.accounts, "--expire", NAME]
    with replay(source.path, *options) as feed:
        client = connect_as_the_vendor_does(feed, input_file)
        receive_all(client, source)
        client.close()
        new, old = key_in(input_file), key_of("north")
        assert new != old
        # The old one is refused, and good for no more than to ask again.
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            connect(feed, old)
        assert refused.value.status_code == 401
        for key in [old, new]:
            assert validate(feed, key).json() == {"token": new}
        # Nobody else is concerned.
        assert validate(feed, key_of("south")).json() == {"token": key_of("south")}


def test_a_key_dies_while_it_is_used_and_so_does_the_next(source, input_file, tmp_path):
    report = tmp_path / "report.json"
    options = ["--key-expires-after", "2s", "--at-expiry", "close:4001", "--report", report]
    with replay(source.path, "--accounts", source.accounts, *options) as feed:
        keys = set()
        for _ in range(2):
            client = connect_as_the_vendor_does(feed, input_file)
            keys.add(key_in(input_file))
            received = []
            while (message := client.recv_data())[0] == websocket.ABNF.OPCODE_BINARY:
                received.append(message[1])
            assert received == by_subscription(source.frames)[NAME][: len(received)] != []
            opcode, data = message
            assert opcode == websocket.ABNF.OPCODE_CLOSE
            assert (int.from_bytes(data[:2], "big"), data[2:]) == (4001, b"token expired")
            client.close()
    assert len(keys) == 2
    written = json.loads(report.read_text())
    assert [client["ending"]["kind"] for client in written["clients"]] == ["key_expired"] * 2
    of_north = [change["fate"] for change in written["keys"] if NAME in change["accounts"]]
    assert of_north == ["expired", "renewed", "expired"]


@pytest.mark.parametrize(
    ("fails", "status", "body"), [("503:maintenance", 503, "maintenance"), ("200", 200, "")]
)
def test_validation_fails(source, fails, status, body):
    options = ["--accounts", source.accounts, "--expire", NAME, "--validate-fails", fails]
    with replay(source.path, *options) as feed:
        answer = validate(feed, key_of("north"))
        assert (answer.status_code, answer.text) == (status, body)
        # And so there is no new key.
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            connect(feed, key_of("north"))
        assert refused.value.status_code == 401
