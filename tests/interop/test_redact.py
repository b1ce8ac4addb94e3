"""What `edit --redact` writes, decoded by PyPI's protobuf and looked at byte by byte with PyPI's mcap."""

from collections import Counter

import pytest
from harness import centralcap, read_sealed
from mcap.reader import make_reader


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """A made-up capture, and what became of it."""
    folder = tmp_path_factory.mktemp("redacted")
    source, redacted, key = folder / "source.mcap", folder / "redacted.mcap", folder / "key"
    key.write_text("a synthetic key, for tests only\n")
    key.chmod(0o600)
    centralcap("synth", "--messages", 600, "--customers", 2, "-o", source)
    centralcap("edit", source, "-o", redacted, "--redact", "--redact-key-file", key)
    return source, redacted


@pytest.fixture(scope="module")
def frames(captures):
    """The frames of both."""
    return [read_sealed(path, decode=True) for path in captures]


def values(message):
    """All strings and bytes of a message, wherever they are."""
    for field, value in message.ListFields():
        several = value if field.is_repeated else [value]
        for one in several:
            if field.message_type:
                yield from values(one)
            elif isinstance(one, (str, bytes)):
                yield field.name, one


def seen_together(frames):
    """Which clients presence has seen at which access point."""
    together = set()
    for frame in frames:
        if frame.topic == "presence":
            data = frame.decoded.data
            for seen in [*data.pa_rssi_event.rssi, *data.pa_proximity_event.proximity]:
                together.add((bytes(seen.ap_eth_mac.addr), bytes(seen.sta_eth_mac.addr)))
    return together


def test_every_frame_decodes_elsewhere_and_is_whole(frames):
    assert len(frames[0]) == len(frames[1]) == 600
    for old, new in zip(*frames):
        assert (old.topic, old.sequence) == (new.topic, new.sequence)
        assert new.decoded.IsInitialized()
        assert new.decoded.timestamp == old.decoded.timestamp
        names = [name for name, _ in values(old.decoded)]
        assert [name for name, _ in values(new.decoded)] == names


def test_who_was_seen_with_whom_stays_by_counts(frames):
    before, after = map(seen_together, frames)
    assert len(before) == len(after) > 300
    for side in (0, 1):
        counts = [sorted(Counter(pair[side] for pair in all).values()) for all in (before, after)]
        assert counts[0] == counts[1]
    macs = [{mac for pair in all for mac in pair} - {b""} for all in (before, after)]
    assert not macs[0] & macs[1]


def test_no_name_is_in_what_was_written(captures, frames):
    names = {
        value.encode() if isinstance(value, str) else value
        for frame in frames[0]
        for name, value in values(frame.decoded)
        if name in ("serial", "serial_number", "device_id", "username", "user_name", "ap_name", "ssid")
    }
    names = {name.lower() for name in names if len(name) > 7}
    assert len(names) > 150
    with open(captures[1], "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        written = [message.data for _, _, message in reader.iter_messages()]
    with open(captures[1], "rb") as file:
        reader = make_reader(file)
        written += [repr(record).encode() for record in reader.iter_metadata()]
        written += [repr(channel).encode() for channel in reader.get_summary().channels.values()]
    whole = b"\0".join(written).lower()
    assert [name for name in names if name in whole] == []
