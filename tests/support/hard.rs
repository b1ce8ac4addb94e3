//! Messages that are hard to decode, each for a reason of its own, of the types in
//! `tests/data/torture`.

use super::message::{bytes, group, int, len, tag, varint};

/// One of them.
pub struct Case {
    /// What is hard about it. No other has this name.
    pub name: String,
    /// The full name of its type.
    pub message: &'static str,
    pub data: Vec<u8>,
    /// It is one of many of its kind.
    pub is_one_of_many: bool,
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut list = List { message: "", is_one_of_many: false, cases: Vec::new() };
    order(&mut list);
    lists(&mut list);
    oneofs(&mut list);
    maps(&mut list);
    groups(&mut list);
    unknown(&mut list);
    addresses(&mut list);
    lengths(&mut list);
    times(&mut list);
    values(&mut list);
    anys(&mut list);
    rest(&mut list);
    list.is_one_of_many = true;
    numbers(&mut list);
    texts(&mut list);
    wire_types(&mut list);
    depths(&mut list);
    list.cases
}

struct List {
    message: &'static str,
    is_one_of_many: bool,
    cases: Vec<Case>,
}

impl List {
    /// What follows is of this type.
    fn of(&mut self, message: &'static str) {
        self.message = message;
    }

    /// A message made of these parts.
    fn add(&mut self, name: impl Into<String>, parts: &[&[u8]]) {
        let Self { message, is_one_of_many, .. } = *self;
        self.cases.push(Case { name: name.into(), message, data: parts.concat(), is_one_of_many });
    }
}

fn fixed32(number: u32, value: u32) -> Vec<u8> {
    [tag(number, 5), value.to_le_bytes().to_vec()].concat()
}

fn fixed64(number: u32, value: u64) -> Vec<u8> {
    [tag(number, 1), value.to_le_bytes().to_vec()].concat()
}

/// The entry of a map, or whatever has fields 1 and 2.
fn entry(number: u32, parts: &[&[u8]]) -> Vec<u8> {
    len(number, &parts.concat())
}

/// A varint that has all ten bytes.
fn long_varint(value: u64) -> Vec<u8> {
    let seven = |index: u32| (value >> (7 * index)) as u8 & 0x7f | 0x80;
    (0..9).map(seven).chain([(value >> 63) as u8]).collect()
}

fn order(list: &mut List) {
    list.of("torture.two.Scalars");
    list.add("fields in reverse", &[&len(14, b"x"), &int(5, 7), &int(3, 1)]);
    list.add("a scalar twice", &[&int(3, 1), &int(3, 2)]);
    list.add("a scalar twice, apart", &[&int(3, 1), &int(5, 9), &int(3, 2)]);
    list.add("a string twice", &[&len(14, b"first"), &len(14, b"")]);
    list.add("each scalar twice", &[&all_scalars(1), &all_scalars(0)]);
    list.of("torture.three.Scalars");
    list.add("a scalar, then its zero", &[&int(3, 1), &int(3, 0)]);
    list.add("a zero, then its scalar", &[&int(3, 0), &int(3, 1)]);
    list.add("each scalar, then its zero", &[&all_scalars(1), &all_scalars(0)]);
    list.add("a zero of many bytes", &[&tag(3, 0), &long_varint(0), &tag(13, 0), &[0x80, 0]]);
    list.add(
        "a zero in the lower 32 bits",
        &[&int(3, 1 << 32), &int(5, 1 << 40), &int(16, 1 << 32)],
    );
    list.add("no zero for 64 bits", &[&int(4, 1 << 32), &int(6, 1 << 63), &int(13, 1 << 32)]);
    list.add(
        "nothing in many bytes",
        &[&tag(14, 2), &long_varint(0), &tag(15, 2), &long_varint(0)],
    );
    list.of("torture.three.Optional");
    list.add("each zero is there", &[&all_scalars(0), &len(18, b"")]);
    list.add("messages merge", &[&len(18, &int(3, 1)), &len(18, &int(5, 2)), &len(18, &int(3, 4))]);
    list.of("torture.two.Tree");
    let deep = |data: &[u8]| len(3, &len(3, data));
    list.add(
        "messages merge within messages",
        &[&deep(&len(1, b"name")), &len(1, b"top"), &deep(&len(2, b"")), &deep(&len(1, b"other"))],
    );
    list.of("torture.two.Names");
    let mac = |last| len(1, &[2, 0, 0x5e, 0, 0, last]);
    list.add("addresses merge", &[&len(14, &mac(1)), &len(14, &mac(2))]);
    list.add("an address merges with nothing", &[&len(14, &mac(1)), &len(14, b"")]);
}

/// Each field of `Scalars`, set to a zero or to a one.
fn all_scalars(one: u8) -> Vec<u8> {
    let number = u64::from(one);
    let mut data = [fixed64(1, number << 62), fixed32(2, u32::from(one) << 30)].concat();
    (3..=8).for_each(|field| data.extend(int(field, number)));
    data.extend([fixed32(9, one.into()), fixed64(10, number)].concat());
    data.extend([fixed32(11, one.into()), fixed64(12, number), int(13, number)].concat());
    let text = vec![b'1'; one.into()];
    data.extend([len(14, &text), len(15, &text), int(16, number * 5000), int(17, number)].concat());
    data
}

fn lists(list: &mut List) {
    for message in ["torture.two.Lists", "torture.two.Packed", "torture.three.Lists"] {
        list.of(message);
        let named = |what: &str| format!("{what} in {message}");
        let numbers = [1, 0, 0x7f, 0xff, 0x01];
        list.add(named("a list in two runs"), &[&int(3, 1), &int(4, 9), &int(3, 2)]);
        list.add(named("packed"), &[&len(3, &numbers)]);
        list.add(
            named("packed and not"),
            &[&int(3, 5), &len(3, &numbers), &int(3, 6), &len(3, &[]), &len(3, &[9])],
        );
        list.add(named("packed and nothing"), &[&len(3, &[]), &len(4, &[]), &int(5, 1)]);
        list.add(named("packed in two runs"), &[&len(7, &[1]), &int(3, 3), &len(7, &[2, 3])]);
        list.add(named("packed floats"), &[&len(2, &[0; 8]), &len(1, &[0xff; 16])]);
        list.add(named("packed booleans"), &[&len(13, &[0, 1, 2, 0x80, 0x00])]);
        list.add(named("packed enums"), &[&len(16, &[0, 0x88, 0x27, 1]), &len(17, &[1, 0, 2])]);
        list.add(named("packed, ends in a number"), &[&len(3, &[1, 0x80])]);
        list.add(named("packed, ends in a number that goes on"), &[&len(3, &[1, 0x80]), &[1]]);
        list.add(named("packed, 7 bytes of fixed32"), &[&len(9, &[0; 7])]);
        list.add(named("packed, 9 bytes of fixed64"), &[&len(10, &[0; 9])]);
    }
    list.of("torture.two.Lists");
    list.add("texts in two runs", &[&len(14, b"a"), &len(15, b""), &len(14, b""), &len(14, b"b")]);
    list.add(
        "messages of a list do not merge",
        &[&len(18, &int(3, 1)), &len(18, b""), &len(18, &int(5, 2))],
    );
}

fn oneofs(list: &mut List) {
    for message in ["torture.two.Choice", "torture.three.Choice"] {
        list.of(message);
        let named = |what: &str| format!("{what} in {message}");
        let scalars = |data: &[u8]| len(5, data);
        list.add(named("a oneof of each"), &[&int(2, 1), &int(8, 5), &int(9, 2)]);
        list.add(named("a oneof switches"), &[&int(2, 1), &len(3, b"text")]);
        list.add(named("a oneof switches down"), &[&len(3, b"text"), &int(2, 0)]);
        list.add(named("a oneof is zero"), &[&int(2, 0), &fixed64(11, 0)]);
        list.add(named("a oneof is an empty text"), &[&len(3, b"")]);
        list.add(named("a oneof's message merges"), &[&scalars(&int(3, 1)), &scalars(&int(5, 2))]);
        list.add(
            named("a oneof's message does not merge across another"),
            &[&scalars(&int(3, 1)), &int(2, 3), &scalars(&int(5, 2))],
        );
        list.add(
            named("a oneof's message merges beside another oneof"),
            &[&scalars(&int(3, 1)), &int(9, 3), &scalars(&int(5, 2))],
        );
        list.add(
            named("a oneof's merged pieces each switch"),
            &[&len(7, &int(2, 1)), &len(7, &len(3, b"x")), &len(7, &int(8, 4))],
        );
        list.add(named("a replaced member is broken"), &[&scalars(&[0xff]), &int(2, 1)]);
        list.add(named("a replaced member is not UTF-8"), &[&len(3, b"\xff"), &int(2, 1)]);
        list.add(named("a replaced member has a wrong type"), &[&int(3, 1), &int(2, 1)]);
        list.add(named("the last member has a wrong type"), &[&int(2, 1), &int(3, 1)]);
    }
    list.of("torture.two.Groups");
    let left = group(4, &int(4, 7));
    list.add("a oneof's group switches", &[&left, &group(5, &len(1, b""))]);
    list.add("a oneof's group switches back", &[&left, &group(5, b""), &group(4, b"")]);
}

fn maps(list: &mut List) {
    list.of("torture.two.Maps");
    let (one, two, three) = (int(1, 1), int(2, 2), int(2, 3));
    list.add("a map", &[&entry(1, &[&one, &two])]);
    list.add(
        "a map in order of its keys",
        &[
            &entry(1, &[&int(1, 10), &two]),
            &entry(1, &[&int(1, u64::MAX), &two]),
            &entry(1, &[&int(1, 9), &two]),
        ],
    );
    list.add("a key twice", &[&entry(1, &[&one, &two]), &entry(1, &[&one, &three])]);
    list.add(
        "a key twice, apart",
        &[&entry(1, &[&one, &two]), &entry(2, &[]), &entry(1, &[&one, &three])],
    );
    list.add("no key", &[&entry(1, &[&two])]);
    list.add("no value", &[&entry(1, &[&one])]);
    list.add("neither", &[&entry(1, &[]), &entry(2, &[]), &entry(3, &[]), &entry(4, &[])]);
    list.add("neither, further on", &[&entry(5, &[]), &entry(6, &[]), &entry(7, &[])]);
    list.add("a value before its key", &[&entry(1, &[&two, &one])]);
    list.add("a key twice in one entry", &[&entry(1, &[&int(1, 8), &two, &one])]);
    list.add("a value twice in one entry", &[&entry(1, &[&two, &one, &three])]);
    list.add(
        "a map's message merges in one entry",
        &[&entry(4, &[&len(2, &int(3, 1)), &int(1, 1), &len(2, &int(5, 2))])],
    );
    list.add(
        "a map's message does not merge across entries",
        &[&entry(4, &[&one, &len(2, &int(3, 1))]), &entry(4, &[&one, &len(2, &int(5, 2))])],
    );
    list.add(
        "unknown fields in an entry",
        &[&entry(1, &[&int(3, 1), &one, &group(9, &int(1, 1)), &two, &len(4, b"x")])],
    );
    list.add(
        "keys that are equal in 32 bits",
        &[&entry(1, &[&int(1, 1 << 32 | 1), &two]), &entry(1, &[&one, &three])],
    );
    list.add(
        "a text for a key with escapes",
        &[&entry(2, &[&len(1, b"\"\\\n\0"), &len(2, b"\"")])],
    );
    list.add("a key that is not UTF-8", &[&entry(2, &[&len(1, b"\xff"), &len(2, b"x")])]);
    list.add("a value that is not UTF-8", &[&entry(2, &[&len(1, b"x"), &len(2, b"\xff")])]);
    list.add("a replaced key that is not UTF-8", &[&entry(2, &[&len(1, b"\xff"), &len(1, b"x")])]);
    list.add(
        "a replaced value that is broken",
        &[&entry(4, &[&one, &len(2, &[0xff])]), &entry(4, &[&one, &len(2, b"")])],
    );
    list.add(
        "a truth of many bytes for a key",
        &[
            &entry(5, &[&tag(1, 0), &long_varint(1), &len(2, b"first")]),
            &entry(5, &[&int(1, 77), &len(2, b"last")]),
            &entry(5, &[&int(1, 0), &len(2, b"")]),
        ],
    );
    list.add("a key of the wrong type", &[&entry(1, &[&len(1, b"1"), &two])]);
    list.add("a value of the wrong type", &[&entry(1, &[&one, &len(2, b"1")])]);
    list.add("a broken entry", &[&entry(1, &[&one, &[0x10]])]);
    list.add(
        "an enum for a value",
        &[
            &entry(3, &[&len(1, b"b"), &int(2, 3000)]),
            &entry(3, &[&len(1, b"a"), &int(2, u64::MAX)]),
        ],
    );
    list.add("a map in a map", &[&entry(6, &[&one, &len(2, &entry(6, &[&one, &len(2, b"")]))])]);

    list.of("torture.three.Maps");
    for number in 1..=15 {
        list.add(format!("an empty entry in map {number}"), &[&entry(number, &[])]);
    }
    for (number, wire_type) in (1..=10).zip([0, 0, 0, 0, 0, 0, 5, 1, 5, 1]) {
        let key = |value: u64| match wire_type {
            0 => int(1, value),
            1 => fixed64(1, value),
            _ => fixed32(1, value as u32),
        };
        let extremes = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 31, (1 << 31) - 1];
        let entries = extremes.map(|value| entry(number, &[&key(value)]));
        list.add(format!("extreme keys in map {number}"), &[&entries.concat()]);
    }
    list.add("an unknown enum number for a value", &[&entry(10, &[&fixed64(1, 1), &int(2, 99)])]);
    list.add("a proto3 value that is not UTF-8", &[&entry(13, &[&len(2, b"\xff")])]);
}

fn groups(list: &mut List) {
    list.of("torture.two.Groups");
    let inner = |text: &[u8]| group(2, &len(1, text));
    list.add("an empty group", &[&group(1, b"")]);
    list.add("groups in groups", &[&group(1, &[int(1, 1), inner(b"x")].concat()), &int(6, 1)]);
    list.add(
        "groups merge",
        &[&group(1, &int(1, 1)), &group(1, &inner(b"x")), &group(1, &inner(b""))],
    );
    list.add("groups of a list do not", &[&group(3, &len(1, &[0; 4])), &group(3, &len(3, b"x"))]);
    list.add("groups of a list in two runs", &[&group(3, b""), &int(6, 1), &group(3, b"")]);
    list.add("a group with disorder", &[&group(1, &[inner(b"x"), int(1, 1)].concat())]);
    list.add("an unknown group in a group", &[&group(1, &group(7, &group(8, &int(1, 1))))]);
    list.add("a group that does not end", &[&tag(1, 3), &int(1, 1)]);
    list.add("an inner group that does not end", &[&tag(1, 3), &tag(2, 3), &tag(1, 4)]);
    list.add("a group that ends as another", &[&tag(1, 3), &tag(3, 4)]);
    list.add("a group that ends before it begins", &[&tag(1, 4), &tag(1, 3)]);
    list.add("a group that ends twice", &[&group(1, b""), &tag(1, 4)]);
    list.add("a group with a length", &[&len(1, &int(1, 1))]);
    list.add("a list of groups with a length", &[&len(3, b"")]);
    list.add("a message as a group", &[&group(5, &group(1, b""))]);
    list.add("the end of a group in a message", &[&tag(5, 3), &len(1, &tag(5, 4))]);
    list.add("a group without what is required", &[&group(4, b"")]);
}

fn unknown(list: &mut List) {
    list.of("torture.two.Scalars");
    let all = |number| {
        [
            int(number, 1),
            fixed64(number, 2),
            len(number, b"unknown"),
            group(number, &[int(1, 1), group(1, &len(1, b"x")), fixed32(4, 1)].concat()),
            fixed32(number, 3),
        ]
        .concat()
    };
    list.add("everything unknown", &[&all(100), &all(536_870_911)]);
    list.add("unknown before, between and behind", &[&all(100), &int(3, 1), &all(200), &all(18)]);
    list.add("an unknown group does not end", &[&tag(100, 3)]);
    list.add("an unknown group ends as another", &[&tag(100, 3), &tag(101, 4)]);
    list.add("an unknown group with number 0", &[&tag(100, 3), &[0], &tag(100, 4)]);
    list.add("an unknown group with wire type 6", &[&tag(100, 3), &[0x0e], &tag(100, 4)]);
    list.add("an unknown group with a length that lies", &[&tag(100, 3), &[0x0a, 9], &tag(100, 4)]);
    list.add("an unknown length that lies", &[&tag(100, 2), &[5, 1, 2]]);
    list.add("field number 0", &[&[0x00, 0x01]]);
    list.add("field number 0 with a length", &[&[0x02, 0x00]]);
    list.add("wire type 6", &[&[0x1e, 0x01]]);
    list.add("wire type 7 in an unknown field", &[&tag(100, 7), &[0x01]]);
    list.add("a tag with all ten bytes", &[&long_varint(3 << 3), &[5]]);
    list.add("a tag over 32 bits", &[&varint(1 << 32 | 3 << 3), &[5]]);
    list.add("a tag over 64 bits", &[&[0xff; 10], &[0x7f]]);
    list.of("torture.two.Empty");
    list.add("nothing", &[]);
    list.add("only unknown", &[&all(1)]);
    list.of("torture.two.Tree");
    list.add("unknown further down", &[&len(2, &len(1, &all(9))), &len(3, &all(4))]);
}

fn numbers(list: &mut List) {
    let extremes = [
        0,
        1,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    for message in ["torture.two.Scalars", "torture.three.Scalars"] {
        list.of(message);
        for value in extremes {
            let parts: Vec<_> =
                (3..=8).chain([13, 16, 17]).map(|field| int(field, value)).collect();
            list.add(format!("{value} as each varint in {message}"), &[&parts.concat()]);
            let parts: Vec<_> =
                (3..=8).flat_map(|field| [tag(field, 0), long_varint(value)].concat()).collect();
            list.add(format!("{value} in ten bytes in {message}"), &[&parts]);
            let fixed = [
                fixed32(9, value as u32),
                fixed64(10, value),
                fixed32(11, value as u32),
                fixed64(12, value),
            ];
            list.add(format!("{value} as each fixed in {message}"), &[&fixed.concat()]);
        }
        let doubles = [
            -0.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::from_bits(0xfff0_0000_0000_0001),
            0.1,
            1e15,
            1e16,
            1e17,
            1e21,
            123_456_789_012_345_680.0,
            1e-5,
            1e-7,
            9_007_199_254_740_993.0,
        ];
        for value in doubles {
            list.add(
                format!("{value:e} ({:x}) in {message}", value.to_bits()),
                &[&fixed64(1, value.to_bits())],
            );
        }
        let floats = [
            -0.0,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::from_bits(0x7f80_0001),
            0.1,
            16_777_216.0,
            1e13,
            1e16,
            1e17,
            3.402_823_3e38,
            8_388_609.0,
        ];
        for value in floats {
            list.add(
                format!("float {value:e} ({:x}) in {message}", value.to_bits()),
                &[&fixed32(2, value.to_bits())],
            );
        }
    }
    list.of("torture.two.Scalars");
    list.add("a varint of eleven bytes", &[&tag(4, 0), &[0x80; 10], &[0]]);
    list.add("a varint over 64 bits", &[&tag(4, 0), &[0xff; 9], &[2]]);
    list.add("a varint over 64 bits in all its bits", &[&tag(4, 0), &[0xff; 9], &[0x7f]]);
    list.add("an unknown varint over 64 bits", &[&tag(100, 0), &[0xff; 9], &[2]]);
    list.add("an enum's number in the lower 32 bits", &[&int(16, 1 << 32 | 7)]);
}

fn texts(list: &mut List) {
    for message in ["torture.two.Scalars", "torture.three.Optional"] {
        list.of(message);
        for byte in 0..=255 {
            list.add(format!("the byte {byte:#04x} in {message}"), &[&len(14, &[byte])]);
        }
        let all: Vec<u8> = (0..128).collect();
        list.add(format!("all of ASCII in {message}"), &[&len(14, &all)]);
        for size in [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49] {
            let plain = vec![b'x'; size];
            list.add(format!("{size} plain bytes at the end of {message}"), &[&len(14, &plain)]);
            let Some(most) = size.checked_sub(1) else { continue };
            for last in ["\"", "\\", "\n", "\u{7f}"] {
                let text = [&plain[..most], last.as_bytes()].concat();
                list.add(
                    format!("{size} bytes and last {last:?} in {message}"),
                    &[&len(14, &text)],
                );
                let text = [last.as_bytes(), &plain[..most]].concat();
                list.add(
                    format!("{size} bytes and first {last:?} in {message}"),
                    &[&len(14, &text)],
                );
            }
            let text = [&plain[..most], "é".as_bytes()].concat();
            list.add(format!("{size} bytes and é in {message}"), &[&len(14, &text)]);
            let text = [&plain[..most], &b"\xc3"[..]].concat();
            list.add(format!("{size} bytes and half an é in {message}"), &[&len(14, &text)]);
        }
        let others: [&[u8]; 12] = [
            "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\u{fdd0}".as_bytes(),
            "\u{2028}\u{2029}\u{feff}\u{202e}".as_bytes(),
            b"\xed\xa0\x80",
            b"\xed\xa0\xbd\xed\xb8\x80",
            b"\xc0\x80",
            b"\xe0\x80\xaf",
            b"\xf4\x90\x80\x80",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
            b"ok \x80 ok",
            b"sixteen bytes ok\xff",
            b"seventeen bytes o\xff and more",
        ];
        for text in others {
            list.add(format!("{} in {message}", text.escape_ascii()), &[&len(14, text)]);
        }
        for size in 0..8 {
            let data: Vec<u8> = (0..size).map(|index| 0xff - index).collect();
            list.add(format!("{size} bytes in {message}"), &[&len(15, &data)]);
        }
    }
    list.of("torture.two.Lists");
    list.add(
        "a list with one that is not UTF-8",
        &[&len(14, b"a"), &len(14, b"\xff"), &len(14, b"b")],
    );
    list.of("torture.three.Lists");
    list.add("a proto3 list with one that is not UTF-8", &[&len(14, b"a"), &len(14, b"b\xff")]);
    list.of("torture.three.Scalars");
    list.add("a replaced text that is not UTF-8", &[&len(14, b"\xff"), &len(14, b"ok")]);
    list.of("torture.two.Extended");
    list.add("an extension that is not UTF-8", &[&len(4, b"\xff"), &len(6, b"\xfe")]);
}

fn addresses(list: &mut List) {
    list.of("torture.two.Names");
    for size in [0, 1, 4, 5, 6, 7, 8, 12, 16, 17] {
        let data: Vec<u8> = (0..size).map(|index| 0xa0 + index).collect();
        list.add(
            format!("an address of {size} bytes"),
            &[&len(14, &len(1, &data)), &len(17, &len(2, &data))],
        );
    }
    let mac = len(1, &[0, 1, 2, 3, 4, 0xff]);
    list.add("an address as the last one", &[&len(15, &mac)]);
    list.add("addresses in a list", &[&len(15, &mac), &len(15, b""), &len(15, &mac)]);
    list.add("an address in a map", &[&entry(16, &[&len(1, b"a"), &len(2, &mac)])]);
    list.add("an address in a oneof", &[&len(18, &mac), &len(19, &mac)]);
    list.add("an address twice in itself", &[&len(14, &[&mac[..], &mac].concat())]);
    list.add("an address with something unknown", &[&len(14, &[&mac[..], &int(2, 1)].concat())]);
    list.add("an address of the wrong type", &[&len(14, &int(1, 6))]);
    list.add("an address longer than its message", &[&tag(14, 2), &[7], &mac]);
    list.add("an address that is cut off", &[&tag(14, 2), &[8], &mac[..7]]);
    list.add("an address with a length of many bytes", &[&tag(14, 2), &[0x88, 0x00], &mac]);
    list.add("an address in digits", &[&len(14, &len(1, b"00-1A-2b-3C-4d-5E"))]);
    list.add(
        "a network that needs escapes",
        &[&len(12, b"a\"b\\c\x7f\xff\n"), &len(13, "é".as_bytes())],
    );
    list.of("torture.two.Maps");
    let nested = entry(6, &[&int(1, 1), &tag(2, 2), &[3, 8]]);
    list.add("a message that is cut off within a map", &[&nested]);
}

fn lengths(list: &mut List) {
    list.of("torture.two.Tree");
    list.add("a length past the end", &[&tag(1, 2), &[5], b"four"]);
    list.add("a length past its message", &[&len(3, &[0x0a, 5, b'x']), &len(1, b"behind")]);
    list.add("a message past its message", &[&len(3, &[0x1a, 5, 0x0a, 1]), &len(1, b"behind")]);
    for (name, length) in
        [("2^31", 1 << 31), ("2^32", 1 << 32), ("2^63", 1 << 63), ("2^64-1", u64::MAX)]
    {
        list.add(format!("a length of {name}"), &[&tag(1, 2), &varint(length), b"x"]);
        list.add(format!("a message of {name}"), &[&tag(3, 2), &varint(length), b"x"]);
        list.add(format!("an unknown length of {name}"), &[&tag(9, 2), &varint(length), b"x"]);
    }
    list.add("a length that is cut off", &[&tag(1, 2), &[0x80]]);
    list.add("a length over 64 bits", &[&tag(1, 2), &[0xff; 9], &[2]]);
    list.add("a length of ten bytes", &[&tag(1, 2), &long_varint(2), b"ok"]);
    list.of("torture.two.Lists");
    list.add("a packed length past the end", &[&tag(3, 2), &[9], &[1]]);
    list.add("a list's length past the end", &[&len(14, b"ok"), &tag(14, 2), &[2], b"x"]);
    list.of("torture.two.Maps");
    list.add("an entry past the end", &[&tag(1, 2), &[9], &int(1, 1)]);
    list.add("a second entry past the end", &[&entry(1, &[]), &tag(1, 2), &[9], &int(1, 1)]);
    list.add("a key past its entry", &[&entry(2, &[&[0x0a, 5, b'x']]), &len(2, b"")]);
    list.of("torture.two.Scalars");
    for field in [1, 2, 9, 10, 11, 12] {
        let wire_type = if [1, 10, 12].contains(&field) { 1 } else { 5 };
        list.add(format!("fixed field {field} is cut off"), &[&tag(field, wire_type), &[0; 3]]);
    }
}

fn wire_types(list: &mut List) {
    for message in ["torture.two.Scalars", "torture.two.Lists", "torture.three.Scalars"] {
        list.of(message);
        for field in 1..=17 {
            for wire_type in [0, 1, 2, 3, 5] {
                let value: &[u8] = match wire_type {
                    0 => &[1],
                    1 => &[0; 8],
                    2 => &[8, 1, 1, 1, 1, 1, 1, 1, 1],
                    3 => &tag(field, 4),
                    _ => &[0; 4],
                };
                let name = format!("field {field} as wire type {wire_type} in {message}");
                list.add(name, &[&tag(field, wire_type), value]);
            }
        }
    }
    list.of("torture.two.Maps");
    list.add("a number for an entry", &[&int(1, 1)]);
    list.add("a group for an entry", &[&group(1, b"")]);
    list.of("torture.two.Extended");
    list.add("an extension of the wrong type", &[&len(2, b"x")]);
    list.of("torture.known.Single");
    for field in (1..=6).chain(8..=18) {
        list.add(format!("known field {field} as a number"), &[&int(field, 1)]);
    }
    for field in [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 16, 17, 18] {
        let wrong = if [10, 11].contains(&field) { len(1, b"") } else { fixed32(1, 1) };
        list.add(format!("known field {field} with a wrong type within"), &[&len(field, &wrong)]);
    }
}

fn depths(list: &mut List) {
    /// Something within itself, so many times.
    fn nested(times: usize, wrap: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        (0..times).fold(Vec::new(), |inner, _| wrap(&inner))
    }
    for depth in [99, 100, 101] {
        list.of("torture.two.Tree");
        list.add(format!("depth: {depth} messages"), &[&nested(depth, |inner| len(3, inner))]);
        let out_of_order = |inner: &[u8]| [len(3, inner), len(1, b"")].concat();
        list.add(format!("depth: {depth} messages in disorder"), &[&nested(depth, out_of_order)]);
        list.add(
            format!("depth: {depth} unknown groups"),
            &[&nested(depth, |inner| group(9, inner))],
        );
        let below = nested(depth - 50, |inner| group(9, inner));
        let mixed = (0..50).fold(below, |inner, _| len(3, &inner));
        list.add(format!("depth: 50 messages and {} unknown groups", depth - 50), &[&mixed]);
    }
    for depth in [24, 25, 26] {
        list.of("torture.two.Groups");
        let four = |inner: &[u8]| group(1, &group(2, &group(16, &len(2, inner))));
        list.add(
            format!("depth: {depth} times three groups and a message"),
            &[&nested(depth, four)],
        );
    }
    for depth in [49, 50, 51] {
        list.of("torture.two.Maps");
        let maps = |inner: &[u8]| len(6, &len(2, inner));
        list.add(format!("depth: {depth} maps"), &[&nested(depth, maps)]);
        list.of("torture.known.Single");
        let values = |inner: &[u8]| len(6, &len(1, inner));
        list.add(format!("depth: {depth} lists of values"), &[&len(5, &nested(depth, values))]);
    }
    for depth in [32, 33, 34] {
        list.of("torture.known.Single");
        let structs = |inner: &[u8]| len(5, &len(1, &len(2, inner)));
        list.add(format!("depth: {depth} structs in values"), &[&len(5, &nested(depth, structs))]);
    }
}

fn times(list: &mut List) {
    list.of("torture.known.Single");
    let signed = |number, value: i64| int(number, value.cast_unsigned());
    let seconds = [
        -62_135_596_801,
        -62_135_596_800,
        -1,
        0,
        951_782_400,
        253_402_300_799,
        253_402_300_800,
        i64::MIN,
        i64::MAX,
    ];
    for value in seconds {
        list.add(format!("the time {value}"), &[&len(1, &signed(1, value))]);
    }
    for nanos in [-1, 1, 10, 1000, 999_999, 1_000_000, 999_999_999, 1_000_000_000] {
        list.add(
            format!("the time 5 s and {nanos} ns"),
            &[&len(1, &[signed(1, 5), signed(2, nanos)].concat())],
        );
        list.add(
            format!("the time -5 s and {nanos} ns"),
            &[&len(1, &[signed(1, -5), signed(2, nanos)].concat())],
        );
        for seconds in [-5, 0, 5] {
            let data = [signed(1, seconds), signed(2, nanos)].concat();
            list.add(format!("a duration of {seconds} s and {nanos} ns"), &[&len(2, &data)]);
            let data = [signed(1, seconds), signed(2, -nanos)].concat();
            list.add(format!("a duration of {seconds} s less {nanos} ns"), &[&len(2, &data)]);
        }
    }
    for seconds in [315_576_000_000, 315_576_000_001, i64::MAX, i64::MIN] {
        list.add(format!("a duration of {seconds} s"), &[&len(2, &signed(1, seconds))]);
        list.add(
            format!("a duration of all but {seconds} s"),
            &[&len(2, &signed(1, seconds.wrapping_neg()))],
        );
    }
    list.add("a time in two pieces", &[&len(1, &signed(2, 1000)), &len(1, &signed(1, 60))]);
    list.add("a time with its seconds twice", &[&len(1, &[signed(1, 1), signed(1, 2)].concat())]);
    list.add("a time with something unknown", &[&len(1, &[signed(1, 1), signed(3, 2)].concat())]);
    let masks: [&[&str]; 12] = [
        &[],
        &["a"],
        &["a", "b.c"],
        &["some_path.to_it"],
        &["camelCase"],
        &["a__b"],
        &["_a"],
        &["a_"],
        &["a_.b"],
        &["a_1"],
        &["", "a"],
        &["é_a", "\"", "a,b"],
    ];
    for paths in masks {
        let data: Vec<u8> = paths.iter().flat_map(|path| len(1, path.as_bytes())).collect();
        list.add(format!("the mask {paths:?}"), &[&len(3, &data)]);
    }
    list.add("a mask that is not UTF-8", &[&len(3, &len(1, b"\xff"))]);
}

fn values(list: &mut List) {
    list.of("torture.known.Single");
    let value = |data: &[u8]| len(5, data);
    let number = |value: f64| fixed64(2, value.to_bits());
    let entry_of = |key: &[u8], value: &[u8]| len(1, &[len(1, key), len(2, value)].concat());
    list.add("a value without a kind", &[&value(b"")]);
    list.add("a null", &[&value(&int(1, 0))]);
    list.add("a null of another number", &[&value(&int(1, 7)), &int(7, 7), &int(19, 7)]);
    for known in [0.0, -0.0, 1.0, 0.1, 1e300, f64::NAN, f64::INFINITY] {
        list.add(format!("the value {known:e}"), &[&value(&number(known))]);
    }
    list.add("a text for a value", &[&value(&len(3, b"\"\n"))]);
    list.add("a text for a value that is not UTF-8", &[&value(&len(3, b"\xff"))]);
    list.add("a truth for a value", &[&value(&int(4, 2))]);
    list.add("a value that is an empty struct", &[&value(&len(5, b""))]);
    list.add("a value that is an empty list", &[&value(&len(6, b""))]);
    list.add("a value of two kinds", &[&value(&[len(3, b"first"), int(4, 1)].concat())]);
    list.add("a value of two kinds in two pieces", &[&value(&int(4, 1)), &value(&len(3, b"last"))]);
    list.add("a value with something unknown only", &[&value(&int(9, 1))]);
    let structs = [len(5, &entry_of(b"b", &int(4, 1))), len(5, &entry_of(b"a", &int(4, 0)))];
    list.add("structs in a value merge", &[&value(&structs.concat())]);
    let lists = [len(6, &len(1, &int(1, 0))), len(6, &len(1, &int(4, 1)))];
    list.add("lists in a value merge", &[&value(&lists[0]), &value(&lists[1])]);
    let across = [structs[0].clone(), int(4, 1), structs[1].clone()];
    list.add("structs do not merge across another kind", &[&value(&across.concat())]);
    list.add(
        "a key twice in a struct",
        &[&len(4, &entry_of(b"k", &int(4, 1))), &len(4, &entry_of(b"k", &len(3, b"last")))],
    );
    list.add("a struct with neither key nor value", &[&len(4, &len(1, b""))]);
    list.add("a list with empty values", &[&len(6, &[len(1, b""), len(1, &int(1, 0))].concat())]);
    list.add("nulls", &[&int(7, 0), &int(19, 0)]);
    for field in 10..=18 {
        let wire_type = [1, 5, 0, 0, 0, 0, 0, 2, 2][field as usize - 10];
        let one = match wire_type {
            0 => int(1, u64::MAX),
            1 => number(f64::NAN),
            2 => len(1, b"\"x"),
            _ => fixed32(1, f32::NEG_INFINITY.to_bits()),
        };
        list.add(format!("wrapper {field} of nothing"), &[&len(field, b"")]);
        list.add(format!("wrapper {field}"), &[&len(field, &one)]);
        list.add(format!("wrapper {field} given twice"), &[&len(field, &one), &len(field, b"")]);
        list.add(format!("wrapper {field} with something unknown"), &[&len(field, &int(7, 1))]);
    }
    list.add("a float in a wrapper", &[&len(11, &fixed32(1, 0.1_f32.to_bits()))]);
    list.add("a negative zero in a wrapper", &[&len(11, &fixed32(1, 1 << 31))]);
    list.add("empty, with something unknown", &[&len(9, &int(1, 1))]);
    list.of("torture.known.Chosen");
    list.add("a oneof of a null", &[&int(4, 0)]);
    list.add("a oneof of an empty value", &[&len(2, b"")]);
    list.add(
        "a oneof of a time that a value replaces",
        &[&len(1, &int(1, 1)), &len(2, &int(4, 1))],
    );
    list.of("torture.known.Mapped");
    list.add(
        "a map of nothing",
        &[&len(1, b""), &len(2, b""), &len(3, b""), &len(4, b""), &len(5, b"")],
    );
    list.add("a map of nulls", &[&len(6, b""), &len(6, &[len(1, b"x"), int(2, 9)].concat())]);
}

fn anys(list: &mut List) {
    list.of("torture.known.Single");
    let any = |name: &str, content: &[u8]| {
        let url = format!("type.googleapis.com/{name}");
        [len(1, url.as_bytes()), len(2, content)].concat()
    };
    let add = |list: &mut List, name: &str, any: &[u8]| list.add(name, &[&len(8, any)]);
    let time = any("google.protobuf.Timestamp", &int(1, 60));
    add(list, "any of nothing", b"");
    add(list, "any of a message", &any("torture.two.Scalars", &int(3, 1)));
    add(list, "any of an empty message", &any("torture.two.Scalars", b""));
    add(list, "any in disorder", &any("torture.two.Scalars", &[int(5, 2), int(3, 1)].concat()));
    add(
        list,
        "any with its value first",
        &[len(2, &int(3, 1)), len(1, b"a/torture.two.Scalars")].concat(),
    );
    add(list, "any of a time", &time);
    add(
        list,
        "any of a time that cannot be told",
        &any("google.protobuf.Timestamp", &int(2, u64::MAX)),
    );
    add(list, "any of any", &any("google.protobuf.Any", &time));
    add(list, "any of any of nothing", &any("google.protobuf.Any", b""));
    add(list, "any of empty", &any("google.protobuf.Empty", b""));
    add(list, "any of a value", &any("google.protobuf.Value", &int(4, 1)));
    add(list, "any of a null", &any("google.protobuf.Value", b""));
    add(list, "any of a float", &any("google.protobuf.FloatValue", &fixed32(1, 0.1_f32.to_bits())));
    add(list, "any of a mask", &any("google.protobuf.FieldMask", &len(1, b"a_b")));
    add(list, "any of itself", &any("torture.known.Single", &len(8, &time)));
    add(list, "any of an address", &any("torture.two.MacAddress", &len(1, &[0; 6])));
    add(list, "any of something unknown", &any("no.such.Type", &int(1, 1)));
    add(list, "any of an unknown field", &any("torture.two.Empty", &int(1, 1)));
    add(
        list,
        "any without a slash",
        &[len(1, b"torture.two.Scalars"), len(2, &int(3, 1))].concat(),
    );
    add(
        list,
        "any with two slashes",
        &[len(1, b"a/b/torture.two.Scalars"), len(2, &int(3, 1))].concat(),
    );
    add(list, "any without a type", &len(2, &int(3, 1)));
    add(list, "any that is broken within", &any("torture.two.Scalars", &[0xff]));
    add(list, "any that is not UTF-8 within", &any("torture.three.Scalars", &len(14, b"\xff")));
    add(list, "any that may not be UTF-8 within", &any("torture.two.Scalars", &len(14, b"\xff")));
    add(list, "any whose type is not UTF-8", &len(1, b"\xff"));
    list.add(
        "any in two pieces",
        &[&len(8, &time[..time.len() - 4]), &len(8, &time[time.len() - 4..])],
    );
    list.add("any given twice", &[&len(8, &any("torture.two.Empty", b"")), &len(8, &time)]);
}

fn rest(list: &mut List) {
    list.of("torture.two.Far");
    let far = [15, 16, 2047, 2048].map(|number| int(number, number.into())).concat();
    list.add("fields far from each other", &[&far, &len(2049, b"x"), &fixed64(536_870_911, 0)]);
    list.add(
        "fields beside those that are far",
        &[&int(2046, 1), &int(2050, 1), &int(536_870_910, 1)],
    );
    list.add(
        "lists far out",
        &[&int(18_999, 1), &len(18_999, &[2, 3]), &len(20_000, b""), &len(20_000, &far)],
    );
    list.add("a oneof far out", &[&int(500_000_000, 1), &len(500_000_001, b"x")]);
    list.of("torture.two.Extended");
    list.add(
        "extensions among fields",
        &[&int(1, 1), &int(2, 2), &len(4, b"x"), &len(5, &[1, 2]), &int(7, 3)],
    );
    list.add(
        "extensions in disorder",
        &[&int(7, 3), &int(5, 1), &int(2, 2), &len(5, &[2]), &int(1, 1)],
    );
    list.add(
        "extensions of extensions",
        &[&len(100, &len(100, &int(2, 1))), &len(100, &int(1, 1))],
    );
    list.add("extensions that are groups", &[&group(101, &int(1, 1)), &group(101, b"")]);
    list.add(
        "extensions that are far",
        &[&int(102, 7), &len(3000, b""), &len(536_870_911, b"\xff")],
    );
    list.add("numbers that could be extensions", &[&int(3, 1), &int(103, 1)]);
    list.of("torture.two.Required");
    list.add("nothing that is required", &[]);
    list.add("some of what is required", &[&int(1, 1), &len(3, b""), &len(5, &int(1, 1))]);
    list.of("torture.three.Mixed");
    list.add("proto2 in proto3", &[&len(1, &int(1, 0)), &len(2, &int(102, 99)), &len(6, b"")]);
    list.of("torture.two.Scalars");
    list.add("numbers without names", &[&int(16, 1), &int(17, 9)]);
    list.add("a name and then a number without one", &[&int(16, 7), &int(16, 1)]);
    list.add("numbers with two names", &[&int(17, 1)]);
    list.add("a zero with two names", &[&int(17, 0)]);
    list.of("torture.two.Names");
    let names: Vec<u8> = (1..=11).flat_map(|number| int(number, number.into())).collect();
    list.add("names of all kinds", &[&names]);
    list.of("torture.two.Defaults");
    list.add("all that has a default", &[&all_scalars(0)]);
    list.of("torture.two.Branch");
    let knot = group(4, &len(1, &len(1, &len(1, b"leaf"))));
    list.add("a branch of a tree of a branch", &[&len(1, &len(2, &knot)), &knot, &knot]);
    list.add("a tag's bytes for a text", &[&len(1, &len(1, &bytes(&tag(1, 2))))]);
}
