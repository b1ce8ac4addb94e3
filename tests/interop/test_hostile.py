"""Clients that stall, stop half-way and send what nobody asked for: they harm no other."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import time

import pytest
import websocket
from harness import DEADLINE, centralcap, key_of, running

# HOSTILE=all has as many of them as the server must bear; a few do for every day.
ALL = os.environ.get("HOSTILE") == "all"
STALLED, HALF_OPEN, FRAGMENTS = (100, 500, 1_000_000) if ALL else (30, 100, 100_000)
MOST_MEMORY = (256 if ALL else 96) << 20
MESSAGES, RATE = (30_000, 500) if ALL else (10_000, 500)  # a second, for each client

# Of a message of a million bytes, as RFC 6455 has clients send it: one byte in each frame, and a mask
# that changes nothing.
FIRST, NEXT, LAST = (bytes([opcode, 0x81, 0, 0, 0, 0, 1]) for opcode in (0x02, 0x00, 0x80))
MANY = 10_000


class Feed:
    """A replay that goes on for a minute, as fast for each client."""

    def __init__(self, process, ca):
        self.process, self.ca = process, ca
        ready = json.loads(process.stdout.readline())
        self.url = ready["url"]
        host, port = ready["hostname"].rsplit(":", 1)
        self.address = host, int(port)

    def client(self, **options):
        headers = {"Authorization": key_of("north"), "Topic": "monitoring"}
        return websocket.create_connection(
            self.url, header=headers, sslopt={"ca_certs": self.ca}, timeout=DEADLINE, **options
        )

    def stalled(self):
        """A client that reads nothing, and has no room for what it does not read."""
        return self.client(sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])

    def half_open(self, number):
        """A connection that says nothing, or no more than how TLS's first message begins."""
        connection = socket.create_connection(self.address, DEADLINE)
        if number % 2:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        return connection

    def most_memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10


@pytest.fixture
def feed(tmp_path):
    path, ca = tmp_path / "long.mcap", tmp_path / "ca.pem"
    centralcap("synth", "--topics", "monitoring", "--messages", MESSAGES, "-o", path)
    command = ["replay", path, "--speed", "max", "--pps", RATE, "--ca-out", ca]
    with running(*command, stdout=subprocess.PIPE) as process:
        yield Feed(process, ca)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


def received_in(seconds, client):
    """How many messages come in so long."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        client.recv()
        count += 1
    return count


def send_fragments(client):
    """One message, while what comes is read: by one thread, as Python's TLS is not made for two."""
    client.sock.sendall(FIRST)
    for _ in range(FRAGMENTS // MANY):
        client.sock.sendall(NEXT * MANY)
        while client.sock.pending() or select.select([client.sock], [], [], 0)[0]:
            client.recv()
    client.sock.sendall(LAST)
    # It was no mistake to send that, so it is served as before.
    client.settimeout(DEADLINE)
    served = all(client.recv() for _ in range(RATE))
    client.close()
    return served


def test_hostile_clients_harm_no_other(feed):
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(contextlib.closing(feed.client()))
        stalled = [stack.enter_context(contextlib.closing(feed.stalled())) for _ in range(STALLED)]
        half_open = [stack.enter_context(feed.half_open(number)) for number in range(HALF_OPEN)]
        # What has come meanwhile.
        received_in(1, good)
        assert received_in(3, good) >= 3 * RATE * 0.95
        assert send_fragments(feed.client())
        assert received_in(3, good) >= 3 * RATE * 0.95
        begun = time.monotonic()
        with contextlib.closing(feed.client()) as late:
            late.recv()
        assert time.monotonic() - begun < 1
        # Nobody who says nothing is waited for.
        for connection in half_open:
            assert connection.recv(1) == b""
        assert all(client.connected for client in stalled)
        print(f"at most {feed.most_memory() >> 20} MiB")
        assert feed.most_memory() < MOST_MEMORY
