"""What `inspect --verify` holds in memory, and for how long it is kept, by files that strangers made up; and that
it agrees with a capture that PyPI's mcap has written."""

import struct
import subprocess
import sys
import zlib

import pytest
import zstandard
from harness import CENTRALCAP, DEADLINE, centralcap
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

MAGIC = b"\x89MCAP0\r\n"
MOST = 64 << 20


def record(opcode, data):
    return bytes([opcode]) + struct.pack("<Q", len(data)) + data


def text(value):
    return struct.pack("<I", len(value)) + value


HEADER = record(1, text(b"centralcap") + text(b"a stranger"))


def chunk(content, packed=None, size=None, crc=None):
    packed = zstandard.compress(content) if packed is None else packed
    size = len(content) if size is None else size
    crc = zlib.crc32(content) if crc is None else crc
    head = struct.pack("<QQQI", 0, 0, size, crc) + text(b"zstd") + struct.pack("<Q", len(packed))
    return record(6, head + packed)


def message(channel, sequence, data=b""):
    return record(5, struct.pack("<HIQQ", channel, sequence, 1, 1) + data)


def channel(number, name):
    metadata = text(b"subscription") + text(name)
    return record(4, struct.pack("<HH", number, 0) + text(b"/x") + text(b"") + text(metadata))


def bomb():
    """80 MB of messages in a chunk of some KB."""
    return MAGIC + HEADER + chunk(message(1, 1, b"0" * 1000) * 77_000)


def swarm():
    """More messages in a chunk than are remembered."""
    return MAGIC + HEADER + chunk(channel(1, b"x") + message(1, 1) * 300_000)


def beyond():
    """Chunks that say that they are larger than they are, or than anything may be."""
    return MAGIC + HEADER + chunk(b"x" * 100, size=1 << 62) + chunk(b"", size=80 << 20) * 50


def crowd():
    """As many channels as there can be, with long names."""
    channels = [channel(number, b"%d" % number + b"n" * 100) for number in range(65536)]
    chunks = [chunk(b"".join(channels[at : at + 1000])) for at in range(0, 65536, 1000)]
    messages = b"".join(message(number, 5) for number in range(65536))
    return MAGIC + HEADER + b"".join(chunks) + chunk(messages)


def long_record():
    """A record of 70 MB where a small one is expected."""
    return MAGIC + HEADER + record(4, b"\0" * (70 << 20))


def hot():
    return MAGIC + HEADER + record(3, b"\0" * (60 << 20))


# Starts the command and prints its exit code and its peak of memory in KiB. What a process has when it begins
# counts for it, too, so whoever starts it has to be small.
START = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("make", [bomb, swarm, beyond, crowd, long_record, hot])
def test_little_memory_and_time_is_all_that_a_hostile_file_gets(make, tmp_path):
    path = tmp_path / ("a.open.mcap" if make is hot else "a.mcap")
    path.write_bytes(make())
    command = [sys.executable, "-S", "-c", START, CENTRALCAP, "inspect", "--verify", path]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    code, peak = map(int, ran.stderr.splitlines()[-1].split())
    assert code == 3 and "not whole" in ran.stdout, ran
    assert peak << 10 < MOST


def test_what_pypis_mcap_writes_is_whole_too(source, tmp_path):
    path = tmp_path / "theirs.mcap"
    with open(source.path, "rb") as file, open(path, "wb") as out:
        reader = make_reader(file)
        writer = Writer(out, compression=CompressionType.ZSTD, enable_data_crcs=True)
        writer.start(profile="centralcap", library="mcap")
        channels = {}
        for schema, channel, message in reader.iter_messages(log_time_order=False):
            if channel.id not in channels:
                known = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, known, channel.metadata
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time,
                message.sequence,
            )  # fmt: skip
        writer.finish()
    verified = centralcap("inspect", "--verify", path)
    assert "verdict     whole" in verified.stdout, verified.stdout
