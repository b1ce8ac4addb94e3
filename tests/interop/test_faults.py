"""What becomes of a recording when a call that changes its folder is the last one, or fails.

A scripted run is repeated: every frame is acknowledged before the next one is sent, segments are small, so
that they are begun, synced, sealed and renamed all the time. In each repetition another write, sync,
creation, rename or deletion is the one at which the recorder is killed, before or after it, or which
fails. The environment variable FAULTS says how many of them are tried, evenly spread (12), or `all`.
"""

import contextlib
import errno
import json
import os
import re
import subprocess
import threading
import time
from socket import AF_UNIX, SOCK_DGRAM
from socket import socket as Socket
from typing import NamedTuple

import pytest
from harness import CENTRALCAP, DEADLINE, read_sealed
from test_kill import feed, numbered
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

FAULTS = os.environ.get("FAULTS", "12")

ENVIRONMENT = {"CENTRALCAP_KEY": "synthetic-key"}

FRAMES = 36

# Some frames are larger than a segment.
SPLIT = "60kB"


class Script:
    """Sends each frame when the one before is acknowledged, and says goodbye; on a second connection just
    one."""

    def __init__(self):
        self.sent = 0
        self.acknowledged = 0
        self.connections = 0
        self.over = threading.Event()

    def __call__(self, connection):
        self.connections += 1
        if self.connections > 1:
            connection.send(numbered(FRAMES + 1))
            with contextlib.suppress(ConnectionClosed):
                connection.recv(timeout=DEADLINE)
            return
        with contextlib.suppress(ConnectionClosed, ConnectionError):
            for number in range(1, FRAMES + 1):
                self.sent = number
                connection.send(numbered(number))
                pong = connection.ping(str(number))
                while not pong.wait(0.01):
                    if connection.state is not State.OPEN:
                        raise ConnectionError
                self.acknowledged = number
            connection.close()
        self.over.set()


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library = tmp_path_factory.mktemp("fault") / "fault.so"
    source = os.path.join(os.path.dirname(__file__), "fault.c")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def record(folder, url, *arguments):
    # Synced each time, or it would be a matter of time which call is which.
    options = ["--sync", "each", "--split-size", SPLIT, "-o", folder]
    return ["record", "--hostname", url, "--topic", "monitoring", *options, *arguments]


class Run(NamedTuple):
    """What came of a scripted run."""

    code: int
    said: str
    # The name of the call at which the fault was, and how many calls there were.
    call: str | None
    calls: int


def run(shim, folder, url, at, fault, times=1):
    """The scripted run, with a fault at one of its calls, and at those that follow it."""
    call, count = folder.with_suffix(".call"), folder.with_suffix(".count")
    environment = ENVIRONMENT | {
        "LD_PRELOAD": str(shim),
        "FAULT_FOLDER": str(folder),
        "FAULT_AT": str(at),
        "FAULT": fault,
        "FAULT_TIMES": str(times),
        "FAULT_CALL": str(call),
        "FAULT_COUNT": str(count),
    }
    command = [CENTRALCAP, *map(str, record(folder, url, "--once"))]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    return Run(
        done.returncode,
        done.stderr,
        call.read_text().strip() if call.exists() else None,
        int(count.read_text()) if count.exists() else 0,
    )


def start_again(folder, url):
    """A recorder without faults seals what is left, and gets one frame."""
    command = [CENTRALCAP, *map(str, record(folder, url, "--stop-after-messages", 1))]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode in (0, 3), done.stderr
    return done


def kept(folder):
    """The frames of all sealed segments in order, each read by a reader that knows nothing of us."""
    assert list(folder.glob("*.open.mcap")) == [], "something was left unsealed"
    segments = sorted(folder.glob("*.mcap"))
    return [frame.data for segment in segments for frame in read_sealed(segment)]


def dropped(folder):
    """How many frames the ledger says were lost."""
    done = subprocess.run([CENTRALCAP, "inspect", "--json", folder], capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    subscriptions = json.loads(done.stdout)["subscriptions"]
    return sum(one["connections"]["dropped_frames"] for one in subscriptions)


@pytest.fixture(scope="module")
def calls(shim, tmp_path_factory):
    """How many calls there are in a run without a fault."""
    folder = tmp_path_factory.mktemp("calls") / "capture"
    with feed(Script()) as url:
        done = run(shim, folder, url, 0, "none")
    assert done.code == 0, done.said
    assert kept(folder) == [numbered(number) for number in range(1, FRAMES + 1)]
    assert len(list(folder.glob("*.mcap"))) > 3
    return done.calls


def chosen(calls):
    """The calls that are tried: all, or so many of them."""
    if FAULTS == "all":
        return range(1, calls + 1)
    count = min(int(FAULTS), calls)
    return [1 + index * (calls - 1) // max(count - 1, 1) for index in range(count)]


@pytest.mark.parametrize("moment", ["kill-before", "kill-after"])
def test_a_kill_at_any_call_loses_nothing_that_was_acknowledged(shim, calls, tmp_path, moment):
    for at in chosen(calls):
        folder = tmp_path / str(at)
        script = Script()
        with feed(script) as url:
            done = run(shim, folder, url, at, moment)
            # Which threads are quicker varies: there may be some calls less.
            assert done.code == -9 or done.calls < at, f"call {at}: {done}"
            # Before the first frame there may be no connection at all.
            assert script.connections == 0 or script.over.wait(DEADLINE)
            acknowledged, sent, script.connections = script.acknowledged, script.sent, 1
            start_again(folder, url)
        frames = kept(folder)
        assert frames.pop() == numbered(FRAMES + 1)
        assert acknowledged <= len(frames) <= sent, f"call {at}: {acknowledged}, {len(frames)}, {sent}"
        assert frames == [numbered(number) for number in range(1, len(frames) + 1)], f"call {at}"
        assert dropped(folder) == 0


@pytest.mark.parametrize("times", [1, 3, 9])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_calls_that_fail_cost_what_the_ledger_says(shim, calls, tmp_path, error, times):
    for at in chosen(calls):
        folder = tmp_path / str(at)
        script = Script()
        with feed(script) as url:
            done = run(shim, folder, url, at, str(error), times)
            # Without the folder or the first segment there is no recording.
            if script.sent == 0:
                assert done.code == 1, f"call {at}: {done}"
                continue
            if list(folder.glob("*.open.mcap")):
                # What could not be sealed is kept as it is, and sealed at the next start.
                script.connections = 1
                again = start_again(folder, url)
                entries = re.findall(r"of an earlier run: (\d+) entries", again.stderr)
                if done.code == 0:
                    # Only what nothing was in, and could not be deleted, may stay without a word.
                    assert set(entries) <= {"0"}, f"call {at}: {done}, {again.stderr}"
        frames = kept(folder)
        if frames[-1:] == [numbered(FRAMES + 1)]:
            frames.pop()
        whole = [numbered(number) for number in range(1, FRAMES + 1)]
        missing = [number for number, frame in enumerate(whole, 1) if frame not in frames]
        print(f"call {at}, {done.call}: exit {done.code}, missing {missing}")
        # What was not proven is written again, or counted as lost. Where several calls fail, the old segment
        # may be neither shortened nor sealed at once: then one frame is there nevertheless.
        excess = 0
        if times > 1:
            once = [frame for frame, before in zip(frames, [None, *frames]) if frame != before]
            assert len(frames) - len(once) <= 1, f"call {at}: {done}"
            frames, excess = once, 1
        assert frames == [frame for frame in whole if frame in frames], f"call {at}: {done}"
        if untold := re.search(r"nothing could be written at the end, and (\d+) frames", done.said):
            assert done.code == 1
            assert dropped(folder) == 0 and len(missing) <= int(untold[1]), f"call {at}: {done}"
        else:
            more = dropped(folder) - len(missing)
            assert 0 <= more <= excess, f"call {at}: {missing}, {done}"


@pytest.mark.parametrize("when", ["each", "1h", "never"])
def test_what_has_ended_is_synced_before_it_is_sealed(shim, tmp_path, when):
    folder, synced = tmp_path / "capture", tmp_path / "synced"
    synced.touch()
    options = ["--sync", when, "--split-size", SPLIT, "-o", folder]
    with feed(Script()) as url:
        command = [CENTRALCAP, "record", "--hostname", url, "--topic", "monitoring", "--once", *options]
        environment = ENVIRONMENT | {
            "LD_PRELOAD": str(shim),
            "FAULT_FOLDER": str(folder),
            "FAULT_SYNCS": str(synced),
        }
        subprocess.run(command, env=environment, capture_output=True, timeout=DEADLINE, check=True)
    *ended, last = (str(path.with_suffix(".open.mcap")) for path in sorted(folder.glob("*.mcap")))
    lines = synced.read_text().splitlines()
    hot = {path: lines.count(path) for path in [*ended, last]}
    # The folder is synced with each new name, and a segment has two more when it is sealed.
    folders = lines.count(str(folder)) - 2 * len(hot)
    if when == "each":
        assert min(hot.values()) > 0 and sum(hot.values()) > FRAMES
        assert folders == len(hot)
    else:
        expected = 1 if when == "1h" else 0
        assert hot == dict.fromkeys(ended, expected) | {last: 0}
        assert folders == expected * len(ended)


def test_systemd_is_not_told_that_a_writer_is_alive_that_hangs(shim, tmp_path):
    folder, go = tmp_path / "capture", tmp_path / "go"
    socket = Socket(AF_UNIX, SOCK_DGRAM)
    socket.bind(str(tmp_path / "notify"))
    socket.settimeout(DEADLINE)
    environment = ENVIRONMENT | {
        "LD_PRELOAD": str(shim),
        "FAULT_FOLDER": str(folder),
        "FAULT_AT": "20",
        "FAULT": "hang",
        "FAULT_GO": str(go),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000000",
    }

    def told():
        return socket.recv(4096).decode().splitlines()

    script = Script()
    with feed(script) as url:
        # One segment, so that nobody but the writer changes anything.
        options = ["--topic", "monitoring", "--sync", "each", "--once", "-o", folder]
        command = [CENTRALCAP, "record", "--hostname", url, *options]
        recorder = subprocess.Popen(command, env=environment)
        try:
            while "WATCHDOG=1" not in told():
                pass
            # What was said within two seconds may still have been true.
            silent, deadline = 0, time.monotonic() + DEADLINE
            while silent < 6:
                assert time.monotonic() < deadline, "it is still said to be alive"
                silent = 0 if "WATCHDOG=1" in told() else silent + 1
            assert script.acknowledged < FRAMES
            go.touch()
            # It has ended before a watchdog would have, or says that it is alive.
            while not {"WATCHDOG=1", "STOPPING=1"} & set(told()):
                pass
            assert recorder.wait(DEADLINE) == 0
        finally:
            recorder.kill()
    assert kept(folder) == [numbered(number) for number in range(1, FRAMES + 1)]
