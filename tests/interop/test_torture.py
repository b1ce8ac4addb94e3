"""`decode` against PyPI's protobuf on hard and random messages of all types.

The schemas are compiled by Google's own compiler, not by ours.
"""

import base64
import importlib.resources
import json
import os
import pathlib
import re
import struct
import subprocess
from collections import Counter
from typing import NamedTuple

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from grpc_tools import protoc
from harness import TORTURE, centralcap, read_sealed

REPOSITORY = pathlib.Path(__file__).parents[2]
TORTURE_PROTOS = REPOSITORY / "tests" / "data" / "torture"
CLASSIC_PROTOS = REPOSITORY / "proto" / "classic"

# Random messages of each type. `just equal` asks for more.
COUNT = int(os.environ.get("MESSAGES", 50))

# The seed of the first one. If it is given, there are random messages of the feed's payloads and
# nothing else: so many messages that not all of them fit in memory can be had in parts.
FIRST = os.environ.get("FIRST")
PAYLOADS = 7

# Nothing here takes a tenth of it, at this count.
DEADLINE = 60 + COUNT

ENVELOPE = "StreamMessage.MsgProto"


class Case(NamedTuple):
    """A message, and what became of it here: JSON, or why it was refused."""

    type: str
    name: str
    data: bytes
    ours: dict | str


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """All the types, as protoc compiles them."""
    compiled = tmp_path_factory.mktemp("protos") / "descriptors.bin"
    files = [*TORTURE_PROTOS.glob("*.proto"), *CLASSIC_PROTOS.glob("*.proto")]
    known = importlib.resources.files("grpc_tools") / "_proto"
    folders = [f"-I{folder}" for folder in (TORTURE_PROTOS, CLASSIC_PROTOS, known)]
    options = ["--include_imports", f"--descriptor_set_out={compiled}"]
    assert protoc.main(["protoc", *folders, *options, *map(str, files)]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@pytest.fixture(scope="module")
def cases(pool, tmp_path_factory):
    """All the messages, with what `decode` says of them."""
    capture = tmp_path_factory.mktemp("torture") / "torture.mcap"
    subprocess.run([TORTURE, capture, str(COUNT), *([FIRST] if FIRST else [])], cwd=REPOSITORY, check=True, timeout=DEADLINE)
    frames = read_sealed(capture)
    types = sorted({frame.topic for frame in frames})
    payloads = [argument for name in types for argument in ("--payload", f"{name}={name}")]
    options = ["--verbose", "--bytes", "base64", "--proto", TORTURE_PROTOS, *payloads]
    expected = 0 if FIRST else 3
    done = centralcap("decode", *options, capture, expected=expected, deadline=DEADLINE)
    # Not splitlines(): to Python, U+2028 ends a line too.
    lines = done.stdout.rstrip("\n").split("\n")
    lines = [json.loads(line, object_pairs_hook=unique) for line in lines]
    decoded = {(line["topic"], line["customer_id"]): line for line in lines}
    warnings = re.finditer(r"cannot decode frame (\d+) of .* at byte \d+: (.*)", done.stderr)
    refused = {int(warning[1]): warning[2] for warning in warnings}

    envelopes = message_factory.GetMessageClass(pool.FindMessageTypeByName(ENVELOPE))
    found = []
    for frame in frames:
        envelope = envelopes.FromString(frame.data)
        line = decoded.pop((frame.topic, envelope.customer_id), None)
        if line is None:
            ours = refused.pop(frame.sequence)
        else:
            # An empty payload is not in its envelope.
            ours = line["data"] if envelope.data else {}
        found.append(Case(frame.topic, envelope.customer_id, envelope.data, ours))
    assert not decoded and not refused
    return found


def unique(pairs):
    found = dict(pairs)
    assert len(found) == len(pairs), pairs
    return found


WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}

# Spelled as text, or as JSON that is not bound to a schema.
SPECIAL = {
    f"google.protobuf.{name}"
    for name in ("Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue")
}


# What PyPI's protobuf would not show.
GONE = object()


class Canonical:
    """JSON in one spelling.

    A float counts by its 32 bits: PyPI's protobuf does not always find the shortest digits. A
    number of a `Value` counts as a double: PyPI's protobuf prints 1.0 as 1.
    """

    def __init__(self, pool, is_ours):
        self.pool = pool
        self.is_ours = is_ours
        # How much of ours was turned into what PyPI's protobuf makes of it.
        self.numbers_without_names = 0
        self.not_utf8 = 0
        # And what of theirs was left out.
        self.empty_extensions = 0

    def message(self, value, descriptor):
        name = descriptor.full_name
        if name == "google.protobuf.Any":
            return self.any(value, descriptor)
        if name in WRAPPERS:
            return self.one(value, descriptor.fields_by_name["value"])
        if name in SPECIAL:
            return self.free(value)
        found = {key: self.field(inner, self.find(descriptor, key)) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner not in (GONE, [])}

    def find(self, descriptor, key):
        if key.startswith("["):
            return self.pool.FindExtensionByName(key[1:-1])
        return descriptor.fields_by_name[key]

    def any(self, value, descriptor):
        if not value:
            return value
        inner = self.pool.FindMessageTypeByName(value["@type"].rsplit("/")[-1])
        rest = {key: content for key, content in value.items() if key != "@type"}
        special = inner.full_name in SPECIAL | WRAPPERS | {"google.protobuf.Any"}
        if special:
            assert set(rest) == {"value"}, value
            rest = {"value": self.message(rest["value"], inner)}
        else:
            rest = self.message(rest, inner)
        return {"@type": value["@type"], **rest}

    def field(self, value, field):
        if field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            assert all(isinstance(key, str) for key in value)
            return {key: self.one(item, inner) for key, item in value.items()}
        if field.is_repeated:
            items = [self.one(item, field) for item in value]
            if not items:
                # An extension that is given as a packed list of nothing is shown as an empty list,
                # where a field is not.
                assert field.is_extension and not self.is_ours
                self.empty_extensions += 1
            return [item for item in items if item is not GONE]
        return self.one(value, field)

    def one(self, value, field):
        if field.type in (field.TYPE_MESSAGE, field.TYPE_GROUP):
            return self.message(value, field.message_type)
        if field.type == field.TYPE_FLOAT and not isinstance(value, str):
            return struct.pack("<f", value).hex()
        if field.type == field.TYPE_DOUBLE and not isinstance(value, str):
            return float(value).hex()
        if self.is_ours and field.type == field.TYPE_ENUM and field.enum_type.is_closed:
            # PyPI's protobuf takes it for an unknown field.
            if isinstance(value, int):
                self.numbers_without_names += 1
                return GONE
        if self.is_ours and field.type == field.TYPE_STRING and isinstance(value, dict):
            # PyPI's protobuf prints bytes as Python does.
            self.not_utf8 += 1
            value = str(base64.b64decode(value["@base64"]))
        # A number or a text: what it is has to be right too.
        return [type(value).__name__, value]

    def free(self, value):
        if isinstance(value, dict):
            return {key: self.free(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.free(inner) for inner in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value).hex()
        return [type(value).__name__, value]


class Refused(Exception):
    """PyPI's protobuf does not take it for a message."""


class Unprintable(Exception):
    """PyPI's protobuf has no JSON for it."""


def theirs(case, pool):
    """What PyPI's protobuf makes of it."""
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(case.type))()
    try:
        message.ParseFromString(case.data)
    except DecodeError as error:
        raise Refused from error
    try:
        return MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool)
    except Exception as error:
        raise Unprintable from error


def text(value):
    return json.dumps(value, sort_keys=True)


def test_random_messages_are_decoded_as_protobuf_does(cases, pool):
    random = [case for case in cases if case.name.startswith("random ")]
    types = {case.type for case in random}
    assert len(random) == COUNT * len(types)
    assert len(types) == PAYLOADS if FIRST else len(types) > 30
    ours, others = Canonical(pool, is_ours=True), Canonical(pool, is_ours=False)
    for case in random:
        descriptor = pool.FindMessageTypeByName(case.type)
        found = text(ours.message(case.ours, descriptor))
        assert found == text(others.message(theirs(case, pool), descriptor)), case
    assert ours.numbers_without_names == ours.not_utf8 == 0
    assert others.empty_extensions < len(random) / 100


# Why PyPI's protobuf takes messages that we, and prost-reflect, refuse.
LENIENT = {
    "a field of the wrong wire type is an unknown field": "expected wire type",
    "what is over 64 bits is cut off": "a varint is longer than 64 bits",
    "the key of a map in proto2 may be any bytes": r"key: a string is not UTF-8",
    # The envelope is one message more.
    "a payload may be one message deeper": "messages are nested more than 100 deep",
}

# What it refuses and we, with prost-reflect, take: tags and lengths of more than five bytes.
STRICT = {
    "nothing in many bytes",
    "a tag with all ten bytes",
    "a length of ten bytes",
}

# What it cannot print, and we show as the plain message, number or bytes that it is.
UNPRINTABLE = (
    r"the time (-62135596801|253402300800|-9223372036854775808|9223372036854775807)",
    r"the time -?5 s and (-1|1000000000) ns",
    r"a duration of (5 s and -|-5 s less -|-5 s and |5 s less )\d+ ns",
    r"a duration of (-5|0|5) s (and|less) 1000000000 ns",
    r"a duration of (all but )?(315576000001|-?9223372036854775807|-9223372036854775808) s",
    r"the mask \[\"(camelCase|a__b|a_|a_\.b|a_1)\"\]",
    r"the value (NaN|inf)",
    r"any of a time that cannot be told",
    r"any of something unknown",
    r"any without a type",
)

# Where it keeps or drops more than it should.
OTHERWISE = {
    # It takes an entry with anything unknown in it for an unknown field.
    "unknown fields in an entry": {},
    # A number without a name leaves the name before it in place.
    "a name and then a number without one": {
        "closed": "a_long_name_in_small_letters_of_more_than_32_bytes"
    },
}


@pytest.mark.skipif(FIRST is not None, reason="only random messages were asked for")
def test_hard_messages_are_decoded_as_protobuf_does(cases, pool):
    ours, others = Canonical(pool, is_ours=True), Canonical(pool, is_ours=False)
    lenient, strict, unprintable, otherwise = Counter(), set(), Counter(), set()
    hard = [case for case in cases if not case.name.startswith("random ")]
    for case in hard:
        descriptor = pool.FindMessageTypeByName(case.type)
        refused_here = isinstance(case.ours, str)
        try:
            found = theirs(case, pool)
        except Refused:
            if not refused_here:
                strict.add(case.name)
            continue
        except Unprintable:
            if not refused_here:
                matching = [pattern for pattern in UNPRINTABLE if re.fullmatch(pattern, case.name)]
                assert len(matching) > 0, case
                unprintable.update(matching)
            continue
        if refused_here:
            matching = [why for why, reason in LENIENT.items() if re.search(reason, case.ours)]
            assert len(matching) == 1, case
            lenient.update(matching)
        elif case.name in OTHERWISE:
            assert found == OTHERWISE[case.name] != case.ours, case
            otherwise.add(case.name)
        else:
            expected = text(others.message(found, descriptor))
            assert text(ours.message(case.ours, descriptor)) == expected, case
    # Each rule is needed, or it hides something.
    assert lenient.keys() == LENIENT.keys()
    assert strict == STRICT
    assert unprintable.keys() == set(UNPRINTABLE)
    assert otherwise == OTHERWISE.keys()
    # As many as were made on purpose.
    assert (ours.numbers_without_names, ours.not_utf8) == (25, 156)
    assert others.empty_extensions == 0
