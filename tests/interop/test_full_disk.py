"""A disk that really is full, and later is not: a small tmpfs in a mount namespace of its own.

Where such namespaces are not to be had, there is nothing to test.
"""

import contextlib
import shlex
import threading
import time

import pytest
from harness import CENTRALCAP, Shell, until
from test_faults import dropped, kept
from test_kill import NOISE, feed, numbered
from websockets.exceptions import ConnectionClosed

# The disk is full after some segments, and half of it is something else that is deleted then.
DISK, BALLAST = 4_000_000, 2_000_000


class Steady:
    """Sends a frame every now and then until it is to stop, and says goodbye."""

    def __init__(self, frame=numbered):
        self.frame = frame
        self.sent = 0
        self.stop = threading.Event()

    def __call__(self, connection):
        with contextlib.suppress(ConnectionClosed):
            while not self.stop.wait(0.005):
                self.sent += 1
                connection.send(self.frame(self.sent))
            connection.close()


@pytest.fixture
def shell(tmp_path):
    (tmp_path / "disk").mkdir()
    try:
        shell = Shell("--mount")
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    try:
        if shell.run("mount -t tmpfs -o", f"size={DISK}", "tmpfs", tmp_path / "disk") != "0":
            pytest.skip("there are no mount namespaces")
        yield shell
    finally:
        shell.end()


def test_recording_goes_on_when_a_full_disk_has_room_again(shell, tmp_path):
    disk, said = tmp_path / "disk", tmp_path / "said"
    assert shell.run(f"head -c {BALLAST} /dev/zero >{disk}/ballast") == "0"
    steady = Steady()
    with feed(steady) as url:
        options = ["--hostname", url, "--topic", "monitoring", "--split-size", "300kB", "--once"]
        command = shlex.join([CENTRALCAP, "record", *options, "-o", f"{disk}/capture"])
        shell.start(f"{{ {command} 2>{said}; echo $? >{said}.code; }}")
        until(lambda: said.exists() and "o space left" in said.read_text(), "full disk")
        full = steady.sent
        until(lambda: steady.sent > full + 50, "frame while it is full")
        assert shell.run(f"rm {disk}/ballast") == "0"
        freed = time.monotonic()
        until(lambda: "writing again" in said.read_text(), "recording that goes on")
        assert time.monotonic() - freed < 10
        again = steady.sent
        until(lambda: steady.sent > again + 20, "frame after that")
        steady.stop.set()
        until(lambda: (tmp_path / "said.code").exists(), "end")
    assert (tmp_path / "said.code").read_text().strip() == "3", said.read_text()
    assert shell.run(f"cp -r {disk}/capture {tmp_path}/capture") == "0"
    frames = kept(tmp_path / "capture")
    numbers = [int.from_bytes(frame[:8], "big") for frame in frames]
    assert numbers == sorted(set(numbers)) and frames == [numbered(number) for number in numbers]
    assert numbers[-1] == steady.sent
    missing = steady.sent - len(numbers)
    assert missing > 0 and dropped(tmp_path / "capture") == missing


def compressible(number):
    """A frame of 4 KB that becomes a quarter of that."""
    return number.to_bytes(8, "big") + NOISE[number : number + 1000] + bytes(3000)


def test_what_cannot_be_sealed_does_not_become_all_there_is(shell, tmp_path):
    disk, said = tmp_path / "disk", tmp_path / "said"
    assert shell.run(f"head -c {DISK - 2_000_000} /dev/zero >{disk}/ballast") == "0"
    steady = Steady(compressible)
    with feed(steady) as url:
        options = ["--hostname", url, "--topic", "monitoring", "--split-size", "60kB", "--once"]
        options += ["--on-full", "drop-oldest"]
        command = shlex.join([CENTRALCAP, "record", *options, "-o", f"{disk}/capture"])
        shell.start(f"{{ {command} 2>{said}; echo $? >{said}.code; }}")
        until(lambda: said.exists() and "deleting" in said.read_text(), "full disk")
        full = steady.sent
        until(lambda: steady.sent > full + 2000, "frame while it is full")
        steady.stop.set()
        until(lambda: (tmp_path / "said.code").exists(), "end")
    # Where the disk is full at that moment, the last segment stays hot, which is told and costs no frame.
    stays = "it is kept as it is" in said.read_text()
    assert (tmp_path / "said.code").read_text().strip() in ("0", "3", "1" if stays else ""), said.read_text()
    # That one is in the merged capture, too.
    (tmp_path / "capture").mkdir()
    merged = shlex.join([CENTRALCAP, "--quiet", "edit", f"{disk}/capture", "-o", f"{tmp_path}/capture/all.mcap"])
    assert shell.run(merged) == "0"
    frames = kept(tmp_path / "capture")
    numbers = [int.from_bytes(frame[:8], "big") for frame in frames]
    # Of what came last, most is there.
    assert numbers == sorted(set(numbers)) and numbers[-1] == steady.sent, said.read_text()
    assert len(numbers) > 100 and numbers[-100] > steady.sent - 150, said.read_text()
