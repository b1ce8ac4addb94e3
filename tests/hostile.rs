//! Captures and schemas that somebody made to do harm: all of them come to an end, with an error that names
//! its place, in little memory and time.
//!
//! Each is read in a process of its own, by all that reads captures, so that its memory can be seen.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::{
    env, fs, io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use centralcap::{
    capture::{Capture, RECORD_LIMIT},
    codec::plan::Style,
    decode, edit, inspect, schema,
    schema::Resolver,
    select::Selection,
    sink::{
        csv::{Csv, Folder},
        ndjson::Ndjson,
        stream::Stream,
    },
};
use mcap::records::op;
use prost::Message;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use support::message::{int, len, tag, varint};

/// The most memory that reading anything may take.
const MOST_MEMORY: u64 = 256 << 20;

/// The longest it may take for each of those that read, in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// What a process of its own is to read.
const READ: &str = "CENTRALCAP_TEST_READ";

/// A file of ours, record by record.
struct File(Vec<u8>);

impl File {
    fn new() -> Self {
        let mut file = Self(mcap::MAGIC.to_vec());
        file.record(op::HEADER, &[text("centralcap"), text("somebody")].concat());
        file
    }

    fn record(&mut self, opcode: u8, content: &[u8]) {
        self.0.extend(record(opcode, content));
    }

    /// These records, compressed.
    fn chunk(&mut self, content: &[u8]) {
        let packed = zstd::bulk::compress(content, 1).unwrap();
        self.bare_chunk(content.len() as u64, crc32fast::hash(content), &packed);
    }

    fn bare_chunk(&mut self, size: u64, crc: u32, packed: &[u8]) {
        let mut chunk = [0; 16].to_vec();
        chunk.extend(size.to_le_bytes());
        chunk.extend(crc.to_le_bytes());
        chunk.extend(text("zstd"));
        chunk.extend((packed.len() as u64).to_le_bytes());
        chunk.extend(packed);
        self.record(op::CHUNK, &chunk);
    }
}

fn record(opcode: u8, content: &[u8]) -> Vec<u8> {
    [&[opcode], &(content.len() as u64).to_le_bytes()[..], content].concat()
}

fn text(text: &str) -> Vec<u8> {
    bytes(text.as_bytes())
}

/// With a length before them, as MCAP has it.
fn bytes(data: &[u8]) -> Vec<u8> {
    [&u32::try_from(data.len()).unwrap().to_le_bytes(), data].concat()
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    bytes(
        &pairs
            .into_iter()
            .flat_map(|(key, value)| [text(key), text(value)].concat())
            .collect::<Vec<_>>(),
    )
}

fn schema_record(id: u16, name: &str, set: &[u8]) -> Vec<u8> {
    let content = [id.to_le_bytes().to_vec(), text(name), text("protobuf"), bytes(set)].concat();
    record(op::SCHEMA, &content)
}

fn channel_record(id: u16, schema: u16, topic: &str) -> Vec<u8> {
    let metadata = [("protocol", "classic"), ("subscription", "a"), ("topic", topic)];
    let ids = [id.to_le_bytes(), schema.to_le_bytes()].concat();
    let content = [ids, text(&format!("/a/{topic}")), text("protobuf"), map(metadata)].concat();
    record(op::CHANNEL, &content)
}

fn message_record(channel: u16, sequence: u32, data: &[u8]) -> Vec<u8> {
    let mut content = channel.to_le_bytes().to_vec();
    content.extend(sequence.to_le_bytes());
    content.extend([0; 16]);
    content.extend(data);
    record(op::MESSAGE, &content)
}

/// A schema of one message, and a channel with a frame.
fn one_frame(set: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    [schema_record(1, name, set), channel_record(1, 1, "new"), message_record(1, 1, data)].concat()
}

/// The descriptors of one file with these messages and enums.
fn set_of(messages: Vec<DescriptorProto>, enums: Vec<EnumDescriptorProto>) -> Vec<u8> {
    let file = FileDescriptorProto {
        name: Some("a.proto".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: messages,
        enum_type: enums,
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

fn field(
    name: &str,
    number: i32,
    kind: Type,
    type_name: &str,
    label: Label,
) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name: (!type_name.is_empty()).then(|| type_name.to_owned()),
        ..FieldDescriptorProto::default()
    }
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field, ..DescriptorProto::default() }
}

/// All that is told of reading it.
struct Read {
    told: Vec<String>,
    frames: u64,
    decoded: u64,
}

/// Reads a file in a process of its own, in all ways, and holds what it took against the limits.
fn read(name: &str, file: &[u8]) -> Read {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, file).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "whoever_is_asked_reads", "--nocapture"])
        .env(READ, &path)
        .output()
        .unwrap();
    let (said, wrong) = (text_of(&output.stdout), text_of(&output.stderr));
    assert!(output.status.success(), "{:?}: {said}{wrong}", output.status);
    let said_of =
        |what: &str| said.lines().filter_map(|line| line.strip_prefix(what)).collect::<Vec<_>>();
    let number = |what: &str| -> u64 { said_of(what)[0].parse().unwrap() };
    let memory = number("memory ");
    println!("{} MiB, {} ms", memory >> 20, number("longest "));
    assert!(memory < MOST_MEMORY, "{} MiB: {said}", memory >> 20);
    assert!(u128::from(number("longest ")) < LONGEST.as_millis(), "{said}");
    let told = said_of("told ").into_iter().map(str::to_owned).collect();
    Read { told, frames: number("frames "), decoded: number("decoded ") }
}

fn text_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

impl Read {
    /// Something of it is said, with the place.
    fn tells(&self, what: &str) -> bool {
        self.told.iter().any(|told| told.contains(what))
    }
}

/// Does what is asked in the environment, and nothing if nothing is.
#[test]
fn whoever_is_asked_reads() {
    let Some(path) = env::var_os(READ) else { return };
    let path = Path::new(&path);
    let capture = Capture::open(&[path]).unwrap();
    let mut longest = Duration::ZERO;
    let mut timed = |what: &str, work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        println!("{what} took {:?}", begun.elapsed());
        longest = longest.max(begun.elapsed());
    };
    let mut frames = 0;
    timed("inspect", &mut || match inspect::gaps(&capture, Selection::default()) {
        Ok(profile) => frames = profile.totals.frames,
        Err(error) => println!("told {error}"),
    });
    let mut decoded = 0;
    timed("decode", &mut || {
        let resolver = Resolver::default();
        let mut sinks = [(), ()].map(|()| Ndjson::new(resolver.clone(), Style::default()));
        let mut out = Stream::new(io::sink());
        let lost = |error: &centralcap::error::Error| println!("told {error}");
        match decode::decode(capture.entries(), &mut sinks, &mut out, false, lost) {
            Ok(summary) => decoded = summary.decoded,
            Err(error) => println!("told {error}"),
        }
    });
    timed("tables", &mut || {
        let mut sinks = [Csv::tables(Resolver::default(), Style::default())];
        let mut out = Folder::new(&path.with_extension("tables"));
        if let Err(error) = decode::decode(capture.entries(), &mut sinks, &mut out, false, |_| ()) {
            println!("told {error}");
        }
    });
    timed("edit", &mut || {
        let output = path.with_extension("edited.mcap");
        if let Err(error) =
            edit::edit(&[path.to_owned()], &output, &edit::Options::default(), |_| ())
        {
            println!("told {error}");
        }
    });
    timed("fewest", &mut || {
        let output = path.with_extension("fewest.mcap");
        let options = edit::Options { minimise: true, ..edit::Options::default() };
        if let Err(error) = edit::edit(&[path.to_owned()], &output, &options, |_| ()) {
            println!("told {error}");
        }
    });
    timed("channels", &mut || drop(capture.channels()));
    println!("frames {frames}\ndecoded {decoded}\nlongest {}", longest.as_millis());
    println!("memory {}", most_memory());
}

/// The most memory that this process has had, where the system says so.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|most| most.trim().split(' ').next()?.parse::<u64>().ok());
    most.unwrap_or(0) << 10
}

/// The plain envelope and one for a frame of it.
fn plain() -> (Vec<u8>, &'static str) {
    let field = |name, number, kind| field(name, number, kind, "", Label::Optional);
    let fields = vec![field("subject", 2, Type::String), field("data", 3, Type::Bytes)];
    (set_of(vec![message("Envelope", fields)], Vec::new()), "Envelope")
}

/// What nobody reads, so large that it just fits in a chunk.
fn filling() -> Vec<u8> {
    record(0x90, &vec![0; RECORD_LIMIT - 4096])
}

#[test]
fn chunks_that_are_hardly_anything_packed_and_all_there_may_be_unpacked() {
    let (set, name) = plain();
    let mut file = File::new();
    file.chunk(&one_frame(&set, name, &len(3, b"first")));
    // Whoever keeps a frame must not keep the chunk that it was in.
    for sequence in 2..7 {
        file.chunk(&[message_record(1, sequence, &len(3, b"small")), filling()].concat());
    }
    assert!(file.0.len() < 100_000, "{} bytes", file.0.len());
    let read = read("bombs.mcap", &file.0);
    assert_eq!((read.frames, read.decoded), (6, 6), "{:#?}", read.told);
}

#[test]
fn chunks_that_say_what_is_not_so() {
    let (set, name) = plain();
    let whole = one_frame(&set, name, &len(3, b"first"));
    let bomb = zstd::bulk::compress(&vec![0; 200 << 20], 1).unwrap();
    let mut file = File::new();
    file.chunk(&whole);
    for size in [u64::MAX, 1 << 40, RECORD_LIMIT as u64 + 1, RECORD_LIMIT as u64, 10] {
        file.bare_chunk(size, 1, &bomb);
    }
    // A frame of zstd that wants a window of 2 GiB.
    file.bare_chunk(10, 1, &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
    file.chunk(&message_record(1, 2, &len(3, b"second")));
    let read = read("chunks.mcap", &file.0);
    assert_eq!((read.frames, read.decoded), (2, 2), "{:#?}", read.told);
    assert!(read.tells("is over the limit") && read.tells("at byte "), "{:#?}", read.told);
}

/// Each says that all that follows is its content, so whoever believes them all reads the rest as often as there
/// are beginnings.
#[test]
fn beginnings_of_chunks_that_go_on_up_to_the_end() {
    const SIZE: usize = 16 << 20;

    let (set, name) = plain();
    let mut file = File::new();
    file.chunk(&one_frame(&set, name, &len(3, b"first")));
    // Damage, so that a whole chunk is looked for.
    file.0.extend([0; 20]);
    let end = file.0.len() + SIZE;
    let header = 8 + 8 + 8 + 4 + text("zstd").len() + 8;
    while let Some(left) = end.checked_sub(file.0.len() + 9 + header) {
        let packed = left.min(RECORD_LIMIT - header);
        file.0.push(op::CHUNK);
        file.0.extend(((header + packed) as u64).to_le_bytes());
        file.0.extend([1_u64; 3].map(u64::to_le_bytes).concat());
        file.0.extend(1_u32.to_le_bytes());
        file.0.extend(text("zstd"));
        file.0.extend((packed as u64).to_le_bytes());
    }
    file.0.resize(end, 0);
    let read = read("beginnings.mcap", &file.0);
    assert_eq!((read.frames, read.decoded), (1, 1), "{:#?}", read.told);
    assert!(read.tells("at byte "), "{:#?}", read.told);
}

#[test]
fn records_with_absurd_lengths() {
    let (set, name) = plain();
    let whole = one_frame(&set, name, &len(3, b"first"));
    for length in [u64::MAX, 1 << 62, 1 << 40, RECORD_LIMIT as u64 + 1, RECORD_LIMIT as u64] {
        for name in ["lengths.mcap", "lengths.open.mcap"] {
            let mut file = File::new();
            if name.ends_with(".open.mcap") {
                file.0.extend(&whole);
            } else {
                file.chunk(&whole);
            }
            file.0.push(op::MESSAGE);
            file.0.extend(length.to_le_bytes());
            file.0.extend([0; 100]);
            let read = read(name, &file.0);
            assert_eq!((read.frames, read.decoded), (1, 1), "{:#?}", read.told);
            assert!(read.tells("at byte "), "{:#?}", read.told);
        }
    }
}

#[test]
fn records_about_the_capture_that_are_as_large_as_may_be() {
    let (set, name) = plain();
    let mut file = File::new();
    file.chunk(&one_frame(&set, name, &len(3, b"first")));
    let room = RECORD_LIMIT - 4096;
    for id in 2..4 {
        file.chunk(&schema_record(id, name, &vec![0; room]));
    }
    // A million pairs and more, with names that differ.
    let pairs: Vec<u8> = (0..room / 48)
        .flat_map(|number| [bytes(&(number as u32).to_le_bytes()), text("")].concat())
        .collect();
    file.chunk(&record(op::METADATA, &[text("x"), bytes(&pairs)].concat()));
    // And as many as there may be of the largest that may be.
    for id in 10..20 {
        file.chunk(&schema_record(id, name, &vec![0; 4 * 1024 * 1024 - 100]));
    }
    let ids = [2_u16.to_le_bytes(), 1_u16.to_le_bytes()].concat();
    let channel = [ids, text("/b/new"), text("protobuf"), bytes(&pairs)].concat();
    file.chunk(&record(op::CHANNEL, &channel));
    // Of these, any number fits in a small file.
    for first in (100_u16..).step_by(12).take(6) {
        let name = "s".repeat(4 * 1024 * 1024 - 1000);
        let channels = (first..first + 12).flat_map(|id| {
            let ids = [id.to_le_bytes(), 1_u16.to_le_bytes()].concat();
            let metadata = map([("subscription", &*format!("{id}{name}")), ("topic", "new")]);
            record(op::CHANNEL, &[ids, text("/new"), text("protobuf"), metadata].concat())
        });
        file.chunk(&channels.collect::<Vec<_>>());
    }
    file.chunk(&message_record(1, 2, &len(3, b"second")));
    let read = read("records.mcap", &file.0);
    assert_eq!((read.frames, read.decoded), (2, 2), "{:#?}", read.told);
    assert!(read.tells("at byte "), "{:#?}", read.told);
}

#[test]
fn thousands_of_channels_each_with_a_schema_of_its_own() {
    const COUNT: u16 = 3000;

    let mut file = File::new();
    let mut chunk = Vec::new();
    for id in 1..=COUNT {
        let of_its_own = field(&format!("f{id}"), 2000, Type::Bytes, "", Label::Optional);
        let set = set_of(vec![message("M", vec![of_its_own])], Vec::new());
        chunk.extend(schema_record(id, "M", &set));
        chunk.extend(channel_record(id, id, "new"));
        chunk.extend(message_record(id, 1, &len(2000, b"x")));
    }
    file.chunk(&chunk);
    let read = read("channels.mcap", &file.0);
    assert_eq!(read.frames, u64::from(COUNT), "{:#?}", read.told.first());
    assert!(read.tells("types of frames"), "{:#?}", read.told.first());
}

#[test]
fn messages_that_become_much_more_than_they_are() {
    let long = "n".repeat(schema::NAME_LIMIT);
    let value = |name: &str| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(0),
        options: None,
    };
    let names = EnumDescriptorProto {
        name: Some("E".to_owned()),
        value: vec![value(&long)],
        ..EnumDescriptorProto::default()
    };
    let fields = vec![
        field(&long, 1, Type::Enum, ".E", Label::Repeated),
        field("text", 2, Type::String, "", Label::Optional),
        field("inner", 3, Type::Message, ".M", Label::Repeated),
        field(&"o".repeat(schema::NAME_LIMIT), 4, Type::Int32, "", Label::Optional),
        field("left", 5, Type::Message, ".M", Label::Optional),
        field("bytes", 6, Type::Bytes, "", Label::Optional),
    ];
    let set = set_of(vec![message("M", fields)], vec![names]);
    // Twice as much as a recorder takes unless it is told to.
    let most = 32 << 20;
    // Each byte a long name; each two a long key; characters that are escaped; and any depth.
    let packed = len(1, &vec![0; most]);
    let elements: Vec<u8> = len(3, &int(4, 1)).repeat(most / 4);
    let escaped = len(2, &vec![1; most]);
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        deep = len(5, &deep);
    }
    let groups = tag(9, 3).repeat(most);
    for (name, data) in [
        ("packed", packed),
        ("elements", elements),
        ("escaped", escaped),
        ("deep", deep),
        ("groups", groups),
        ("varint", [tag(4, 0), vec![0xff; most]].concat()),
        ("length", [tag(2, 2), varint(u64::MAX)].concat()),
    ] {
        let mut file = File::new();
        file.chunk(&one_frame(&set, "M", &data));
        let read = read(&format!("{name}.mcap"), &file.0);
        assert_eq!((read.frames, read.decoded), (1, 0), "{name}: {:#?}", read.told);
        assert!(read.tells("frame 1 of subscription \"a\""), "{name}: {:#?}", read.told);
    }
}

#[test]
fn descriptor_sets_that_make_no_sense_or_too_much() {
    let many = |count: i32| {
        let messages = (0..count).map(|number| {
            let next = format!(".m{}", number + 1);
            let fields = vec![
                field("n", 1, Type::Message, &next, Label::Optional),
                field("far", 2040, Type::Int32, "", Label::Optional),
            ];
            message(&format!("m{number}"), fields)
        });
        let last = message(&format!("m{count}"), Vec::new());
        set_of(messages.chain([last]).collect(), Vec::new())
    };
    let file = |name: &str, needs: &str| FileDescriptorProto {
        name: Some(name.to_owned()),
        dependency: vec![needs.to_owned()],
        ..FileDescriptorProto::default()
    };
    let cyclic =
        FileDescriptorSet { file: vec![file("a.proto", "b.proto"), file("b.proto", "a.proto")] };
    let itself = FileDescriptorSet { file: vec![file("a.proto", "a.proto")] };
    let twice = set_of(vec![message("M", Vec::new()), message("M", Vec::new())], Vec::new());
    let nowhere = field("n", 1, Type::Message, ".nowhere", Label::Optional);
    let nowhere = set_of(vec![message("M", vec![nowhere])], Vec::new());
    let long = field(&"n".repeat(schema::NAME_LIMIT + 1), 1, Type::Int32, "", Label::Optional);
    let long = set_of(vec![message("M", vec![long])], Vec::new());
    let mut deep = message("M", Vec::new());
    for _ in 0..5000 {
        deep = DescriptorProto { nested_type: vec![deep], ..message("M", Vec::new()) };
    }
    let deep_encoded = {
        // Encoding it the ordinary way would need more stack than a test has.
        let mut data = Vec::new();
        let mut inner = &deep;
        let mut depth = 0;
        while let Some(next) = inner.nested_type.first() {
            inner = next;
            depth += 1;
        }
        for _ in 0..depth {
            data = [len(1, b"M"), len(3, &data)].concat();
        }
        len(1, &[len(1, b"a.proto"), len(4, &data)].concat())
    };
    // Dropping it, too.
    while let Some(inner) = deep.nested_type.pop() {
        deep = inner;
    }
    let largest = many(20_000);
    assert!(largest.len() < schema::SET_LIMIT, "{} bytes", largest.len());
    for (name, set, message) in [
        ("cyclic", cyclic.encode_to_vec(), "M"),
        ("itself", itself.encode_to_vec(), "M"),
        ("twice", twice, "M"),
        ("nowhere", nowhere, "M"),
        ("long", long, "M"),
        ("deep", deep_encoded, "M"),
        ("noise", vec![0xff; 1000], "M"),
        ("large", many(60_000), "m0"),
        ("nothing", Vec::new(), "M"),
    ] {
        let mut file = File::new();
        file.chunk(&one_frame(&set, message, &int(1, 1)));
        let read = read(&format!("{name}.mcap"), &file.0);
        assert_eq!((read.frames, read.decoded), (1, 0), "{name}: {:#?}", read.told);
        let is_told = read.tells("expected protobuf descriptors in the capture")
            || read.tells("expected the message");
        assert!(is_told, "{name}: {:#?}", read.told);
    }
    let mut file = File::new();
    file.chunk(&one_frame(&largest, "m0", &int(2040, 1)));
    let read = read("largest.mcap", &file.0);
    assert_eq!((read.frames, read.decoded), (1, 1), "{:#?}", read.told);
}

#[test]
fn a_message_that_is_in_itself_is_as_deep_as_its_frames() {
    let inner = field("inner", 1, Type::Message, ".M", Label::Optional);
    let twice = field("twice", 2, Type::Message, ".M", Label::Repeated);
    let set = set_of(vec![message("M", vec![inner, twice])], Vec::new());
    let mut file = File::new();
    file.chunk(&one_frame(&set, "M", &len(1, &len(2, b""))));
    let read = read("itself.mcap", &file.0);
    assert_eq!((read.frames, read.decoded), (1, 1), "{:#?}", read.told);
}

/// A folder of `.proto` files, and what is said of it.
fn schema_of(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<(), String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let begun = Instant::now();
    let compiled = schema::from_folder(folder.path()).map(drop).map_err(|error| error.to_string());
    assert!(begun.elapsed() < LONGEST);
    (folder, compiled)
}

#[test]
fn schemas_of_strangers_are_refused_with_the_file() {
    let head = "syntax = \"proto2\";\n";
    let cycle = |needs: &str| format!("{head}import \"{needs}\";\n");
    let deep = format!("{head}{}", "message M { ".repeat(50_000));
    let option = format!(
        "{head}import \"google/protobuf/descriptor.proto\";\n\
         message R {{ optional R r = 1; }}\n\
         extend google.protobuf.MessageOptions {{ optional R deep = 50000; }}\n\
         message M {{ option (deep) = {{ {} {} }}; }}\n",
        "r { ".repeat(50_000),
        "}".repeat(50_000)
    );
    let large = format!("{head}// {}\n", "x".repeat(5 << 20));
    for (files, expected) in [
        (vec![("a.proto", &*cycle("b.proto")), ("b.proto", &*cycle("a.proto"))], "a.proto"),
        (vec![("a.proto", &*cycle("a.proto"))], "a.proto"),
        (vec![("a.proto", &*cycle("../../../etc/hostname"))], "a.proto"),
        (vec![("a.proto", &*cycle("/etc/hostname"))], "a.proto"),
        (vec![("a.proto", &*deep)], "a.proto"),
        (vec![("a.proto", &*option)], "a.proto: brackets are more than"),
        (vec![("a.proto", &*large)], "a.proto: with it there are more than"),
        (vec![("a.proto", "\u{0}\u{1b}[2J")], "a.proto"),
        (vec![("a.txt", "")], "there is no .proto file"),
    ] {
        let (_folder, compiled) = schema_of(&files);
        let error = compiled.unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Each imports the next, so that whoever compiles the first is in all of them at once.
#[test]
fn a_long_chain_of_imports_is_compiled_or_refused() {
    let chain = |count: usize| {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..count {
            let next = if number + 1 < count {
                format!("import \"{}.proto\";", number + 1)
            } else {
                String::new()
            };
            fs::write(
                folder.path().join(format!("{number}.proto")),
                format!("syntax = \"proto3\";{next}"),
            )
            .unwrap();
        }
        schema::from_folder(folder.path()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(chain(1900), Ok(()));
    let error = chain(2500).unwrap_err();
    assert!(error.contains("with it there are more than 2000 files"), "{error}");
}

#[cfg(unix)]
#[test]
fn nobody_waits_for_a_pipe_in_a_folder_of_schemas_or_captures() {
    use std::os::unix::fs::symlink;

    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let (folder, _) = schema_of(&[]);
    let path = folder.path().join("a.proto");
    let refused = |expected: &str| {
        let error = schema::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    pipe(&path);
    refused("a.proto: it is no ordinary file");
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    refused("a.proto: it is no ordinary file");
    fs::remove_file(&path).unwrap();
    symlink("a.proto", &path).unwrap();
    refused("a.proto");
    fs::remove_file(&path).unwrap();
    // Nor for one that is imported by another name.
    fs::write(&path, "syntax = \"proto3\"; import \"pipe\";").unwrap();
    pipe(&folder.path().join("pipe"));
    refused("pipe: it is no ordinary file");
    // A folder that is in itself is gone through once.
    fs::remove_file(folder.path().join("pipe")).unwrap();
    fs::write(&path, "syntax = \"proto3\";").unwrap();
    symlink(".", folder.path().join("again")).unwrap();
    schema::from_folder(folder.path()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name);
    support::capture::Entries::new().write(&name("b.mcap"));
    pipe(&name("a.mcap"));
    pipe(&name("c.open.mcap"));
    symlink("/dev/zero", name("d.mcap")).unwrap();
    symlink(".", name("f.mcap")).unwrap();
    fs::write(name("notes.txt"), "nothing of ours").unwrap();
    let capture = Capture::open(&[folder.path()]).unwrap();
    let found: Vec<_> = capture.segments().iter().map(|segment| segment.path.clone()).collect();
    assert_eq!(found, [name("b.mcap")]);
    assert_eq!(capture.entries().count(), 0);
    // What should be there is not left out without a word.
    symlink("nowhere", name("e.mcap")).unwrap();
    let told: Vec<_> = Capture::open(&[folder.path()]).unwrap().entries().collect();
    let [Err(error)] = &told[..] else { panic!("{told:?}") };
    assert!(error.is_damage() && error.to_string().contains("e.mcap"), "{error}");
}
