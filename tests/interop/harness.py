"""Starting the command, ending it, and reading captures with PyPI's mcap alone."""

import contextlib
import io
import json
import os
import pathlib
import signal
import struct
import subprocess
import threading
import time
from typing import NamedTuple

from mcap.exceptions import EndOfFile
from mcap.reader import NonSeekingReader, make_reader
from mcap_protobuf.decoder import DecoderFactory

CENTRALCAP = os.environ["CENTRALCAP"]
TORTURE = os.environ["TORTURE"]
INTEROP = pathlib.Path(os.environ["INTEROP"])

# Nothing here takes a tenth of it. What does has hung.
DEADLINE = 30

# What runs beside the tests may serve many of them.
SERVER_DEADLINE = 10 * DEADLINE

TOPICS = ["apprf", "audit", "location", "monitoring", "presence", "security"]
CUSTOMERS = ["north", "south"]

# How many frames the made-up capture has.
MESSAGES = 3000


def key_of(customer):
    """Nobody's key: the same for all topics of a customer, as Central does it."""
    return f"synthetic-key-{customer}"


def centralcap(*arguments, expected=0, deadline=DEADLINE, **options):
    """Runs the command to its end and returns what it said."""
    done = subprocess.run(
        [CENTRALCAP, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
        **options,
    )
    assert done.returncode == expected, done.stderr
    return done


@contextlib.contextmanager
def running(*arguments, **options):
    """The command while it runs. Whatever happens, it does not outlive the block or its deadline."""
    process = subprocess.Popen([CENTRALCAP, *map(str, arguments)], text=True, **options)
    watchdog = threading.Timer(SERVER_DEADLINE, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


class Feed(NamedTuple):
    """Where a replay listens."""

    url: str
    hostname: str
    ca: str


@contextlib.contextmanager
def replay(capture, *arguments):
    """A replay that is ready, and that ends well when it is asked to."""
    command = ["replay", capture, "--speed", "max", *arguments]
    with running(*command, stdout=subprocess.PIPE) as process:
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        yield Feed(ready["url"], ready["hostname"], ready.get("ca"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


class Shell:
    """A shell in namespaces of its own, as the options of unshare(1) name them."""

    def __init__(self, *namespaces, **options):
        self.process = subprocess.Popen(
            ["unshare", "--map-root-user", *namespaces, "sh"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"CENTRALCAP_KEY": "synthetic-key", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            **options,
        )  # fmt: skip

    def run(self, *words):
        """Runs a command to its end, and returns its exit code as text; empty if the shell is gone."""
        return self.ask(" ".join(map(str, words)) + "; echo $?\n")

    def start(self, *words):
        """Runs a command in the background, and returns its process id as text."""
        return self.ask(" ".join(map(str, words)) + " & echo $!\n")

    def ask(self, line):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.kill()
        self.process.wait()


def until(condition, what):
    """Waits until the condition holds, and returns what it gave."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} in {DEADLINE} s"
        time.sleep(0.02)
    return value


class Frame(NamedTuple):
    """A frame as a reader that knows nothing of us finds it."""

    subscription: str
    topic: str
    sequence: int
    data: bytes
    decoded: object


def read_sealed(path, decode=False):
    """The frames of a sealed capture, in its order."""
    with open(path, "rb") as file:
        return list(frames(make_reader(file, validate_crcs=True), decode))


def read_hot(path, decode=False):
    """The frames of a capture that has no end yet. It must fail at its end, and only there."""
    # What is there now: it may grow while it is read.
    stream = io.BytesIO(path.read_bytes())
    found = []
    try:
        for frame in frames(NonSeekingReader(stream), decode):
            found.append(frame)
    except (EndOfFile, struct.error):
        # The second one is what PyPI's mcap says of a message that is cut off among its numbers.
        assert not stream.read(1), "the reader stopped before the end of the file"
        return found
    raise AssertionError("a hot capture has an end")


def frames(reader, decode):
    factory = DecoderFactory()
    decoders = {}
    for schema, channel, message in reader.iter_messages(log_time_order=False):
        if schema.name != "StreamMessage.MsgProto":
            continue
        if decode and schema.id not in decoders:
            decoders[schema.id] = factory.decoder_for(channel.message_encoding, schema)
        yield Frame(
            channel.metadata["subscription"],
            channel.metadata["topic"],
            message.sequence,
            message.data,
            decoders[schema.id](message.data) if decode else None,
        )


def by_subscription(found):
    """The bytes of the frames, for each subscription in order."""
    sorted_out = {}
    for frame in found:
        sorted_out.setdefault(frame.subscription, []).append(frame.data)
    return sorted_out
