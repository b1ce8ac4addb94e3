"""The promise of `record`: SIGKILL at any moment loses no frame that it has acknowledged.

A pong is the acknowledgement: it leaves only when everything before its ping is in the kernel. The
environment variable KILLS says how many times to try (3), SEED which moments to take.
"""

import contextlib
import os
import random
import threading
import time

import pytest
from harness import DEADLINE, centralcap, read_hot, read_sealed, running, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))

PING_EVERY = 20

# Longer than a timer for syncing takes to come around, so that kills hit that, too.
LATEST_KILL = 1.2

# Some frames share a read with others and some take many; RFC 6455 spells lengths in three ways.
SIZES = [8, 60, 125, 126, 700, 1_400, 3_000, 20_000, 65_535, 65_536, 100]

NOISE = random.Random(0).randbytes(256 * 1024)


def numbered(number):
    """The frame of this number."""
    size = SIZES[number % len(SIZES)] - 8
    start = number * 31 % (len(NOISE) - size)
    return number.to_bytes(8, "big") + NOISE[start : start + size]


class Sender:
    """A feed that sends as fast as it is read, and notes which of its pings came back."""

    def __init__(self):
        self.pings = []
        self.sent = 0
        self.over = threading.Event()

    def __call__(self, connection):
        if self.over.is_set():
            # The start after the kill gets one frame.
            connection.send(numbered(1))
            self.wait_for_goodbye(connection)
            return
        with contextlib.suppress(ConnectionClosed):
            while True:
                # Before it is sent: whoever gets it must not have more than is counted.
                self.sent += 1
                connection.send(numbered(self.sent))
                if self.sent % PING_EVERY == 0:
                    self.pings.append((self.sent, connection.ping(str(self.sent))))
        # All that had arrived when the connection broke has been read now.
        self.over.set()

    @staticmethod
    def wait_for_goodbye(connection):
        with contextlib.suppress(ConnectionClosed):
            connection.recv(timeout=DEADLINE)

    def acknowledged(self):
        """How many frames the last pong stands for."""
        return max((number for number, pong in self.pings if pong.is_set()), default=0)


@contextlib.contextmanager
def feed(sender):
    with serve(sender, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "ws://127.0.0.1:{}".format(server.socket.getsockname()[1])
        finally:
            server.shutdown()
            thread.join()


def ends_with_a_whole_record(path):
    """Whether the last record of a file without an end was written to its end."""
    data = path.read_bytes()
    at = 8
    while at + 9 <= len(data):
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return at == len(data)


@pytest.mark.parametrize("kill", range(KILLS))
def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path, kill):
    seed = SEED + kill
    after = random.Random(seed).uniform(0, LATEST_KILL)
    print(f"SEED={seed} KILLS=1: killed {after:.3f} s after the first pong")
    sender = Sender()
    environment = {"CENTRALCAP_KEY": "synthetic-key"}
    with feed(sender) as url:
        record = ["record", "--hostname", url, "--topic", "monitoring", "-o", tmp_path]
        with running(*record, env=environment) as recorder:
            until(sender.acknowledged, "pong")
            time.sleep(after)
            assert recorder.poll() is None and not sender.over.is_set(), "nothing flows"
            recorder.kill()
        assert sender.over.wait(DEADLINE), "the server has not noticed"

        hot = next(tmp_path.glob("*.open.mcap"))
        kept = [frame.data for frame in read_hot(hot)]
        count, acknowledged = len(kept), sender.acknowledged()
        print(f"{sender.sent} sent, {count} kept, {acknowledged} acknowledged")
        assert acknowledged <= count <= sender.sent
        for number, data in enumerate(kept, 1):
            assert data == numbered(number), f"frame {number} is another"

        # A kill can end a write half-way. The record that is cut off was not acknowledged, and the
        # next start must say that it was there. The time since the kill is a gap in any case.
        whole = ends_with_a_whole_record(hot)
        print("the last record is", "whole" if whole else "torn")
        done = centralcap(*record, "--stop-after-messages", 1, env=environment, expected=3)
    assert "of an earlier run" in done.stderr
    assert ("the last record is incomplete" in done.stderr) == (not whole)
    assert "1 gap" in done.stderr
    sealed = hot.with_name(hot.name.replace(".open.mcap", ".mcap"))
    assert [frame.data for frame in read_sealed(sealed)] == kept
    assert list(tmp_path.glob("*.open.mcap")) == []
