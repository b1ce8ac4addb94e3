"""Faults of a replay as PyPI's websocket-client, websockets and requests meet them, over TLS."""

import asyncio
import contextlib
import json
import ssl
import time

import pytest
import requests
import websocket
import websockets.asyncio.client
import websockets.exceptions
from harness import DEADLINE, by_subscription, key_of, replay, until

KEY = key_of("north")
TOPIC = "monitoring"


@contextlib.contextmanager
def spoilt(source, tmp_path, *arguments):
    """A feed under faults, and the lines of its log so far."""
    log = tmp_path / "faults.jsonl"
    options = ["--accounts", source.accounts, "--fault-log", log]
    with replay(source.path, *options, *arguments) as feed:
        yield feed, lambda: [json.loads(line) for line in log.read_text().splitlines()[1:]]


def rules(tmp_path, text):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return "--faults", path


def connect(feed):
    headers = {"Authorization": KEY, "Topic": TOPIC}
    return websocket.create_connection(
        feed.url, header=headers, sslopt={"ca_certs": feed.ca}, timeout=DEADLINE
    )


def frames(source):
    return by_subscription(source.frames)[f"north-{TOPIC}"]


def receive(client, count):
    received = [client.recv_data() for _ in range(count)]
    assert {opcode for opcode, _ in received} == {websocket.ABNF.OPCODE_BINARY}
    return [data for _, data in received]


@contextlib.contextmanager
def third(source, tmp_path, fault, *arguments):
    """A client whose third frame meets a fault, and the log."""
    rule = f"[[rule]]\nwhen = {{ nth = 3 }}\ndo = {fault}"
    with spoilt(source, tmp_path, *rules(tmp_path, rule), *arguments) as (feed, log):
        client = connect(feed)
        yield client, log
        client.shutdown()


def on_the_wire(message):
    """A message as a server sends it."""
    frame = websockets.frames.Frame(websockets.frames.Opcode.BINARY, message)
    return frame.serialize(mask=False)


def test_a_dropped_frame_does_not_come(source, tmp_path):
    with third(source, tmp_path, '"drop"') as (client, _):
        expected = frames(source)
        assert receive(client, len(expected) - 1) == expected[:2] + expected[3:]


def test_a_duplicate_comes_again(source, tmp_path):
    with third(source, tmp_path, "{ duplicate = { times = 2 } }") as (client, _):
        first, second, twice, *rest = frames(source)
        expected = [first, second, twice, twice, twice, *rest]
        assert receive(client, len(expected)) == expected


def test_a_reordered_frame_comes_behind_others(source, tmp_path):
    with third(source, tmp_path, "{ reorder = { within = 4 } }") as (client, log):
        first, second, late, *rest = frames(source)
        received = receive(client, len(rest) + 3)
        (line,) = log()
        by = line["by"]
        assert 1 <= by <= 4
        assert received == [first, second, *rest[:by], late, *rest[by:]]


def test_a_delayed_frame_is_waited_for_with_an_answer_to_every_ping(source, tmp_path):
    begun = time.monotonic()
    fault = '{ delay = { by = "1s", jitter = "200ms" } }'
    with third(source, tmp_path, fault) as (client, log):
        expected = frames(source)
        assert receive(client, 2) == expected[:2]
        client.ping("17")
        opcode, frame = client.recv_data_frame(control_frame=True)
        assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"17")
        assert receive(client, 1) == expected[2:3]
        lasted = time.monotonic() - begun
        (line,) = log()
        assert 1.0 <= line["ns"] / 1e9 <= min(1.2, lasted)
        assert receive(client, 10) == expected[3:13]


def test_nothing_is_answered_in_a_stall(source, tmp_path):
    begun = time.monotonic()
    with third(source, tmp_path, '{ stall = { for = "500ms" } }') as (client, _):
        expected = frames(source)
        assert receive(client, 2) == expected[:2]
        # A ping that comes while the second frame is written is still answered.
        time.sleep(0.1)
        client.ping("17")
        opcode, frame = client.recv_data_frame(control_frame=True)
        assert (opcode, frame.data) == (websocket.ABNF.OPCODE_BINARY, expected[2])
        assert time.monotonic() - begun >= 0.5
        # The others follow, and the answer, too.
        received = []
        while (event := client.recv_data_frame(control_frame=True))[0] != websocket.ABNF.OPCODE_PONG:
            received.append(event[1].data)
        assert event[1].data == b"17"
        assert received == expected[3 : 3 + len(received)]


def test_an_oversized_message_is_as_large_as_it_says(source, tmp_path):
    expected = frames(source)
    with third(source, tmp_path, "{ oversize = {} }") as (client, _):
        small, _, large, following = receive(client, 4)
        assert (small, following) == (expected[0], expected[3])
        assert len(large) == 17 * 1024 * 1024
        # What it grew by is a field that nobody knows.
        (found,) = (frame.decoded for frame in source.frames if frame.data == expected[2])
        message = type(found).FromString(large)
        assert message != found
        message.DiscardUnknownFields()
        assert message == found


def test_an_oversized_message_is_too_much_for_who_has_a_limit(source, tmp_path):
    async def read(feed):
        trust = ssl.create_default_context(cafile=feed.ca)
        headers = {"Authorization": KEY, "Topic": TOPIC}
        connecting = websockets.asyncio.client.connect(
            feed.url, additional_headers=headers, ssl=trust, open_timeout=DEADLINE
        )
        received = []
        async with connecting as client:
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
                while True:
                    received.append(await client.recv())
        assert closed.value.sent.code == 1009
        return received

    rule = "[[rule]]\nwhen = { nth = 3 }\ndo = { oversize = {} }"
    with spoilt(source, tmp_path, *rules(tmp_path, rule)) as (feed, _):
        received = asyncio.run(asyncio.wait_for(read(feed), DEADLINE))
        assert received == frames(source)[:2]


def test_a_slow_message_comes_in_small_pieces(source, tmp_path):
    begun = time.monotonic()
    with third(source, tmp_path, '{ slow = { bytes = 20, every = "5ms" } }') as (client, _):
        expected = frames(source)
        assert receive(client, 2) == expected[:2]
        # What is read of TLS at once is what was written at once.
        wire, pieces = on_the_wire(expected[2]), []
        while sum(map(len, pieces)) < len(wire):
            pieces.append(client.sock.recv(len(wire)))
            assert 1 <= len(pieces[-1]) <= 20
        assert b"".join(pieces) == wire
        assert time.monotonic() - begun >= 0.005 * (len(pieces) - 1)
        # Only this one is slow.
        assert receive(client, 10) == expected[3:13]


def test_half_a_message_and_then_nothing_until_the_reset(source, tmp_path):
    fault = '{ half-open = { part = 0.5, for = "700ms" } }'
    begun = time.monotonic()
    # Without TLS, as above: a reset would not be told from an end.
    with third(source, tmp_path, fault, "--plain") as (client, _):
        expected = frames(source)
        assert receive(client, 2) == expected[:2]
        wire = on_the_wire(expected[2])
        half, received = wire[: len(wire) // 2], b""
        while len(received) < len(half):
            received += client.sock.recv(len(wire))
        # Before that it would be answered.
        client.ping("anybody?")
        with pytest.raises(ConnectionResetError):
            while piece := client.sock.recv(len(wire)):
                received += piece
        assert time.monotonic() - begun >= 0.7
        assert received == half


def test_a_close_is_that_close(source, tmp_path):
    with spoilt(source, tmp_path, "--scenario", "close-codes") as (feed, log):
        for code in [1000, 1001, 1008, 1011, 1012, 1013, 4001, None]:
            client = connect(feed)
            assert receive(client, 4) == frames(source)[:4]
            opcode, data = client.recv_data()
            assert opcode == websocket.ABNF.OPCODE_CLOSE
            assert (int.from_bytes(data[:2], "big") if data else None) == code
            client.close()
        for _ in [1006, 999]:
            client = connect(feed)
            receive(client, 4)
            with pytest.raises(websocket.WebSocketProtocolException, match="[Cc]lose"):
                client.recv_data()
            client.close()
        codes = [line["code"] for line in log()]
        assert codes == [1000, 1001, 1008, 1011, 1012, 1013, 4001, None, 1006, 999]


def test_a_reset_is_a_reset(source, tmp_path):
    rule = '[[rule]]\nwhen = { nth = 4 }\ndo = "reset"'
    # Without TLS: Python's ssl takes a reset for an end since it reads with SSL_read_ex.
    with spoilt(source, tmp_path, *rules(tmp_path, rule), "--plain") as (feed, _):
        client = connect(feed)
        assert receive(client, 3) == frames(source)[:3]
        with pytest.raises(ConnectionResetError):
            client.recv_data()


def test_half_open_says_nothing_and_stays(source, tmp_path):
    with spoilt(source, tmp_path, "--scenario", "half-open") as (feed, log):
        client = connect(feed)
        assert receive(client, 10) == frames(source)[:10]
        # A ping that comes while the tenth frame is written is still answered.
        until(log, "fault")
        client.settimeout(0.5)
        client.ping("anybody?")
        with pytest.raises(websocket.WebSocketTimeoutException):
            client.recv_data_frame(control_frame=True)
        # Nothing was closed.
        client.ping("nobody?")
        client.shutdown()
        # Only the first connection does that.
        client = connect(feed)
        assert receive(client, 20) == frames(source)[:20]
        client.close()


def test_no_pong_is_none(source, tmp_path):
    rule = '[[rule]]\nwhen = { nth = 1 }\ndo = "no-pong"'
    with spoilt(source, tmp_path, *rules(tmp_path, rule)) as (feed, _):
        client = connect(feed)
        everything = frames(source)
        assert receive(client, len(everything)) == everything
        client.settimeout(0.5)
        client.ping("17")
        with pytest.raises(websocket.WebSocketTimeoutException):
            client.recv_data_frame(control_frame=True)
        client.close()


def test_pings_flood(source, tmp_path):
    rule = '[[rule]]\nwhen = { nth = 2 }\ndo = { ping-flood = { count = 500 } }'
    with spoilt(source, tmp_path, *rules(tmp_path, rule)) as (feed, _):
        client = connect(feed)
        receive(client, 1)
        pings = [client.recv_data_frame(control_frame=True) for _ in range(500)]
        assert {opcode for opcode, _ in pings} == {websocket.ABNF.OPCODE_PING}
        assert pings[-1][1].data == b"500"
        # They were answered, and nothing is lost by it.
        assert receive(client, 10) == frames(source)[1:11]
        client.close()


def test_handshakes_are_refused(source, tmp_path):
    with spoilt(source, tmp_path, "--scenario", "refused-handshakes") as (feed, log):
        for status, body in [
            (503, b"maintenance\n"),
            (429, b"slow down\n"),
            (502, b"<html>Bad Gateway</html>\n"),
        ]:
            with pytest.raises(websocket.WebSocketBadStatusException) as refused:
                connect(feed)
            assert (refused.value.status_code, refused.value.resp_body) == (status, body)
        # No answer at all, and one that is none.
        for _ in range(2):
            with pytest.raises(websocket.WebSocketException):
                connect(feed)
        client = connect(feed)
        assert receive(client, 5) == frames(source)[:5]
        client.close()
        assert [line["number"] for line in log()] == [1, 2, 3, 4, 5]


def test_broken_tls_is_no_tls(source, tmp_path):
    rule = """
        [[rule]]
        when = { nth = 1 }
        do = "refuse-tls"
        [[rule]]
        when = { nth = 4 }
        do = { delay = { by = "300ms" } }
        [[rule]]
        when = { nth = 4 }
        do = "break-tls"
    """
    with spoilt(source, tmp_path, *rules(tmp_path, rule)) as (feed, _):
        with pytest.raises(ssl.SSLError) as refused:
            connect(feed)
        assert not isinstance(refused.value, ssl.SSLCertVerificationError)
        client = connect(feed)
        assert receive(client, 3) == frames(source)[:3]
        with pytest.raises(ssl.SSLError):
            client.recv_data()


def test_the_vendors_way_through_an_expired_key(source, tmp_path):
    with spoilt(source, tmp_path, "--scenario", "key-expiry") as (feed, _):
        client = connect(feed)
        assert receive(client, 10) == frames(source)[:10]
        opcode, data = client.recv_data()
        assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1008).to_bytes(2, "big"))
        client.close()
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            connect(feed)
        assert refused.value.status_code == 401
        answer = requests.get(
            f"https://{feed.hostname}/streaming/token/validate",
            headers={"Authorization": KEY},
            verify=feed.ca,
            timeout=DEADLINE,
        )
        assert answer.json() == {"token": KEY}
        client = connect(feed)
        assert receive(client, 20) == frames(source)[:20]
        client.close()


def test_fragments_are_one_message_and_bytes_are_no_text(source, tmp_path):
    rule = """
        [[rule]]
        do = { fragment = { into = 7 } }
        [[rule]]
        when = { nth = 6 }
        do = { text = { content = "bytes" } }
    """
    with spoilt(source, tmp_path, *rules(tmp_path, rule)) as (feed, _):
        client = connect(feed)
        assert receive(client, 5) == frames(source)[:5]
        with pytest.raises(websocket.WebSocketPayloadException):
            client.recv_data()
        client.close()


def test_the_same_seed_gives_the_same_log_twice(source, tmp_path):
    logs = []
    for seed in [7, 7, 8]:
        folder = tmp_path / str(len(logs))
        folder.mkdir()
        arguments = ["--scenario", "schema-drift", "--seed", seed]
        with spoilt(source, folder, *arguments) as (feed, log):
            client = connect(feed)
            receive(client, len(frames(source)))
            client.close()
            logs.append(log())
    assert len(logs[0]) > 10
    assert logs[0] == logs[1] != logs[2]
