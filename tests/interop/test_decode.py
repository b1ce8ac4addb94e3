"""`decode` against PyPI's protobuf, which has read the schemas from the capture itself."""

import json
import pathlib

from google.protobuf.json_format import MessageToDict
from harness import MESSAGES, centralcap, read_sealed

PAYLOADS = {
    "Apprf.apprf_session",
    "Audit.audit_message",
    "Location.stream_geofence_notify",
    "Location.stream_location",
    "Monitoring.MonitoringInformation",
    "Presence.presence_event",
    "Security.RapidsStreamingEvent",
}

CLEAN = pathlib.Path(__file__).parents[2] / "fixtures/clean.mcap"

# What our lines have on top of the envelope's own fields.
OURS = {"received", "time", "subscription", "topic", "type"}


def canonical(value):
    return json.dumps(value, sort_keys=True)


def without_unknown_numbers(message, descriptor):
    """ProtoJSON as PyPI's protobuf would have it, and how many numbers that leaves out.

    The enums of proto2 are closed: PyPI's protobuf moves a number without a name to the unknown
    fields, which MessageToDict leaves out. We print the number. So wherever the schema expects the
    name of an enum value, an integer goes; a list that is empty then goes with it.
    """
    kept, removed = {}, 0
    for name, value in message.items():
        field = descriptor.fields_by_name[name]
        if field.type == field.TYPE_ENUM:
            values = value if isinstance(value, list) else [value]
            named = [item for item in values if isinstance(item, str)]
            removed += len(values) - len(named)
            if not named:
                continue
            value = named if isinstance(value, list) else named[0]
        elif field.type == field.TYPE_MESSAGE:
            values = value if isinstance(value, list) else [value]
            inner = [without_unknown_numbers(item, field.message_type) for item in values]
            removed += sum(count for _, count in inner)
            value = [item for item, _ in inner]
            value = value if isinstance(message[name], list) else value[0]
        kept[name] = value
    return kept, removed


def agreed(path, frames):
    """Every frame is the same to us and to protobuf: their types, and how many numbers have no name."""
    done = centralcap("decode", "--bytes", "base64", path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(frames)

    types, unknown_numbers = set(), 0
    for line, frame in zip(lines, frames):
        types.add(line["type"])
        assert (line["subscription"], line["topic"]) == (frame.subscription, frame.topic)
        assert line["type"] == frame.decoded.data.DESCRIPTOR.full_name
        ours = {name: value for name, value in line.items() if name not in OURS}
        ours, removed = without_unknown_numbers(ours, frame.decoded.DESCRIPTOR)
        unknown_numbers += removed
        expected = MessageToDict(frame.decoded, preserving_proto_field_name=True)
        assert canonical(ours) == canonical(expected), frame
    return types, unknown_numbers


def test_decode_agrees_with_protobuf_on_every_frame(source):
    assert len(source.frames) == MESSAGES
    types, unknown_numbers = agreed(source.path, source.frames)
    assert types == PAYLOADS
    # They are there, or the rule above is for nothing; and they are rare, or it hides something.
    assert 0 < unknown_numbers < MESSAGES / 100, unknown_numbers


def test_decode_agrees_with_protobuf_on_the_fixture_that_has_everything():
    types, _ = agreed(CLEAN, read_sealed(CLEAN, decode=True))
    assert types == PAYLOADS
