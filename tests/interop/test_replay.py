"""Clients that nobody here wrote, connected to `replay` with no more than the feed's own headers."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
import requests
import websocket
import websockets.asyncio.client
import websockets.exceptions
from harness import CUSTOMERS, DEADLINE, TOPICS, by_subscription, centralcap, key_of, replay

SUBSCRIPTIONS = [(customer, topic) for customer in CUSTOMERS for topic in TOPICS]

# The key, the topic, the status and, where it is known, the exact body.
REFUSALS = [
    pytest.param("synthetic-key-of-nobody", "audit", 401, None, id="wrong-key"),
    pytest.param(key_of("north"), "weather", 400, b"Unsubscribed Topic\n", id="no-such-topic"),
]

refusals = pytest.mark.parametrize(("key", "topic", "status", "body"), REFUSALS)


def headers(key, topic):
    return {"Authorization": key, "Topic": topic}


def connect(feed, key, topic):
    """PyPI's websocket-client, which the vendor's sample uses."""
    return websocket.create_connection(
        feed.url, header=headers(key, topic), sslopt={"ca_certs": feed.ca}, timeout=DEADLINE
    )


@pytest.fixture
def whole_feed(source, tmp_path):
    """A feed that waits for a client for each subscription, and closes each after its last frame."""
    options = ["--once", "--wait-clients", len(SUBSCRIPTIONS), "--accounts", source.accounts]
    with replay(source.path, *options, "--ca-out", tmp_path / "ca.pem") as feed:
        yield feed


def test_websocket_client_gets_the_exact_bytes(source, whole_feed):
    def receive(subscription):
        customer, topic = subscription
        client = connect(whole_feed, key_of(customer), topic)
        received = []
        while (message := client.recv_data())[0] == websocket.ABNF.OPCODE_BINARY:
            received.append(message[1])
        client.close()
        assert message[0] == websocket.ABNF.OPCODE_CLOSE
        assert int.from_bytes(message[1][:2], "big") == 1000
        return "-".join(subscription), received

    with ThreadPoolExecutor(len(SUBSCRIPTIONS)) as threads:
        received = dict(threads.map(receive, SUBSCRIPTIONS))
    assert received == by_subscription(source.frames)


@refusals
def test_websocket_client_is_refused(feed, key, topic, status, body):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(feed, key, topic)
    assert refused.value.status_code == status
    assert body is None or refused.value.resp_body == body


def test_whoever_does_not_know_the_authority_does_not_connect(feed):
    with pytest.raises(ssl.SSLCertVerificationError):
        websocket.create_connection(feed.url, header=headers(key_of("north"), "audit"))
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{feed.hostname}/streaming/token/validate", timeout=DEADLINE)


def test_the_key_is_validated_as_by_the_vendors_client(feed):
    answer = requests.get(
        f"https://{feed.hostname}/streaming/token/validate",
        headers={"Authorization": key_of("south")},
        verify=feed.ca,
        timeout=DEADLINE,
    )
    assert (answer.status_code, answer.json()) == (200, {"token": key_of("south")})


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", id="1.2"),
        # Not the one that the client likes best, but the one that costs it less.
        pytest.param(ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256", id="1.3"),
    ],
)
def test_both_versions_of_tls_are_spoken(feed, version, cipher):
    trust = ssl.create_default_context(cafile=feed.ca)
    trust.minimum_version = trust.maximum_version = version
    place = urlsplit(feed.url)
    with (
        socket.create_connection((place.hostname, place.port), DEADLINE) as plain,
        trust.wrap_socket(plain, server_hostname=place.hostname) as client,
    ):
        assert client.cipher()[0] == cipher


def open_websocket(feed, key, topic):
    """PyPI's websockets, by asyncio: its threads share a TLS session, and one handshake in several
    hundred hangs then, whoever the server is."""
    trust = ssl.create_default_context(cafile=feed.ca)
    return websockets.asyncio.client.connect(
        feed.url, additional_headers=headers(key, topic), ssl=trust, open_timeout=DEADLINE
    )


def test_websockets_gets_the_exact_bytes(source, whole_feed):
    async def receive(customer, topic):
        async with open_websocket(whole_feed, key_of(customer), topic) as client:
            # Ends with a proper close, and fails with any other.
            return f"{customer}-{topic}", [message async for message in client]

    async def receive_all():
        return await asyncio.gather(*(receive(*pair) for pair in SUBSCRIPTIONS))

    received = asyncio.run(asyncio.wait_for(receive_all(), DEADLINE))
    assert dict(received) == by_subscription(source.frames)


@refusals
def test_websockets_is_refused(feed, key, topic, status, body):
    async def connect():
        async with open_websocket(feed, key, topic):
            pass

    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        asyncio.run(asyncio.wait_for(connect(), DEADLINE))
    answer = refused.value.response
    assert answer.status_code == status
    assert body is None or answer.body == body


def test_junit_is_xml_that_adds_up(source, tmp_path):
    report = tmp_path / "report.xml"
    demands = ["--timeout", "100ms", "--expect", "audit>=1", "--expect", "security>=0"]
    centralcap("replay", source.path, "--once", *demands, "--report-junit", report, expected=1)
    suites = ElementTree.parse(report).getroot()
    (suite,) = suites
    failed = {case.get("name"): case.find("failure") is not None for case in suite.iter("testcase")}
    assert failed == {
        "capture": False, "clients": False, "end": True, "audit>=1": True, "security>=0": False
    }  # fmt: skip
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "2", "0")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestCurl:
    """As somebody would try it by hand."""

    def curl(self, feed, path, *options):
        """The body and the status."""
        url = f"https://{feed.hostname}{path}"
        command = ["curl", "--silent", "--show-error", "--http1.1", "--cacert", feed.ca]
        command += ["--max-time", str(DEADLINE), "--write-out", "%{http_code}", *options, url]
        out = subprocess.run(command, capture_output=True, check=True).stdout
        return out[:-3], int(out[-3:])

    @refusals
    def test_is_refused(self, feed, key, topic, status, body):
        upgrade = {
            **headers(key, topic),
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "c3ludGhldGljLW5vbmNlLg==",
        }
        options = [part for pair in upgrade.items() for part in ("-H", ": ".join(pair))]
        found, found_status = self.curl(feed, "/streaming/api", *options)
        assert found_status == status
        assert body is None or found == body

    def test_validates_a_key(self, feed):
        key = key_of("north")
        found, status = self.curl(
            feed, "/streaming/token/validate", "-H", f"Authorization: {key}"
        )
        assert (found.strip(), status) == (b'{"token":"%s"}' % key.encode(), 200)
