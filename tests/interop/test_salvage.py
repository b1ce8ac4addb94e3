"""What `edit` saves of damaged captures opens elsewhere, and is all that `inspect` says is left."""

import json
import subprocess
from typing import NamedTuple

import pytest
from harness import CENTRALCAP, INTEROP, MESSAGES, centralcap, read_hot, replay, running, until
from mcap.reader import make_reader

CHECKPOINT = 0x81


class Seen(NamedTuple):
    """A message as PyPI's mcap finds it, with all checks."""

    topic: str
    time: int
    sequence: int
    data: bytes


def read(path):
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        return [
            Seen(channel.topic, message.log_time, message.sequence, message.data)
            for _, channel, message in reader.iter_messages(log_time_order=False)
        ]


def read_by_npm(path):
    """How many messages there are of each topic."""
    command = ["node", INTEROP / "read.mjs", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["topics"]


def counts(values):
    values = list(values)
    return {value: values.count(value) for value in sorted(set(values))}


def salvaged(damaged, expected, tmp_path):
    """Salvages a file, and holds what has come of it against what should."""
    before = damaged.read_bytes()
    output = tmp_path / "salvaged.mcap"
    profile = json.loads(centralcap("inspect", "--json", damaged, expected=3).stdout)
    assert profile["segments"][0]["damaged_places"] > 0
    done = centralcap("edit", damaged, "-o", output, expected=3)
    assert "damaged capture" in done.stderr and "at byte" in done.stderr
    assert damaged.read_bytes() == before

    found = read(output)
    assert found == expected
    assert read_by_npm(output) == counts(message.topic for message in expected)
    frames = [message for message in found if not message.topic.endswith("/session")]
    assert profile["totals"]["frames"] == len(frames)
    assert profile["totals"]["events"] == len(found) - len(frames)
    assert {
        f"/{subscription['name']}/{payload['label']}": payload["frames"]
        for subscription in profile["subscriptions"]
        for payload in subscription["payloads"]
    } == counts(message.topic for message in frames)
    # From now on nothing is damaged; where frames are missing, the exit code still says so.
    command = [CENTRALCAP, "inspect", "--json", output]
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(again.stdout)["segments"][0]["damage"] is None
    return done.stderr


@pytest.fixture(scope="module")
def sealed(source):
    """The bytes of a sealed capture, its chunks, and its messages with the chunk that each is in."""
    with open(source.path, "rb") as file:
        chunks = make_reader(file).get_summary().chunk_indexes
    messages = read(source.path)
    assert len(chunks) > 2 and len(messages) > MESSAGES
    placed, at = [], 0
    for message in messages:
        while message.time > chunks[at].message_end_time:
            at += 1
        placed.append((at, message))
    return source.path.read_bytes(), chunks, placed


def test_without_a_chunk_all_others_are_saved(sealed, tmp_path):
    data, chunks, placed = sealed
    damaged = tmp_path / "damaged.mcap"
    for number, chunk in enumerate(chunks):
        # By turns a byte of the content, the length of the record, and all of its header.
        place, wrong = ((chunk.chunk_length // 2, 1), (3, 1), (0, 40))[number % 3]
        spoilt = bytearray(data)
        start = chunk.chunk_start_offset + place
        for at in range(start, start + wrong):
            spoilt[at] ^= 0x55
        damaged.write_bytes(spoilt)
        said = salvaged(damaged, [m for at, m in placed if at != number], tmp_path)
        assert "lost of" in said
        (tmp_path / "salvaged.mcap").unlink()


def test_of_a_file_that_is_cut_all_whole_chunks_are_saved(sealed, tmp_path):
    data, chunks, placed = sealed
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(data[: chunks[-1].chunk_start_offset + chunks[-1].chunk_length // 2])
    salvaged(damaged, [m for at, m in placed if at < len(chunks) - 1], tmp_path)


@pytest.fixture(scope="module")
def hot(source, tmp_path_factory):
    """The bytes of a hot segment with many checkpoints, as a kill leaves it."""
    folder = tmp_path_factory.mktemp("hot")
    ca, audit = folder / "ca.pem", folder / "audit.json"
    accounts = json.loads(source.accounts.read_text())["customers"]
    accounts = {name: entry for name, entry in accounts.items() if entry["topic"] == "monitoring"}
    audit.write_text(json.dumps({"customers": accounts}))
    wanted = sum(frame.subscription in accounts for frame in source.frames)
    options = ["--wait-clients", len(accounts), "--accounts", source.accounts, "--ca-out", ca]
    with replay(source.path, *options) as feed:
        record = ["record", "--hostname", feed.hostname, "--ca", ca, "--sync", "each"]
        with running(*record, "--input", audit, "-o", folder / "captures") as recorder:
            path = until(lambda: next(folder.glob("captures/*.open.mcap"), None), "hot capture")
            until(lambda: len(read_hot(path)) == wanted, "whole hot capture")
            recorder.kill()
    return path.read_bytes()


def records(data):
    """Opcode, start, end and content of each whole record."""
    at = 8
    while at + 9 <= len(data):
        end = at + 9 + int.from_bytes(data[at + 1 : at + 9], "little")
        if end > len(data):
            return
        yield data[at], at, end, data[at + 9 : end]
        at = end


def test_without_a_piece_of_a_hot_segment_all_others_are_saved(hot, tmp_path):
    topics, pieces = {}, [[]]
    places = []
    for opcode, start, end, content in records(hot):
        if opcode == 4:
            length = int.from_bytes(content[4:8], "little")
            topics[content[:2]] = content[8 : 8 + length].decode()
        elif opcode == 5:
            sequence, time = (int.from_bytes(content[a:b], "little") for a, b in ((2, 6), (6, 14)))
            pieces[-1].append(Seen(topics[content[:2]], time, sequence, content[22:]))
            places.append((len(pieces) - 1, end - 1))
        elif opcode == CHECKPOINT:
            pieces.append([])
    # Behind the last checkpoint nothing is proven, and nothing is disproved.
    assert len(pieces) > 4
    inner = [number for number, piece in enumerate(pieces[:-1]) if piece]
    spoilt = bytearray(hot)
    lost = {inner[len(inner) // 3], inner[2 * len(inner) // 3]}
    for number, place in places:
        if number in lost:
            spoilt[place] ^= 0x10
    damaged = tmp_path / "damaged.open.mcap"
    damaged.write_bytes(spoilt)
    expected = [m for number, piece in enumerate(pieces) if number not in lost for m in piece]
    said = salvaged(damaged, expected, tmp_path)
    assert said.count("a checksum does not hold") == 2 and "lost of" in said
