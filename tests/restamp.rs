//! Restamping: which bytes change, and to what.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use centralcap::{
    entry::{Timestamp, Unit},
    protocol,
    restamp::{Moved, Restamp, Shift},
    schema::{self, FrameTypes},
};
use fastrand::Rng;
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value, prost::Message};
use support::{
    capture::{START, envelope},
    message::{group, int, len, random, random_proper, tag, varint, without_loose_strings},
};

/// The envelopes of all payloads, and what moves the times in them.
static ENVELOPES: LazyLock<Vec<(MessageDescriptor, Restamp)>> = LazyLock::new(|| {
    let types = FrameTypes::of(protocol::by_name("classic"));
    let mut kinds: Vec<_> = types.all().collect();
    kinds.sort_by_key(|kind| &kind.label);
    let descriptor = |kind: &&std::sync::Arc<centralcap::entry::FrameType>| {
        let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
        schema::message(&pool, &kind.envelope).unwrap()
    };
    let envelopes = kinds.iter().map(descriptor);
    envelopes.map(|envelope| (envelope.clone(), Restamp::new(&envelope))).collect()
});

fn envelope_of(payload: &str) -> &'static (MessageDescriptor, Restamp) {
    let is_it = |(envelope, _): &&(MessageDescriptor, Restamp)| {
        let field = envelope.get_field_by_name("data").unwrap();
        matches!(field.kind(), Kind::Message(message) if message.full_name() == payload)
    };
    ENVELOPES.iter().find(is_it).unwrap()
}

/// What moves the times in frames with this payload.
fn restamp_of(payload: &str) -> &'static Restamp {
    &envelope_of(payload).1
}

/// What was received at the start is sent so much later.
fn later(by: Duration) -> Shift {
    let sent = START.after(by);
    Shift { received: START, sent, speed: "1".parse().unwrap(), floor: Timestamp::default() }
}

const SECOND: u64 = 1_000_000_000;

/// In seconds.
fn start() -> u64 {
    START.as_nanos() / SECOND
}

fn moved(restamp: &Restamp, frame: Vec<u8>, shift: &Shift) -> Vec<u8> {
    restamp.apply(&Bytes::from(frame), shift).data.to_vec()
}

#[test]
fn times_of_every_unit_and_depth_are_moved_and_nothing_else() {
    let restamp = restamp_of("Monitoring.MonitoringInformation");
    let frame = |by: u64| {
        let seconds = start() + by;
        let stats = [int(2, seconds), int(3, 4711)].concat();
        let state = [len(2, b"X"), int(9, seconds * 1000)].concat();
        let payload = [len(1, b"c"), len(13, &stats), len(38, &state), int(39, seconds)].concat();
        // A field that nobody knows, and an uptime that could be a time.
        let unknown = int(77, START.as_nanos());
        [len(2, b"monitoring"), len(3, &payload), int(4, seconds * SECOND + 5), unknown].concat()
    };
    let found = restamp.apply(&frame(0).into(), &later(Duration::from_secs(86_400)));
    assert_eq!(found.data, frame(86_400));
    assert_eq!(found.sent, Some(START.after(Duration::from_nanos(86_400 * SECOND + 5))));
}

#[test]
fn distances_from_the_sending_are_divided_by_the_speed() {
    let shift = Shift { speed: "4".parse().unwrap(), ..later(Duration::from_secs(100)) };
    let at = |seconds: u64| START.after(Duration::from_secs(seconds));
    assert_eq!(shift.moved(START.before(Duration::from_secs(40))), at(90));
    assert_eq!(shift.moved(at(40)), at(110));
    let all_at_once = Shift { speed: "max".parse().unwrap(), ..shift };
    assert_eq!(all_at_once.moved(START.before(Duration::from_secs(40))), at(100));
    let above = Shift { floor: at(95), ..shift };
    assert_eq!(above.moved(START.before(Duration::from_secs(40))), at(95));
    assert_eq!(above.moved(at(4)), at(101));
}

#[test]
fn lengths_around_a_longer_time_are_adjusted() {
    let restamp = restamp_of("Presence.presence_event");
    // Milliseconds have a byte more from the year 2109 on. The length around them gets one, too.
    let frame = |millis: u64| {
        let payload = [int(1, millis), len(2, &[b'c'; 118])].concat();
        [len(3, &payload), int(4, START.as_nanos())].concat()
    };
    let by = Duration::from_secs(100 * 365 * 86_400);
    let (before, millis) = (frame(start() * 1000), (start() + by.as_secs()) * 1000);
    let mut expected = frame(millis);
    let after = moved(restamp, before.clone(), &later(by));
    assert_eq!(after.len(), before.len() + 2);
    // The envelope's time is no longer than before.
    let time = expected.len() - 9;
    expected.splice(time.., varint(START.as_nanos() + by.as_nanos() as u64));
    assert_eq!(after, expected);
}

#[test]
fn what_is_no_time_stays() {
    let restamp = restamp_of("Audit.audit_message");
    let shift = later(Duration::from_secs(1000));
    for time in [0, 1, 999_999_999, u64::MAX, 1 << 63] {
        let frame = [len(3, &int(2, time)), int(4, time)].concat();
        assert_eq!(moved(restamp, frame.clone(), &shift), frame, "{time}");
    }
    // Of another wire type than the schema says, and where there is no room for the new one.
    let text = [len(4, b"1795000000"), tag(2, 0)].concat();
    assert_eq!(moved(restamp, text.clone(), &shift), text);
    let last = len(3, &int(2, u32::MAX.into()));
    assert_eq!(moved(restamp, last.clone(), &shift), last);
}

#[test]
fn nonsense_is_left_alone_as_far_as_it_goes() {
    let restamp = restamp_of("Audit.audit_message");
    let shift = later(Duration::from_secs(1000));
    let frame = |payload: &[u8], seconds: u64| [len(3, payload), int(4, seconds * SECOND)].concat();
    // The payload ends inside a value: the envelope is all right.
    let torn = [int(2, start()), tag(7, 2), vec![100]].concat();
    let expected = frame(&torn, start() + 1000);
    assert_eq!(moved(restamp, frame(&torn, start()), &shift), expected);
    // A group that does not end, and one that never began.
    for group in [tag(9, 3), tag(9, 4), [tag(9, 3), tag(8, 4)].concat()] {
        let torn = [int(2, start()), group].concat();
        let expected = frame(&torn, start() + 1000);
        assert_eq!(moved(restamp, frame(&torn, start()), &shift), expected);
    }
    let whole = group(9, &int(2, start()));
    let payload = |seconds| [int(2, seconds), whole.clone()].concat();
    let expected = frame(&payload(start() + 1000), start() + 1000);
    assert_eq!(moved(restamp, frame(&payload(start()), start()), &shift), expected);
    // The envelope is torn.
    let torn = [int(4, START.as_nanos()), tag(2, 2), vec![100]].concat();
    let found = restamp.apply(&torn.clone().into(), &shift);
    assert_eq!(found, Moved { data: torn.into(), sent: None, stays: None });
    // For what would be a time that cannot be moved there is no room, but it is none: first a payload that ends
    // inside a value, and then an envelope.
    let last = int(2, u32::MAX.into());
    let whole = restamp.apply(&frame(&last, start()).into(), &shift);
    assert_eq!(whole.stays, Some(Timestamp::from_nanos(u64::from(u32::MAX) * SECOND)));
    let payload = [last.clone(), tag(7, 2), vec![100]].concat();
    let found = restamp.apply(&frame(&payload, start()).into(), &shift);
    assert_eq!((&found.data[..], found.stays), (&frame(&payload, start() + 1000)[..], None));
    let torn = [len(3, &last), tag(2, 2), vec![100]].concat();
    let found = restamp.apply(&torn.clone().into(), &shift);
    assert_eq!(found, Moved { data: torn.into(), sent: None, stays: None });
    // One before it that is a time is told all the same.
    let frame = [len(3, &last), len(3, &payload), int(4, START.as_nanos())].concat();
    assert_eq!(restamp.apply(&frame.into(), &shift).stays, whole.stays);
}

#[test]
fn odd_encodings_stay_where_nothing_changes() {
    let restamp = restamp_of("Audit.audit_message");
    // Lengths and tags that are longer than they need be.
    let payload = [int(2, start()), vec![0x90, 0x80, 0x00, 0x07]].concat();
    let mut frame = vec![0x9a, 0x00, payload.len() as u8 | 0x80, 0x00];
    frame.extend(&payload);
    assert_eq!(moved(restamp, frame.clone(), &later(Duration::ZERO)), frame);
    let after = moved(restamp, frame.clone(), &later(Duration::from_secs(1)));
    frame.splice(4..4 + int(2, start()).len(), int(2, start() + 1));
    assert_eq!(after, frame);
}

#[test]
fn a_frame_of_the_vendor_is_moved_by_its_received_time() {
    let restamp = restamp_of("Audit.audit_message");
    let frame = envelope("audit", "c", int(2, start() - 5));
    let shift = later(Duration::from_millis(2500));
    let expected = [len(2, b"audit"), len(3, &int(2, start() - 3))].concat();
    let after = moved(restamp, frame.to_vec(), &shift);
    assert!(after.starts_with(&expected), "a time between two seconds is that of the first");
}

/// Every time in a message, changed: what an implementation does that decodes everything. Returns how
/// many there are.
fn change(message: &mut DynamicMessage, times: &mut impl FnMut(u64) -> Option<u64>) -> usize {
    let fields: Vec<_> = message.fields().map(|(field, value)| (field, value.clone())).collect();
    let mut found = 0;
    for (field, value) in fields {
        let name = field.name();
        let is_time = ["timestamp", "last_hit_timestamp", "last_sync_timestamp", "time_secs"];
        let is_time = is_time.contains(&name);
        let value = match value {
            Value::Message(mut inner) => {
                found += change(&mut inner, times);
                Value::Message(inner)
            }
            Value::List(mut list) => {
                for value in &mut list {
                    if let Value::Message(inner) = value {
                        found += change(inner, times);
                    }
                }
                Value::List(list)
            }
            Value::U32(time) if is_time => {
                found += 1;
                let changed = times(time.into()).and_then(|time| u32::try_from(time).ok());
                Value::U32(changed.unwrap_or(time))
            }
            Value::U64(time) if is_time => {
                found += 1;
                Value::U64(times(time).unwrap_or(time))
            }
            Value::I64(time) if is_time => {
                found += 1;
                let changed = u64::try_from(time).ok().and_then(&mut *times);
                Value::I64(changed.map_or(time, u64::cast_signed))
            }
            value => value,
        };
        message.set_field(&field, value);
    }
    found
}

/// The same with the times that a shift gives.
fn shifted(mut message: DynamicMessage, shift: &Shift) -> DynamicMessage {
    change(&mut message, &mut |time| {
        let unit = Unit::of(time);
        let nanos = time.checked_mul(unit.nanos()).filter(|_| i64::try_from(time).is_ok())?;
        let moved = shift.moved(Timestamp::from_nanos(nanos)).as_nanos() / unit.nanos();
        let is_time = |nanos: u64| nanos >= 1_000_000_000 * SECOND;
        let is_room = i64::try_from(moved).is_ok();
        (is_time(nanos) && is_time(moved * unit.nanos()) && is_room).then_some(moved)
    });
    message
}

/// A message of this type with times that are some.
fn timed(descriptor: &MessageDescriptor, seed: u64) -> DynamicMessage {
    let data = &*random_proper(descriptor, seed);
    let mut message = DynamicMessage::decode(descriptor.clone(), data).unwrap();
    let mut rng = Rng::with_seed(seed);
    change(&mut message, &mut |_| {
        let seconds = rng.u64(1_000_000_000..4_000_000_000);
        let [millis, nanos] = [1000, SECOND].map(|parts| seconds * parts + rng.u64(..parts));
        // Where there is no room for it, the next one is tried.
        Some(*rng.choice(&[seconds, seconds, millis, nanos]).unwrap())
    });
    message
}

fn any_shift() -> impl Strategy<Value = Shift> {
    let seconds = 1_100_000_000..3_900_000_000_u64;
    let speed = prop_oneof![Just("1"), Just("0.3"), Just("17"), Just("max")];
    let floor = prop_oneof![Just(0), seconds.clone()];
    (seconds.clone(), seconds, 0..SECOND, floor, speed).prop_map(
        |(received, sent, nanos, floor, speed)| Shift {
            received: Timestamp::from_nanos(received * SECOND),
            sent: Timestamp::from_nanos(sent * SECOND + nanos),
            speed: speed.parse().unwrap(),
            floor: Timestamp::from_nanos(floor * SECOND),
        },
    )
}

/// The envelopes with every string that need not be UTF-8 declared as bytes.
static STRICT: LazyLock<Vec<MessageDescriptor>> = LazyLock::new(|| {
    ENVELOPES.iter().map(|(descriptor, _)| without_loose_strings(descriptor)).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_decoding_changing_and_encoding_gives(seed: u64, shift in any_shift()) {
        for (descriptor, restamp) in &*ENVELOPES {
            let message = timed(descriptor, seed);
            let found = restamp.apply(&message.encode_to_vec().into(), &shift).data;
            prop_assert_eq!(found, shifted(message, &shift).encode_to_vec());
        }
    }

    #[test]
    fn it_means_the_same_whatever_the_encoding(seed: u64, shift in any_shift()) {
        for ((descriptor, restamp), strict) in ENVELOPES.iter().zip(&*STRICT) {
            let data = Bytes::from(random(descriptor, seed));
            let found = restamp.apply(&data, &shift).data;
            let before = DynamicMessage::decode(strict.clone(), data);
            let after = DynamicMessage::decode(strict.clone(), found);
            match (before, after) {
                (Ok(before), Ok(after)) => {
                    prop_assert_eq!(shifted(before, &shift).encode_to_vec(), after.encode_to_vec());
                }
                (before, after) => prop_assert_eq!(before.is_ok(), after.is_ok()),
            }
        }
    }

    #[test]
    fn moving_there_and_back_changes_nothing(seed: u64, days in 1..2000_u64) {
        let there = later(Duration::from_secs(days * 86_400));
        let back = Shift { received: there.sent, sent: there.received, ..there };
        let (descriptor, restamp) = envelope_of("Monitoring.MonitoringInformation");
        let data = Bytes::from(without_late_times(timed(descriptor, seed)).encode_to_vec());
        let moved = restamp.apply(&data, &there).data;
        prop_assert_eq!(restamp.apply(&moved, &back).data, data);
    }

    #[test]
    fn random_bytes_are_taken(data in proptest::collection::vec(any::<u8>(), 0..100), shift in any_shift()) {
        for (_, restamp) in &*ENVELOPES {
            let found = restamp.apply(&data.clone().into(), &shift);
            prop_assert!(found.data.len() <= 3 * data.len() + 10);
        }
    }
}

/// Without those that 2,000 days more would make too large for their fields.
fn without_late_times(mut message: DynamicMessage) -> DynamicMessage {
    change(&mut message, &mut |time| {
        let unit = Unit::of(time);
        Some(time.min(3_900_000_000 * (SECOND / unit.nanos())))
    });
    message
}

#[test]
fn made_up_messages_have_times_to_move() {
    let counts = ENVELOPES.iter().map(|(descriptor, _)| {
        let times = |seed| change(&mut timed(descriptor, seed), &mut Some);
        (0..20).map(times).sum::<usize>()
    });
    let counts: Vec<_> = counts.collect();
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}
