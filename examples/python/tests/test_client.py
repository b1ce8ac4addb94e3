"""A client that connects as the vendor's sample does, tested without the vendor."""

import importlib
import json
import pathlib
import subprocess
import sys

import pytest
import requests
import websocket
from central_feed import binary
from grpc_tools import protoc

REPOSITORY = pathlib.Path(__file__).parents[3]
PROTO = REPOSITORY / "proto/classic"
CAMPUS = REPOSITORY / "fixtures/campus.mcap"

# Of no account: the feed takes any key unless it is given accounts.
KEY = "synthetic-key"

# In seconds. Everything is on this machine.
DEADLINE = 30

BINARY, CLOSE = websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CLOSE


def subscribe(feed, topic, key=KEY):
    return websocket.create_connection(
        feed.url,
        header={"UserName": "me@example.com", "Authorization": key, "Topic": topic},
        sslopt={"ca_certs": feed.ca},
        timeout=DEADLINE,
    )


def receive(client):
    """All messages up to the close, and its code."""
    messages = []
    while True:
        opcode, data = client.recv_data()
        if opcode == CLOSE:
            client.close()
            return messages, int.from_bytes(data[:2], "big")
        assert opcode == BINARY
        messages.append(data)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The classes of the envelope and of a topic's payload, as protoc makes them."""
    folder = tmp_path_factory.mktemp("classes")
    files = ["streaming.proto", "audit.proto"]
    assert protoc.main(["protoc", f"-I{PROTO}", f"--python_out={folder}", *files]) == 0
    sys.path.insert(0, str(folder))
    yield importlib.import_module("streaming_pb2"), importlib.import_module("audit_pb2")
    sys.path.remove(str(folder))


@pytest.mark.central_feed(CAMPUS, once=True, expect="audit>=1")
def test_every_event_arrives_and_decodes(central_feed, classes):
    streaming, audit = classes
    messages, code = receive(subscribe(central_feed, "audit"))
    assert code == 1000

    envelopes = [streaming.MsgProto.FromString(message) for message in messages]
    assert {envelope.subject for envelope in envelopes} == {"audit"}
    events = [audit.audit_message.FromString(envelope.data) for envelope in envelopes]
    # What centralcap itself finds in the capture.
    command = [binary(), "decode", central_feed.capture, "--topic", "audit"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = [json.loads(line)["data"] for line in lines]
    assert [(event.target, event.timestamp) for event in events] == [
        (data["target"], data["timestamp"]) for data in expected
    ]


def validate(feed, key):
    """The key to go on with. The same, unless accounts are given."""
    answer = requests.get(
        f"https://{feed.hostname}/streaming/token/validate",
        headers={"Authorization": key},
        verify=feed.ca,
        timeout=DEADLINE,
    )
    answer.raise_for_status()
    return answer.json()["token"]


@pytest.mark.central_feed(CAMPUS, scenario="key-expiry")
def test_a_key_that_expires_is_validated(central_feed):
    messages, code = receive(subscribe(central_feed, "monitoring"))
    assert (len(messages), code) == (10, 1008)
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        subscribe(central_feed, "monitoring")
    assert refused.value.status_code == 401
    assert validate(central_feed, KEY) == KEY
    client = subscribe(central_feed, "monitoring")
    assert client.recv_data()[0] == BINARY
    client.close()


@pytest.mark.central_feed(CAMPUS, accounts="input.json", expire="north-audit")
def test_a_dead_key_gets_a_successor(central_feed):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        subscribe(central_feed, "audit")
    assert refused.value.status_code == 401
    successor = validate(central_feed, KEY)
    assert successor != KEY
    client = subscribe(central_feed, "audit", successor)
    assert client.recv_data()[0] == BINARY
    client.close()


@pytest.mark.central_feed(CAMPUS, scenario="half-open")
def test_a_server_that_goes_silent_is_left(central_feed):
    client = subscribe(central_feed, "monitoring")
    for _ in range(10):
        assert client.recv_data()[0] == BINARY
    # The patience of your client, which should ping meanwhile: nobody answers.
    client.settimeout(0.5)
    client.ping()
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.recv_data()
    client.shutdown()

    client = subscribe(central_feed, "monitoring")
    for _ in range(20):
        assert client.recv_data()[0] == BINARY
    client.close()


@pytest.mark.central_feed(CAMPUS, control=0)
def test_a_feed_is_stepped_through(central_feed):
    def say(command, **words):
        answer = requests.post(f"{central_feed.control}/{command}", json=words, timeout=DEADLINE)
        answer.raise_for_status()
        return answer.json()

    say("pause")
    client = subscribe(central_feed, "audit")
    say("wait", clients=1)
    say("step", frames=2)
    state = say("wait", frames=2, topic="audit")
    assert sum(state["delivered"]["audit"].values()) == 2
    for _ in range(2):
        assert client.recv_data()[0] == BINARY
    say("drop", code=1012, reason="restarting")
    assert receive(client) == ([], 1012)
