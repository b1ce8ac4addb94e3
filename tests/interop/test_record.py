"""What `record` keeps, read by readers that nobody here wrote."""

import hashlib
import json
import subprocess

import pytest
from google.protobuf.message import Message
from harness import (
    CUSTOMERS,
    INTEROP,
    MESSAGES,
    TOPICS,
    by_subscription,
    centralcap,
    key_of,
    read_hot,
    read_sealed,
    replay,
    running,
    until,
)
from mcap.reader import make_reader

ALL = len(CUSTOMERS) * len(TOPICS)


def hashes(frames):
    """For each subscription the hash of every frame, in order."""
    return {
        name: [hashlib.sha256(data).hexdigest() for data in all_data]
        for name, all_data in by_subscription(frames).items()
    }


# Without --once: a feed that ends is one that `record` goes back to, and gets all over again.
@pytest.fixture(scope="module")
def recorded(source, tmp_path_factory):
    """The source, replayed over TLS to twelve subscriptions and recorded live."""
    folder = tmp_path_factory.mktemp("recorded")
    ca, path = folder / "ca.pem", folder / "x.mcap"
    options = ["--wait-clients", ALL, "--accounts", source.accounts, "--ca-out", ca]
    with replay(source.path, *options) as feed:
        command = ["record", "--hostname", feed.hostname, "--ca", ca, "--input", source.accounts]
        done = centralcap(*command, "--stop-after-messages", MESSAGES, "-o", path)
    assert f"{MESSAGES} frames kept" in done.stderr
    assert [item.name for item in folder.glob("*.mcap")] == ["x.mcap"]
    return path


def test_recorded_frames_are_the_replayed_ones(source, recorded):
    frames = read_sealed(recorded)
    assert len(frames) == MESSAGES
    assert hashes(frames) == hashes(source.frames)
    for name, all_data in by_subscription(frames).items():
        counted = [frame.sequence for frame in frames if frame.subscription == name]
        assert counted == list(range(1, len(all_data) + 1))


def test_a_sealed_capture_explains_itself(recorded):
    payloads = set()
    for frame in read_sealed(recorded, decode=True):
        envelope = frame.decoded
        assert envelope.DESCRIPTOR.full_name == "StreamMessage.MsgProto"
        assert envelope.subject == frame.topic
        assert isinstance(envelope.data, Message)
        assert len(envelope.data.ListFields()) > 0, frame
        payloads.add(envelope.data.DESCRIPTOR.full_name)
        # Writing it again must not lose anything. Where the bytes differ, it is by the order of
        # fields only (unknown ones go last), so the same values have to come back.
        again = envelope.SerializeToString(deterministic=True)
        assert len(again) == len(frame.data)
        assert again == frame.data or type(envelope).FromString(again) == envelope
    assert len(payloads) == len(TOPICS) + 1


def test_npm_mcap_reads_a_sealed_capture_by_its_index(recorded):
    command = ["node", INTEROP / "read.mjs", recorded]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    seen = json.loads(done.stdout)
    with open(recorded, "rb") as file:
        summary = make_reader(file).get_summary()
    counts = summary.statistics.channel_message_counts
    expected = {
        channel.topic: counts[channel.id]
        for channel in summary.channels.values()
        if counts.get(channel.id)
    }
    assert seen["topics"] == expected
    frames = {topic: n for topic, n in expected.items() if not topic.endswith("/session")}
    assert sum(frames.values()) == MESSAGES
    # The second location payload has a channel of its own.
    assert len(frames) == ALL + len(CUSTOMERS)
    assert seen["chunks"] > 0
    assert seen["profile"] == "centralcap"


def test_a_killed_recording_is_whole_and_sealed_by_the_next_start(source, tmp_path):
    folder, ca = tmp_path / "captures", tmp_path / "ca.pem"
    options = ["--wait-clients", ALL, "--accounts", source.accounts, "--ca-out", ca]
    with replay(source.path, *options) as feed:
        record = ["record", "--hostname", feed.hostname, "--ca", ca, "-o", folder]
        with running(*record, "--input", source.accounts) as recorder:
            hot = until(lambda: next(folder.glob("*.open.mcap"), None), "hot capture")
            until(lambda: len(read_hot(hot)) == MESSAGES, "whole hot capture")
            recorder.kill()
        left = read_hot(hot, decode=True)
        assert hashes(left) == hashes(source.frames)
        for frame in left:
            assert len(frame.decoded.data.ListFields()) > 0, frame

        one = ["--topic", "audit", "--stop-after-messages", 1]
        environment = {"CENTRALCAP_KEY": key_of("north")}
        done = centralcap(*record, *one, env=environment)
    assert "of an earlier run" in done.stderr
    sealed = hot.with_name(hot.name.replace(".open.mcap", ".mcap"))
    assert [(f.subscription, f.data) for f in read_sealed(sealed)] == [
        (f.subscription, f.data) for f in left
    ]
    assert list(folder.glob("*.open.mcap")) == []
    assert len(list(folder.iterdir())) == 2
