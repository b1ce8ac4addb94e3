//! Where descriptors come from, and what type a frame has.
//!
//! Descriptors are bundled (compiled from `proto/`), embedded in a capture, or compiled from the
//! user's own `.proto` files. Descriptor sets from files are hostile until proven: prost-reflect
//! panics on some broken ones, in more places than could be checked before, so they are loaded behind
//! `catch_unwind`. Who hears of such a panic is up to the program: [`is_loading`].

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, FieldDescriptor, MessageDescriptor,
    prost_types::{FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type},
};

use crate::{
    by_address::ByAddress,
    entry::{Frame, FrameType, SessionEvent, Timestamp},
    error::{Error, Kind, Result},
    protocol::{self, Payload, Protocol},
    threads::locked,
};

mod sources;

/// A descriptor set that came with a capture may have so many bytes: in memory it takes many times as much.
/// That of all bundled types has a tenth of it.
pub const SET_LIMIT: usize = 1024 * 1024;

/// So many may those have altogether that one reader uses of a capture,
pub const SETS_LIMIT: usize = 4 * SET_LIMIT;

/// and of so many types may frames be. Few topics have several.
pub const TYPES_LIMIT: usize = 1000;

/// No name in such a set may have more bytes: it is written down for every value.
pub const NAME_LIMIT: usize = 128;

/// The serialised descriptor set of every file in `proto/`.
pub const BUNDLED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The full name of our own message.
pub const SESSION_EVENT: &str = "centralcap.SessionEvent";

static BUNDLED_POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(BUNDLED).expect("the build made this descriptor set and tests load it")
});

/// The descriptors that this version brings along.
pub fn bundled() -> &'static DescriptorPool {
    &BUNDLED_POOL
}

/// Loads a descriptor set that came with a capture. `origin` says where from, for the error.
pub fn from_descriptor_set(data: &[u8], origin: &str) -> Result<DescriptorPool> {
    let fault =
        |reason: String| Error::from(Kind::Descriptors { origin: origin.to_owned(), reason });
    if data.len() > SET_LIMIT {
        let size = data.len();
        return Err(fault(format!("they have {size} bytes, and may have {SET_LIMIT}")));
    }
    match caught(|| DescriptorPool::decode(data)) {
        Some(Ok(pool)) if has_long_name(&pool) => {
            Err(fault(format!("a name in them has more than {NAME_LIMIT} bytes")))
        }
        Some(Ok(pool)) => Ok(pool),
        _ if has_editions(data) => Err(fault(
            "it is written in an edition, and only proto2 and proto3 are known".to_owned(),
        )),
        Some(Err(error)) => Err(fault(error.to_string())),
        None => Err(fault("it makes no sense as descriptors".to_owned())),
    }
}

thread_local! {
    static IS_LOADING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is loading a descriptor set that came with a capture. A panic is then only one of the ways
/// in which it is refused, and [`from_descriptor_set`] returns an error for it. A panic hook may want to ask, and
/// be silent: hooks are the program's, and this library sets none.
pub fn is_loading() -> bool {
    IS_LOADING.get()
}

/// What comes of it; None if that is a panic.
fn caught<T>(load: impl FnOnce() -> T) -> Option<T> {
    IS_LOADING.set(true);
    let loaded = catch_unwind(AssertUnwindSafe(load));
    IS_LOADING.set(false);
    loaded.ok()
}

fn has_long_name(pool: &DescriptorPool) -> bool {
    let is_long = |name: &str| name.len() > NAME_LIMIT;
    pool.all_messages().any(|message| message.fields().any(|field| is_long(field.name())))
        || pool.all_enums().any(|known| known.values().any(|value| is_long(value.name())))
        || pool.all_extensions().any(|extension| is_long(extension.json_name()))
}

/// Whether a file is in a language that came after proto3, which prost-reflect does not read.
fn has_editions(data: &[u8]) -> bool {
    let set = FileDescriptorSet::decode(data);
    set.is_ok_and(|set| set.file.iter().any(|file| file.syntax() == "editions"))
}

/// Compiles every `.proto` file below `folder`. Imports are resolved inside it, and protobuf's own
/// well-known types are always there.
pub fn from_folder(folder: &Path) -> Result<DescriptorPool> {
    let fault = |reason: String| {
        Error::from(Kind::Descriptors { origin: folder.display().to_string(), reason })
    };
    let files = proto_files(folder)?;
    if files.is_empty() {
        return Err(fault("there is no .proto file".to_owned()));
    }
    sources::compiled(folder, &files).map_err(fault)
}

fn proto_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let listing = std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        for item in listing {
            let item = item.map_err(Error::io("read", &folder))?;
            let path = item.path();
            let file_type = item.file_type().map_err(Error::io("read", &path))?;
            if file_type.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Tells the frames of one protocol apart and gives each its type. Cheap to ask once per frame. A clone
/// shares the types, whose descriptors are large, and learns new ones by itself.
#[derive(Clone, Debug)]
pub struct FrameTypes {
    protocol: &'static dyn Protocol,
    known: Vec<(&'static Payload, Arc<FrameType>)>,
    unknown: HashMap<String, Arc<FrameType>>,
}

impl FrameTypes {
    /// The types of a protocol's frames, from the bundled descriptors.
    pub fn of(protocol: &'static dyn Protocol) -> Self {
        let known = protocol
            .payloads()
            .map(|payload| (payload, Arc::new(frame_type(protocol, payload.label, Some(payload)))));
        Self { protocol, known: known.collect(), unknown: HashMap::new() }
    }

    /// Makes a frame of a message's bytes: looks at the outside only, and never fails.
    pub fn frame(&mut self, topic: &str, sequence: u32, data: Bytes) -> Frame {
        let envelope = self.protocol.envelope(&data);
        let sent: Option<Timestamp> = envelope.time;
        let kind = match self.protocol.classify(topic, &envelope) {
            Some(payload) => {
                let mut known = self.known.iter();
                let known = known.find(|(known, _)| known.label == payload.label);
                Arc::clone(&known.expect("classified among its own").1)
            }
            None => {
                if !self.unknown.contains_key(topic) {
                    let plain = Arc::new(frame_type(self.protocol, topic, None));
                    self.unknown.insert(topic.to_owned(), plain);
                }
                Arc::clone(&self.unknown[topic])
            }
        };
        Frame { sequence, sent, kind, data }
    }

    /// All types that are known by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<FrameType>> {
        self.known.iter().map(|(_, kind)| kind)
    }
}

fn frame_type(
    protocol: &'static dyn Protocol,
    label: &str,
    payload: Option<&Payload>,
) -> FrameType {
    let (envelope, field) = protocol.envelope_message();
    let set = match payload {
        Some(payload) => envelope_of(bundled(), envelope, field, bundled(), payload.message),
        None => Ok(with_dependencies(&message(bundled(), envelope).expect("the envelope is ours"))),
    };
    FrameType {
        label: label.to_owned(),
        envelope: envelope.to_owned(),
        payload: payload.map(|payload| payload.message.to_owned()),
        descriptors: set
            .expect("bundled payloads exist: a test asks for each")
            .encode_to_vec()
            .into(),
    }
}

/// The type of frames of which nothing is known but that.
pub(crate) fn bundled_type(protocol: &str, label: &str, payload: Option<&String>) -> FrameType {
    let protocol = protocol::by_name(protocol);
    let is_it = |known: &&Payload| payload.is_some_and(|payload| payload == known.message);
    let known = protocol.payloads().find(is_it);
    frame_type(protocol, label, known)
}

/// The envelope's descriptors with its payload field declared as the payload's message. On the wire
/// both are length-delimited, so any protobuf reader now sees the whole content of untouched frames.
pub fn envelope_of(
    envelopes: &DescriptorPool,
    envelope: &str,
    field: u32,
    payloads: &DescriptorPool,
    payload: &str,
) -> Result<FileDescriptorSet> {
    let envelope = message(envelopes, envelope)?;
    let payload = message(payloads, payload)?;
    let payload_file = payload.parent_file();

    let mut set = with_dependencies(&payload);
    let mut outer = envelope.parent_file().file_descriptor_proto().clone();
    retype(&mut outer, envelope.name(), field, payload.full_name());
    if !outer.dependency.iter().any(|name| name == payload_file.name()) {
        outer.dependency.push(payload_file.name().to_owned());
    }
    for file in with_dependencies(&envelope).file {
        if file.name != outer.name && !set.file.iter().any(|known| known.name == file.name) {
            set.file.push(file);
        }
    }
    // The user's folder may hold an envelope file of the same name: ours stands for it.
    set.file.retain(|file| file.name != outer.name);
    set.file.push(outer);
    Ok(set)
}

fn retype(file: &mut FileDescriptorProto, message: &str, field: u32, payload: &str) {
    let fields = file
        .message_type
        .iter_mut()
        .filter(|candidate| candidate.name() == message)
        .flat_map(|message| &mut message.field);
    for candidate in fields.filter(|candidate| candidate.number() == field.cast_signed()) {
        candidate.set_type(Type::Message);
        candidate.type_name = Some(format!(".{payload}"));
    }
}

/// Finds the descriptor that the frames of a capture are decoded with: what the capture carries,
/// unless the user's own schema or word says otherwise. Clones share what they have found: descriptors
/// take long to load.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    user: Option<DescriptorPool>,
    payloads: HashMap<String, Said>,
    resolved: Mutex<ByAddress<FrameType, Slot>>,
    /// So many bytes have those that came with the capture.
    embedded: AtomicUsize,
    /// Labels of frames whose payload nobody knows.
    opaque: Mutex<BTreeSet<String>>,
}

/// The user's word on a topic.
#[derive(Debug)]
struct Said {
    message: String,
    /// Frames have come that it is about.
    is_heard: AtomicBool,
}

/// Where the descriptor of a frame type is, or comes.
type Slot = Arc<Mutex<Option<Result<MessageDescriptor, Unusable>>>>;

/// Why descriptors are of no use. Loading them again would only take as long again.
#[derive(Clone, Debug)]
struct Unusable {
    origin: String,
    reason: String,
}

impl From<Unusable> for Error {
    fn from(Unusable { origin, reason }: Unusable) -> Self {
        Kind::Descriptors { origin, reason }.into()
    }
}

impl Resolver {
    /// `user` is a schema that goes before the one in the capture. `payloads` says for a topic (or a
    /// label such as `location.geofence`) which message its payload is.
    pub fn new(user: Option<DescriptorPool>, payloads: HashMap<String, String>) -> Result<Self> {
        let said = |message| Said { message, is_heard: AtomicBool::new(false) };
        let payloads = payloads.into_iter().map(|(topic, message)| (topic, said(message)));
        let shared = Shared { user, payloads: payloads.collect(), ..Shared::default() };
        for said in shared.payloads.values() {
            shared.pool_of(&said.message)?;
        }
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The envelope with its payload's type, for the frames of one type.
    pub fn envelope(
        &self,
        protocol: &'static dyn Protocol,
        topic: &str,
        kind: &Arc<FrameType>,
    ) -> Result<MessageDescriptor> {
        let slot = {
            let mut resolved = locked(&self.shared.resolved);
            let has_room = resolved.len() < TYPES_LIMIT;
            let slot = resolved.or_try_insert_with(kind, || {
                let full = || too_many(format!("more than {TYPES_LIMIT} types of frames"));
                has_room.then(Slot::default).ok_or_else(full)
            })?;
            Arc::clone(slot)
        };
        // Whoever wants the same waits for it; others do not.
        let mut found = locked(&slot);
        if found.is_none() {
            *found = Some(match self.shared.resolve(protocol, topic, kind) {
                Ok(envelope) => Ok(envelope),
                Err(error) => match error.into_kind() {
                    Kind::Descriptors { origin, reason } => Err(Unusable { origin, reason }),
                    other => return Err(other.into()),
                },
            });
        }
        Ok(found.clone().expect("it was put there")?)
    }

    /// Which message the payload is by the user's word, if there is one on the label or the topic.
    pub fn said(&self, label: &str, topic: &str) -> Option<&str> {
        self.shared.said(label, topic)
    }

    /// The topics on which the user has said something, and of which no frame has come so far, in order.
    pub fn unheard(&self) -> Vec<&str> {
        let said = self.shared.payloads.iter();
        let unheard = said.filter(|(_, said)| !said.is_heard.load(Ordering::Relaxed));
        let mut topics: Vec<_> = unheard.map(|(topic, _)| topic.as_str()).collect();
        topics.sort_unstable();
        topics
    }

    /// The labels of the frames so far of whose payload nothing is known, so that it is bytes. In order.
    pub fn opaque(&self) -> Vec<String> {
        locked(&self.shared.opaque).iter().cloned().collect()
    }

    /// A type for new frames, and its envelope: that of this payload, by the user's schema if it has it,
    /// else by the bundled one; or the plain envelope.
    pub fn frame_type(
        &self,
        protocol: &'static dyn Protocol,
        label: &str,
        payload: Option<&str>,
    ) -> Result<(FrameType, MessageDescriptor)> {
        let Some(payload) = payload else {
            let (envelope, _) = protocol.envelope_message();
            return Ok((frame_type(protocol, label, None), message(bundled(), envelope)?));
        };
        let (envelope, descriptors) = self.shared.envelope_of(protocol, payload)?;
        let kind = FrameType {
            label: label.to_owned(),
            envelope: envelope.full_name().to_owned(),
            payload: Some(payload.to_owned()),
            descriptors: descriptors.into(),
        };
        Ok((kind, envelope))
    }
}

fn too_many(reason: String) -> Error {
    Kind::Descriptors { origin: "the capture".to_owned(), reason }.into()
}

impl Shared {
    fn resolve(
        &self,
        protocol: &'static dyn Protocol,
        topic: &str,
        kind: &FrameType,
    ) -> Result<MessageDescriptor> {
        let envelope = self.envelope(protocol, topic, kind)?;
        if payload_type(protocol, &envelope).is_none() {
            locked(&self.opaque).insert(kind.label.clone());
        }
        Ok(envelope)
    }

    fn envelope(
        &self,
        protocol: &'static dyn Protocol,
        topic: &str,
        kind: &FrameType,
    ) -> Result<MessageDescriptor> {
        let said = self.said(&kind.label, topic);
        let known = kind.payload.as_deref().filter(|name| {
            self.user.as_ref().is_some_and(|user| user.get_message_by_name(name).is_some())
        });
        let Some(payload) = said.or(known) else {
            let size = kind.descriptors.len();
            if self.embedded.fetch_add(size, Ordering::Relaxed) + size > SETS_LIMIT {
                return Err(too_many(format!("more than {SETS_LIMIT} bytes of them")));
            }
            let pool = from_descriptor_set(&kind.descriptors, "the capture")?;
            let envelope = pool.get_message_by_name(&kind.envelope);
            return envelope.ok_or_else(|| {
                let reason = format!("the message {} is not among them", kind.envelope);
                Kind::Descriptors { origin: "the capture".to_owned(), reason }.into()
            });
        };
        self.envelope_of(protocol, payload).map(|(envelope, _)| envelope)
    }

    fn said(&self, label: &str, topic: &str) -> Option<&str> {
        let said = self.payloads.get(label).or_else(|| self.payloads.get(topic))?;
        said.is_heard.store(true, Ordering::Relaxed);
        Some(&said.message)
    }

    /// The envelope with this payload, and its descriptor set.
    fn envelope_of(
        &self,
        protocol: &'static dyn Protocol,
        payload: &str,
    ) -> Result<(MessageDescriptor, Vec<u8>)> {
        let (envelope, field) = protocol.envelope_message();
        let envelopes = match &self.user {
            Some(user) if user.get_message_by_name(envelope).is_some() => user,
            _ => bundled(),
        };
        let set = envelope_of(envelopes, envelope, field, self.pool_of(payload)?, payload)?;
        let set = set.encode_to_vec();
        Ok((message(&from_descriptor_set(&set, "the schema")?, envelope)?, set))
    }

    fn pool_of(&self, name: &str) -> Result<&DescriptorPool> {
        let mut pools = self.user.iter().chain([bundled()]);
        pools.find(|pool| pool.get_message_by_name(name).is_some()).ok_or_else(|| {
            let origin = match self.user {
                Some(_) => "the given schema and the bundled one",
                None => "the bundled schema",
            };
            Kind::UnknownMessage { name: name.to_owned(), origin: origin.to_owned() }.into()
        })
    }
}

/// The message of that full name in a pool.
pub fn message(pool: &DescriptorPool, name: &str) -> Result<MessageDescriptor> {
    pool.get_message_by_name(name).ok_or_else(|| {
        Kind::UnknownMessage { name: name.to_owned(), origin: "the schema".to_owned() }.into()
    })
}

/// The field of an envelope that holds the payload.
pub(crate) fn payload_field(
    protocol: &dyn Protocol,
    envelope: &MessageDescriptor,
) -> Option<FieldDescriptor> {
    let (_, number) = protocol.envelope_message();
    envelope.get_field(number)
}

/// The message that an envelope's payload is declared as; None if it is only bytes.
pub(crate) fn payload_type(
    protocol: &dyn Protocol,
    envelope: &MessageDescriptor,
) -> Option<MessageDescriptor> {
    payload_field(protocol, envelope)?.kind().as_message().cloned()
}

/// The file of a message and all files it needs, dependencies first, each once.
fn with_dependencies(message: &MessageDescriptor) -> FileDescriptorSet {
    fn visit(file: &prost_reflect::FileDescriptor, set: &mut FileDescriptorSet) {
        if set.file.iter().any(|known| known.name() == file.name()) {
            return;
        }
        for dependency in file.dependencies() {
            visit(&dependency, set);
        }
        set.file.push(file.file_descriptor_proto().clone());
    }
    let mut set = FileDescriptorSet::default();
    visit(&message.parent_file(), &mut set);
    set
}

/// The descriptor set that a capture's session channels carry.
pub fn session_event_descriptors() -> Vec<u8> {
    let event = message(bundled(), SESSION_EVENT).expect("our own message is bundled");
    with_dependencies(&event).encode_to_vec()
}

/// Reads a session event back from a capture.
pub fn session_event(data: &[u8]) -> Result<SessionEvent, prost::DecodeError> {
    SessionEvent::decode(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PROTOCOLS;

    #[test]
    fn every_payload_has_an_envelope_that_declares_it() {
        for protocol in PROTOCOLS {
            let types = FrameTypes::of(protocol);
            assert_eq!(types.all().count(), 7);
            for kind in types.all() {
                let pool = from_descriptor_set(&kind.descriptors, "a test").unwrap();
                let envelope = message(&pool, &kind.envelope).unwrap();
                let declared = payload_type(protocol, &envelope).unwrap();
                assert_eq!(Some(declared.full_name()), kind.payload.as_deref());
            }
        }
    }

    #[test]
    fn dependencies_come_first_and_names_are_unique() {
        let types = FrameTypes::of(PROTOCOLS[0]);
        for kind in types.all() {
            let set = FileDescriptorSet::decode(&*kind.descriptors).unwrap();
            let names: Vec<_> = set.file.iter().map(FileDescriptorProto::name).collect();
            for (index, file) in set.file.iter().enumerate() {
                for needed in &file.dependency {
                    assert!(names[..index].contains(&needed.as_str()), "{needed} in {names:?}");
                }
                assert!(!names[..index].contains(&names[index]));
            }
        }
    }

    #[test]
    fn a_broken_descriptor_set_is_an_error_and_no_panic() {
        let whole = session_event_descriptors();
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            refused += usize::from(from_descriptor_set(&broken, "a test").is_err());
        }
        assert!(refused > 0);
    }

    #[test]
    fn a_frame_of_an_unknown_topic_is_kept_with_the_plain_envelope() {
        let mut types = FrameTypes::of(PROTOCOLS[0]);
        let frame = types.frame("brand-new", 1, Bytes::from_static(b"\x12\x03new"));
        assert_eq!((frame.kind.label.as_str(), &frame.kind.payload), ("brand-new", &None));
        let pool = from_descriptor_set(&frame.kind.descriptors, "a test").unwrap();
        assert!(message(&pool, "StreamMessage.MsgProto").is_ok());
    }
}
