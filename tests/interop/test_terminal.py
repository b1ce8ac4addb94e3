"""Names and texts of a hostile capture on a terminal: shown, and not obeyed."""

import os
import pty
import subprocess
import threading

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from harness import CENTRALCAP, DEADLINE
from mcap.writer import CompressionType, Writer

# It clears the screen, sets a title, begins a line of its own, turns the writing round, goes on in the
# control characters of a later standard, and rings.
EVIL = "\x1b[2J\x1b]0;title\x07\nerror: all is lost\r\u202eneve\u2066\x9b31m\x7f\u200f"

OBEYED = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u200e", "\u200f"]
OBEYED += [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]


def descriptors():
    file = FileDescriptorProto(name="evil.proto", package="StreamMessage", syntax="proto2")
    message = file.message_type.add(name="MsgProto")
    text = FieldDescriptorProto.TYPE_STRING
    message.field.add(name="subject", number=2, type=text, label=FieldDescriptorProto.LABEL_OPTIONAL)
    return FileDescriptorSet(file=[file]).SerializeToString()


@pytest.fixture
def evil(tmp_path):
    """A capture in which everything is named so, and a piece of which is damaged."""
    path = tmp_path / "evil.mcap"
    with open(path, "wb") as file:
        writer = Writer(file, chunk_size=200, compression=CompressionType.ZSTD)
        writer.start(profile="centralcap", library=EVIL)
        about = {"version": EVIL, "started": EVIL, "host": EVIL, f"option.{EVIL}": EVIL}
        writer.add_metadata("centralcap", about)
        schema = writer.register_schema("StreamMessage.MsgProto", "protobuf", descriptors())
        metadata = {"protocol": EVIL, "subscription": EVIL, "topic": EVIL, "host": EVIL, "payload": EVIL}
        channel = writer.register_channel(f"/{EVIL}/{EVIL}", "protobuf", schema, metadata)
        text = EVIL.encode()
        for number in range(1, 40):
            # Every fifth is no protobuf.
            data = b"\xff\xff" if number % 5 == 0 else b"\x12" + bytes([len(text)]) + text
            writer.add_message(channel, number * 10**9, data, number * 10**9, number)
        writer.finish()
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    return path


def shown(*arguments):
    """What a command shows on a terminal, which is both stdout and stderr."""
    ours, its = pty.openpty()
    chunks = []

    def read():
        try:
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
        except OSError:
            # That is how the end of it looks.
            pass

    reader = threading.Thread(target=read)
    reader.start()
    command = [CENTRALCAP, *map(str, arguments), "--color", "never"]
    done = subprocess.run(command, stdin=its, stdout=its, stderr=its, timeout=DEADLINE, check=False)
    os.close(its)
    reader.join()
    os.close(ours)
    assert done.returncode in (0, 1, 2, 3)
    # The terminal itself makes two characters of the end of a line.
    return b"".join(chunks).decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["inspect", "--gaps"],
        ["inspect", "--json"],
        ["decode"],
        ["decode", "--format", "json", "--unknown"],
        ["decode", "--select", "subscription,topic,subject"],
        ["decode", "--strict"],
        ["decode", "--log-format", "json"],
        ["decode", "--where", ".subject | error"],
        ["edit", "--verbose", "-o", "salvaged.mcap"],
        ["edit", "--where", ".subject | error", "-o", "other.mcap"],
        ["edit", "--rename", "a=b", "-o", "renamed.mcap"],
        ["diff", "fixtures/small.mcap"],
    ],
    ids=" ".join,
)
def test_a_terminal_obeys_nothing_that_a_capture_says(evil, tmp_path, arguments):
    command, *options = arguments
    if "-o" in options:
        options[-1] = tmp_path / options[-1]
    page = shown(command, evil, *options)
    print(page)
    assert "neve" in page, "nothing of it is shown"
    obeyed = [character for character in page if character in OBEYED and character != "\n"]
    assert not obeyed
    # A field of a table may have lines of its own, in quotes.
    if "--select" not in options:
        assert not any(line.startswith("error: all is lost") for line in page.splitlines())
