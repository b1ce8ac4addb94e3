//! NDJSON -> codec -> Entry -> capture: the way back from `decode`.
//!
//! A line that `decode` has written becomes the frame that is decoded to it. A line written by hand
//! needs no more than a topic and its data; what else a frame has is made up, always in the same way.
//! The first line that does not fit ends it, and then there is no capture. Memory depends on the
//! longest line, never on how many there are.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::bytes::Bytes;
use prost_reflect::{Kind as FieldKind, MessageDescriptor};
use serde_json::value::RawValue;

use crate::{
    capture::{About, SealedFile},
    codec::{
        bytes,
        encode::{self, Object, Undeclared, Unfit},
        plan::BytesStyle,
        walk::MESSAGE_LIMIT,
    },
    entry::{Entry, Frame, FrameType, Subscription, Timestamp, What},
    error::{BadLine, Error, Kind, Result},
    protocol::{PROTOCOLS, Protocol, Topic},
    schema::{self, FrameTypes, Resolver},
};

/// How lines are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// How bytes are written.
    pub bytes: BytesStyle,
    /// Take a frame's bytes as they are, from `@raw`.
    pub raw: bool,
    /// When the first frame was received, where the lines do not say. Each of the others is a second
    /// later than the one before it.
    pub start: Timestamp,
    /// What knows the payloads.
    pub resolver: Resolver,
}

/// 2026-01-05T08:00:00Z: a fixed moment, so that nothing depends on the clock.
pub const START: Timestamp = Timestamp::from_nanos(1_767_600_000_000_000_000);

/// How long after the frame before it one is received that does not say when.
const APART: Duration = Duration::from_secs(1);

/// The host that all subscriptions are of: lines do not say which one it was. RFC 2606 has seen to it
/// that there is none of that name.
const HOST: &str = "encoded.invalid";

/// No line may be longer, in bytes: the largest message, decoded, with its bytes beside it.
const LINE_LIMIT: u64 = 8 * MESSAGE_LIMIT as u64;

/// How a zstd frame begins (RFC 8878, section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a line can have beside the envelope's fields.
const KEYS: [&str; 7] = ["received", "time", "subscription", "topic", "type", "@unknown", "@raw"];

/// What a line is.
const EXPECTED: &str = "one JSON object";

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The capture's size in bytes.
    pub size: u64,
}

/// What files begin with that are taken for lines by mistake, what they are, and what to do.
const NO_LINES: [(&[u8], &str, &str); 2] = [
    (
        mcap::MAGIC,
        "a capture",
        "decode makes lines of a capture, which encode takes: centralcap decode FILE.mcap --unknown",
    ),
    (&[0x1f, 0x8b], "what gzip has packed", "unpack it first, or pack it with zstd"),
];

/// Editors and shells of Windows put it before text. RFC 8259 leaves it to the reader whether it is taken.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where lines come from.
pub struct Input {
    name: String,
    reader: Box<dyn BufRead>,
}

impl Input {
    /// Anything that can be read, packed by zstd or not. `name` is for errors.
    pub fn new(name: impl Into<String>, reader: impl Read + 'static) -> Result<Self> {
        let name = name.into();
        let unpacked = |mut reader: BufReader<_>| -> io::Result<Box<dyn BufRead>> {
            Ok(if reader.fill_buf()?.starts_with(&ZSTD) {
                Box::new(BufReader::new(zstd::Decoder::with_buffer(reader)?))
            } else {
                Box::new(reader)
            })
        };
        let begun = |reader| -> io::Result<_> {
            let mut reader = unpacked(reader)?;
            if reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
                reader.consume(BYTE_ORDER_MARK.len());
            }
            Ok(reader)
        };
        let reader = begun(BufReader::with_capacity(1 << 16, reader));
        Ok(Self { reader: reader.map_err(Error::io("read", Path::new(&name)))?, name })
    }

    /// A file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::new(path.display().to_string(), file)
    }

    /// Asked before the first line: what is no text at all is told as what it is.
    fn expect_lines(&mut self) -> Result<()> {
        let begin = self.reader.fill_buf().map_err(Error::io("read", Path::new(&self.name)))?;
        match NO_LINES.iter().find(|(magic, ..)| begin.starts_with(magic)) {
            Some((_, found, hint)) => {
                Err(Kind::NotLines { origin: self.name.clone(), found, hint }.into())
            }
            None => Ok(()),
        }
    }

    /// The next line with its end, if there is one.
    fn next<'t>(&mut self, line: usize, text: &'t mut Vec<u8>) -> Result<Option<&'t [u8]>> {
        text.clear();
        let read = self.reader.by_ref().take(LINE_LIMIT + 1).read_until(b'\n', text);
        match read.map_err(Error::io("read", Path::new(&self.name)))? {
            0 => Ok(None),
            length if length as u64 > LINE_LIMIT => {
                let expected = format!("at most {LINE_LIMIT} bytes");
                Err(self.unfit(line, Unfit::new("", expected, "more")))
            }
            _ => Ok(Some(text)),
        }
    }

    fn unfit(&self, line: usize, unfit: Unfit) -> Error {
        line_unfit(&self.name, line, unfit)
    }
}

fn line_unfit(origin: &str, line: usize, unfit: Unfit) -> Error {
    let Unfit { path: field, expected, found, hint } = unfit;
    let origin = origin.to_owned();
    Kind::Line(BadLine { origin, line, field, expected, found, hint }).into()
}

/// Writes a sealed capture of all lines, in their order.
pub fn write(options: &Options, inputs: Vec<Input>, path: &Path) -> Result<Summary> {
    let origins: Vec<_> = inputs.iter().map(|input| input.name.clone()).collect();
    let mut encoder = Encoder::new(options);
    let mut target: Option<SealedFile> = None;
    let mut summary = Summary::default();
    let mut text = Vec::new();
    for mut input in inputs {
        input.expect_lines()?;
        let mut number = 1;
        while let Some(line) = input.next(number, &mut text)? {
            if !line.trim_ascii().is_empty() {
                let entry = encoder.entry(line).map_err(|unfit| input.unfit(number, unfit))?;
                summary.frames += 1;
                summary.bytes += entry.frame().map_or(0, |frame| frame.data.len() as u64);
                let file = match &mut target {
                    Some(file) => file,
                    None => target.insert(create(path, entry.received)?),
                };
                file.append(&entry)?;
            }
            number += 1;
        }
    }
    let file = target
        .ok_or_else(|| line_unfit(&origins.join(", "), 1, Unfit::new("", EXPECTED, "the end")))?;
    summary.size = file.finish()?;
    Ok(summary)
}

fn create(path: &Path, started: Timestamp) -> Result<SealedFile> {
    let about = About { started, host: String::new(), options: BTreeMap::new() };
    let types = FrameTypes::of(PROTOCOLS[0]);
    let mut kinds: Vec<_> = types.all().map(AsRef::as_ref).collect();
    kinds.sort_by_key(|kind| &kind.label);
    SealedFile::create(path, &about, &kinds)
}

/// A file of lines that is read as a capture is.
#[derive(Clone, Debug)]
pub struct Lines {
    path: PathBuf,
    options: Options,
}

impl Lines {
    /// Reads this file as the options say. It is not opened yet.
    pub fn new(path: &Path, options: &Options) -> Self {
        Self { path: path.to_owned(), options: options.clone() }
    }

    /// Whether a file begins as lines of JSON do, packed by zstd or not, and not as a capture does.
    pub fn are_in(path: &Path) -> Result<bool> {
        let metadata = path.metadata().map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            return Ok(false);
        }
        let mut input = Input::open(path)?;
        let start = input.reader.fill_buf().map_err(Error::io("read", path))?;
        Ok(start.trim_ascii_start().first() == Some(&b'{'))
    }

    /// The frame of each line, from the first one. After an error there are no more.
    pub fn entries(&self) -> Result<LineEntries> {
        let input = Input::open(&self.path)?;
        let encoder = Encoder::new(&self.options);
        Ok(LineEntries { input, encoder, line: 0, text: Vec::new(), is_over: false })
    }

    /// Whether any line says what the schema does not know, as `decode --unknown` does.
    pub fn show_unknown(&self) -> Result<bool> {
        const KEY: &[u8] = b"\"@unknown\":";

        let mut input = Input::open(&self.path)?;
        let mut text = Vec::new();
        let mut number = 1;
        while let Some(line) = input.next(number, &mut text)? {
            // Within a string its quotes would be escaped.
            if line.windows(KEY.len()).any(|part| part == KEY) {
                return Ok(true);
            }
            number += 1;
        }
        Ok(false)
    }
}

/// The entries of [`Lines`].
pub struct LineEntries {
    input: Input,
    encoder: Encoder,
    /// The number of the one that was read last.
    line: usize,
    text: Vec<u8>,
    is_over: bool,
}

impl Iterator for LineEntries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        while !self.is_over {
            self.line += 1;
            let entry = match self.input.next(self.line, &mut self.text) {
                Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => match self.encoder.entry(line) {
                    Ok(entry) => return Some(Ok(entry)),
                    Err(unfit) => Some(Err(self.input.unfit(self.line, unfit))),
                },
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            };
            self.is_over = true;
            return entry;
        }
        None
    }
}

/// Turns lines into entries.
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    protocol: &'static dyn Protocol,
    types: FrameTypes,
    /// By the label, and the payload if it is known.
    known: HashMap<(String, Option<String>), Known>,
    /// By name and topic.
    feeds: HashMap<(String, String), Feed>,
    /// When the next frame is received, unless its line says when.
    next: Timestamp,
}

/// A type of frames.
#[derive(Clone, Debug)]
struct Known {
    kind: Arc<FrameType>,
    envelope: MessageDescriptor,
}

#[derive(Debug)]
struct Feed {
    subscription: Arc<Subscription>,
    frames: u32,
}

/// What a line says about a frame besides what is in it.
struct Line<'j> {
    received: Option<Timestamp>,
    time: Option<Timestamp>,
    subscription: Option<String>,
    topic: String,
    payload: Option<String>,
    undeclared: Vec<Undeclared>,
    raw: Option<&'j RawValue>,
    /// The envelope's fields.
    fields: Object<'j>,
}

impl Encoder {
    /// Takes lines as the options say.
    pub fn new(options: &Options) -> Self {
        let protocol = PROTOCOLS[0];
        Self {
            options: options.clone(),
            protocol,
            types: FrameTypes::of(protocol),
            known: HashMap::new(),
            feeds: HashMap::new(),
            next: options.start,
        }
    }

    /// The frame of a line.
    pub fn entry(&mut self, line: &[u8]) -> Result<Entry, Unfit> {
        let line = Line::read(line, self.protocol)?;
        let (kind, data) = match line.raw {
            Some(raw) if self.options.raw => {
                let known = line.payload.is_some().then(|| self.known(&line)).transpose()?;
                (known.and_then(|(kind, _)| kind), raw_bytes(raw)?)
            }
            None if self.options.raw => {
                return Err(Unfit::new("@raw", "the frame's bytes", "none")
                    .with_hint("decode --raw writes them; without --raw the fields are taken"));
            }
            Some(_) if line.fields.fields.is_empty() => {
                return Err(Unfit::new("", "fields of the envelope", "only @raw")
                    .with_hint("encode --raw takes the bytes from @raw"));
            }
            _ => {
                let (kind, envelope) = self.known(&line)?;
                (kind, self.data(&line, &envelope)?)
            }
        };
        if data.len() > MESSAGE_LIMIT {
            let expected = format!("a frame of at most {MESSAGE_LIMIT} bytes");
            return Err(Unfit::new("", expected, format!("{} bytes", data.len())));
        }
        self.enter(line, kind, data.into())
    }

    /// The envelope's bytes.
    fn data(&self, line: &Line<'_>, envelope: &MessageDescriptor) -> Result<Vec<u8>, Unfit> {
        let mut object = line.fields.clone();
        // Whoever says when a frame was received has got it from somewhere, and means what is there.
        let made_up: Vec<_> = match line.received {
            Some(_) => Vec::new(),
            None => self.protocol.envelope_fields(&line.topic, line.time.unwrap_or(self.next)),
        };
        let made_up: Vec<_> = made_up
            .into_iter()
            .filter(|(name, _)| object.value(name).is_none())
            .map(|(name, json)| {
                (name, RawValue::from_string(json).expect("the protocol gives JSON"))
            })
            .collect();
        object.fields.extend(made_up.iter().map(|(name, json)| ((*name).to_owned(), &**json)));
        let mut names = object.fields.iter().map(|(name, _)| name);
        if let Some(name) = names.find(|name| encode::is_unknown(envelope, name)) {
            let fields: Vec<_> = envelope.fields().map(|field| field.name().to_owned()).collect();
            let expected = format!("one of {}, {}", KEYS.join(", "), fields.join(", "));
            return Err(Unfit::new("", expected, format!("{name:?}")));
        }
        let payload = schema::payload_field(self.protocol, envelope);
        if let (Some(payload), None) = (payload, line.received) {
            let json = line.fields.value(payload.name());
            if json.is_none_or(|json| json.get() == "null") {
                let hint =
                    r#"if that is nothing, write "data": {}; only decode's own lines may lack it"#;
                let unfit = Unfit::new(payload.name(), "what is in the frame", "none");
                return Err(unfit.with_hint(hint));
            }
        }
        encode::encode(envelope, &object, self.options.bytes, &line.undeclared)
    }

    /// Makes an entry of a frame's bytes.
    fn enter(
        &mut self,
        line: Line<'_>,
        kind: Option<Arc<FrameType>>,
        data: Bytes,
    ) -> Result<Entry, Unfit> {
        let sent = self.protocol.envelope(&data).time;
        if let (Some(time), Some(sent), false) = (line.time, sent, self.options.raw)
            && time != sent
        {
            let expected = format!("{sent} (the envelope's timestamp)");
            return Err(Unfit::new("time", expected, time.to_string())
                .with_hint("leave it away, or change the envelope's timestamp"));
        }
        let sent = line.time.or(sent);
        let received = line.received.or(sent).unwrap_or(self.next);
        self.next = received.after(APART);
        let name = line.subscription.unwrap_or_else(|| line.topic.clone());
        let feed = self.feeds.entry((name.clone(), line.topic.clone())).or_insert_with(|| Feed {
            subscription: Arc::new(Subscription {
                name,
                protocol: self.protocol.name().to_owned(),
                topic: line.topic.clone(),
                host: HOST.to_owned(),
            }),
            frames: 0,
        });
        feed.frames = feed.frames.saturating_add(1);
        let frame = self.types.frame(&line.topic, feed.frames, data);
        // The line says what it is, where its shape may not.
        let kind = kind.unwrap_or_else(|| Arc::clone(&frame.kind));
        let frame = Frame { sent, kind, ..frame };
        Ok(Entry {
            subscription: Arc::clone(&feed.subscription),
            received,
            what: What::Frame(frame),
        })
    }

    /// The type of a line's frame and its envelope: by the user's word, by the line's, by the topic and
    /// by what fits. Where the payload is bytes, its shape tells its type, as where frames are recorded.
    fn known(
        &mut self,
        line: &Line<'_>,
    ) -> Result<(Option<Arc<FrameType>>, MessageDescriptor), Unfit> {
        let protocol = self.protocol;
        let with_kind = |known: Known| (Some(known.kind), known.envelope);
        if let Some(payload) = &line.payload {
            let label = label_of(protocol, payload).unwrap_or(&line.topic);
            let said = self.options.resolver.said(label, &line.topic).unwrap_or(payload).to_owned();
            return self.of_payload(label, Some(said)).map(with_kind);
        }
        let Known { envelope: plain, .. } = self.of_payload(&line.topic, None)?;
        let data = schema::payload_field(protocol, &plain);
        let data = data.and_then(|field| line.fields.value(field.name()));
        if data.is_some_and(|json| json.get().starts_with('"')) {
            return Ok((None, plain));
        }
        let named = |name: &str| protocol.topics().iter().find(|topic| topic.name == name);
        // As where frames are recorded, the subject helps only where the topic is not known.
        let subject = line.fields.value("subject").map(|json| encode::string(json, "subject"));
        let subject = subject.transpose()?.unwrap_or_default();
        if let Some(topic) = named(&line.topic).or_else(|| named(&subject)) {
            return self.fitting(line, topic).map(with_kind);
        }
        if let Some(said) = self.options.resolver.said(&line.topic, &line.topic) {
            let said = said.to_owned();
            return self.of_payload(&line.topic, Some(said)).map(with_kind);
        }
        match (data, line.received) {
            (None, Some(_)) => Ok((None, plain)),
            _ => Err(unknown_topic(protocol, format!("{:?}", line.topic))),
        }
    }

    /// Of the payloads of a topic the first of those that know most of the data.
    fn fitting(&mut self, line: &Line<'_>, topic: &'static Topic) -> Result<Known, Unfit> {
        let mut best: Option<(usize, Known)> = None;
        for payload in topic.payloads {
            let said = self.options.resolver.said(payload.label, &line.topic);
            let known =
                self.of_payload(payload.label, Some(said.unwrap_or(payload.message).to_owned()))?;
            let field = schema::payload_field(self.protocol, &known.envelope);
            let unknown = field.map_or(0, |field| {
                let data = line.fields.value(field.name());
                let data = data.and_then(|data| Object::read(data, "").ok()).unwrap_or_default();
                match field.kind() {
                    FieldKind::Message(payload) => {
                        let is_unknown =
                            |name: &&(String, _)| encode::is_unknown(&payload, &name.0);
                        data.fields.iter().filter(is_unknown).count()
                    }
                    _ => data.fields.len(),
                }
            });
            if best.as_ref().is_none_or(|(least, _)| unknown < *least) {
                best = Some((unknown, known));
            }
        }
        best.map(|(_, known)| known)
            .ok_or_else(|| unknown_topic(self.protocol, format!("{:?}", line.topic)))
    }

    fn of_payload(&mut self, label: &str, payload: Option<String>) -> Result<Known, Unfit> {
        let key = (label.to_owned(), payload);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let payload = key.1.as_deref();
        let found = self.options.resolver.frame_type(self.protocol, label, payload);
        let (kind, envelope) = found.map_err(|_| {
            let found = format!("{:?}", payload.unwrap_or_default());
            Unfit::new("type", "the full name of a message in the schema", found)
                .with_hint("--proto DIR takes a schema that has it")
        })?;
        let known = Known { kind: Arc::new(kind), envelope };
        self.known.insert(key, known.clone());
        Ok(known)
    }
}

fn unknown_topic(protocol: &dyn Protocol, found: String) -> Unfit {
    let topics: Vec<_> = protocol.topics().iter().map(|topic| topic.name).collect();
    Unfit::new("topic", format!("a topic ({})", topics.join(", ")), found)
        .with_hint("--payload TOPIC=MESSAGE says what another topic carries")
}

fn label_of(protocol: &'static dyn Protocol, message: &str) -> Option<&'static str> {
    let payload = protocol.payloads().find(|payload| payload.message == message);
    payload.map(|payload| payload.label)
}

fn raw_bytes(json: &RawValue) -> Result<Vec<u8>, Unfit> {
    let text = encode::string(json, "@raw")?;
    bytes::from_base64(&text)
        .ok_or_else(|| Unfit::new("@raw", "the base64 of a frame", encode::shown(json)))
}

impl<'j> Line<'j> {
    fn read(line: &'j [u8], protocol: &dyn Protocol) -> Result<Self, Unfit> {
        let text = str::from_utf8(line).map_err(|error| {
            let found = format!("byte {} that is not", error.valid_up_to());
            Unfit::new("", "UTF-8", found)
        })?;
        let object = only_object(text)?;
        let string =
            |name: &str| object.value(name).map(|json| encode::string(json, name)).transpose();
        let time = |name: &str| object.value(name).map(|json| moment(json, name)).transpose();
        let topic = string("topic")?.ok_or_else(|| unknown_topic(protocol, "none".to_owned()))?;
        let undeclared = object.value("@unknown").map(|json| Undeclared::read(json, "@unknown"));
        Ok(Self {
            received: time("received")?,
            time: time("time")?,
            subscription: string("subscription")?,
            topic,
            payload: string("type")?,
            undeclared: undeclared.transpose()?.unwrap_or_default(),
            raw: object.value("@raw"),
            fields: Object {
                fields: object
                    .fields
                    .into_iter()
                    .filter(|(name, _)| !KEYS.contains(&&**name))
                    .collect(),
            },
        })
    }
}

/// The one object that a line is.
fn only_object(text: &str) -> Result<Object<'_>, Unfit> {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let first = documents.next();
    let behind = documents.byte_offset();
    let json = match first {
        Some(Ok(json)) => json,
        Some(Err(error)) if error.is_eof() && matches!(text.trim(), "{" | "[") => {
            let unfit = Unfit::new("", EXPECTED, "the beginning of a document of several lines");
            return Err(unfit.with_hint(
                "decode --format ndjson writes a line for each frame, and jq -c makes a line of an object",
            ));
        }
        Some(Err(error)) if error.is_eof() => {
            return Err(Unfit::new("", EXPECTED, "an end in the middle of it"));
        }
        Some(Err(error)) => {
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            let found = format!("none at column {}: {reason}", error.column());
            return Err(Unfit::new("", EXPECTED, found));
        }
        None => return Err(Unfit::new("", EXPECTED, "none")),
    };
    let object = match Object::read(json, "") {
        Ok(object) => object,
        Err(unfit) if unfit.path.is_empty() => {
            return Err(Unfit { expected: EXPECTED.into(), ..unfit });
        }
        Err(unfit) => return Err(unfit),
    };
    let rest = text[behind..].trim_ascii_start();
    if rest.is_empty() {
        return Ok(object);
    }
    let column = text.len() - rest.len() + 1;
    Err(Unfit::new("", EXPECTED, format!("more at column {column}")))
}

/// A time of which captures can say when it was.
fn moment(json: &RawValue, name: &str) -> Result<Timestamp, Unfit> {
    let nanos = || {
        let time: jiff::Timestamp = encode::string(json, name).ok()?.parse().ok()?;
        u64::try_from(time.as_nanosecond()).ok()
    };
    nanos().map(Timestamp::from_nanos).ok_or_else(|| {
        let expected = "a time from 1970 to 2554 such as 2026-01-05T08:00:00.5Z";
        Unfit::new(name, expected, encode::shown(json))
    })
}
