//! Entries with pseudonyms, and the proof that nothing else is left in what was written.
//!
//! The inputs are read twice: first to learn which names there are, so that each is found wherever it is,
//! whatever comes first. Frames whose payload nobody here knows are left out.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use mcap::records::{Record, op};
use prost::Message;
use prost_reflect::MessageDescriptor;
use ring::rand::{SecureRandom, SystemRandom};

use super::{names::Rename, survivors::Survivors};
use crate::{
    by_address::ByAddress,
    capture::{self, MESSAGE_HEADER_SIZE},
    entry::{Entry, Frame, FrameType, SessionEvent, Subscription, What},
    error::{Error, Kind, Result, Undecodable},
    protocol::{self, PROTOCOLS},
    redact::{Class, Counts, Key, Policy, Redactor, Replaced, Rules},
    schema::{self, FrameTypes},
};

/// How names are replaced.
#[derive(Clone, Debug)]
pub struct Redaction {
    /// Whoever has it gets the same pseudonyms again.
    pub key: Key,
    /// What is not as in the table.
    pub policy: Policy,
    /// The first three bytes of MAC addresses stay, which say who made the device.
    pub keep_oui: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// Frames that were left out as nothing is known of their payload.
    pub denied: u64,
    /// What was replaced and dropped, and what was looked for in vain.
    pub counts: Counts,
}

/// A key that nobody has, and that is gone when the work is done.
pub fn fresh_key() -> Result<Key> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Kind::Internal { reason: "the system has no random numbers".to_owned() })?;
    Ok(Key::new(&bytes).expect("it is long enough"))
}

/// The key in a file, which nobody but its owner may read. The end of a last line is no part of it.
pub fn key_from(path: &Path) -> Result<Key> {
    // Whoever names another file by mistake should not wait for all of it.
    const MOST: u64 = 64 * 1024;

    let wrong = |expected: &'static str, found: String| -> Error {
        Kind::RedactKey { path: path.to_owned(), expected, found }.into()
    };
    // Opening a pipe would wait until somebody writes to it.
    if !fs::metadata(path).map_err(Error::io("read", path))?.is_file() {
        return Err(wrong("a file with a key", "something else".to_owned()));
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if let Some(mode) = readable_by_others(&metadata) {
        let found = format!("the permissions {mode:03o}");
        return Err(wrong("a key that only its owner can read", found));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MOST {
        return Err(wrong("a key of at most 64 KiB", "more".to_owned()));
    }
    let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let key = key.strip_suffix(b"\r").unwrap_or(key);
    Key::new(key).ok_or_else(|| wrong("a key of at least 16 bytes", format!("{} bytes", key.len())))
}

/// The policy in a file.
pub fn policy_from(path: &Path) -> Result<Policy> {
    capture::refuse_pipe(path, "a policy in a file")?;
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Policy::parse(&text, &path.display().to_string())
}

#[cfg(unix)]
fn readable_by_others(metadata: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn readable_by_others(_: &fs::Metadata) -> Option<u32> {
    None
}

/// Replaces what is in one entry after the other.
pub(super) struct Masker<'a> {
    redactor: Redactor,
    policy: &'a Policy,
    renames: &'a [Rename],
    event: MessageDescriptor,
    events: Rules,
    /// None if nothing is known of the payload.
    known: ByAddress<FrameType, Option<Rc<Target>>>,
    /// By protocol and payload.
    targets: HashMap<(&'static str, String), Option<Rc<Target>>>,
    subscriptions: ByAddress<Subscription, Arc<Subscription>>,
    denied: u64,
}

/// What a frame becomes.
struct Target {
    kind: Arc<FrameType>,
    envelope: MessageDescriptor,
    rules: Rules,
}

impl<'a> Masker<'a> {
    /// One that has learnt from all entries there are. What cannot be read is told when it is read again.
    pub(super) fn learnt(
        redaction: &'a Redaction,
        renames: &'a [Rename],
        moves_times: bool,
        entries: impl Iterator<Item = Result<Entry>>,
    ) -> Result<Self> {
        let event = schema::message(schema::bundled(), schema::SESSION_EVENT)?;
        let mut masker = Self {
            redactor: Redactor::new(&redaction.key, redaction.keep_oui, moves_times),
            policy: &redaction.policy,
            renames,
            events: Rules::new(&event, &redaction.policy),
            event,
            known: ByAddress::default(),
            targets: HashMap::new(),
            subscriptions: ByAddress::default(),
            denied: 0,
        };
        for entry in entries.flatten() {
            match masker.apply(entry) {
                Err(error) if !error.is_undecodable() => return Err(error),
                _ => {}
            }
        }
        Ok(Self {
            redactor: masker.redactor.learnt()?,
            known: ByAddress::default(),
            subscriptions: ByAddress::default(),
            denied: 0,
            ..masker
        })
    }

    /// The entry with pseudonyms. None if nothing is known of what is in it.
    pub(super) fn apply(&mut self, entry: Entry) -> Result<Option<Entry>> {
        let what = match entry.what {
            What::Event(event) => What::Event(self.event(&event)?),
            What::Frame(ref frame) => match self.target(&entry.subscription, &frame.kind)? {
                Some(target) => What::Frame(self.frame(&entry, frame, &target)?),
                None => {
                    self.denied += 1;
                    return Ok(None);
                }
            },
        };
        self.redactor.check()?;
        let subscription = self.subscription(&entry.subscription);
        Ok(Some(Entry { subscription, what, ..entry }))
    }

    /// What came of it so far.
    pub(super) fn redacted(&self) -> Redacted {
        Redacted { denied: self.denied, counts: self.redactor.counts() }
    }

    /// All is written: what has to be proven of it.
    pub(super) fn written(self) -> Result<Written<'a>> {
        Ok(Written {
            replaced: self.redactor.written()?,
            policy: self.policy,
            event: self.event,
            targets: self.targets.into_values().flatten().collect(),
            denied: self.denied,
        })
    }

    fn frame(&mut self, entry: &Entry, frame: &Frame, target: &Target) -> Result<Frame> {
        let data = target.rules.apply(&frame.data, &mut self.redactor).map_err(|fault| {
            Error::from(Undecodable {
                subscription: entry.subscription.name.clone(),
                sequence: frame.sequence,
                received: entry.received,
                byte: fault.byte,
                reason: fault.to_string(),
            })
        })?;
        // The capture may tell a time that is not in the frame, or no longer.
        let sent = protocol::by_name(&entry.subscription.protocol).envelope(&data).time;
        let kind = Arc::clone(&target.kind);
        Ok(Frame { sequence: frame.sequence, sent, kind, data: data.into() })
    }

    fn event(&mut self, event: &SessionEvent) -> Result<SessionEvent> {
        let fault = |reason: String| Kind::Internal { reason };
        let data = self.events.apply(&event.encode_to_vec(), &mut self.redactor);
        let data = data.map_err(|error| fault(error.to_string()))?;
        SessionEvent::decode(&*data).map_err(|error| fault(error.to_string()).into())
    }

    /// The type by the schema that the table is of, whatever schema the capture brought along.
    fn target(
        &mut self,
        subscription: &Subscription,
        kind: &Arc<FrameType>,
    ) -> Result<Option<Rc<Target>>> {
        if let Some(target) = self.known.get(kind) {
            return Ok(target.clone());
        }
        let protocol = protocol::by_name(&subscription.protocol);
        let payload = kind.payload.clone().unwrap_or_default();
        let key = (protocol.name(), payload);
        if !self.targets.contains_key(&key) {
            let types = FrameTypes::of(protocol);
            let mut all = types.all();
            let found = all.find(|known| known.payload.as_deref() == Some(&*key.1));
            let target = match found {
                None => None,
                Some(kind) => {
                    let pool = schema::from_descriptor_set(&kind.descriptors, "the schema")?;
                    let envelope = schema::message(&pool, &kind.envelope)?;
                    let rules = Rules::new(&envelope, self.policy);
                    Some(Rc::new(Target { kind: Arc::clone(kind), envelope, rules }))
                }
            };
            self.targets.insert(key.clone(), target);
        }
        let target = self.targets[&key].clone();
        self.known.insert(kind, target.clone());
        Ok(target)
    }

    fn subscription(&mut self, subscription: &Arc<Subscription>) -> Arc<Subscription> {
        if let Some(known) = self.subscriptions.get(subscription) {
            return Arc::clone(known);
        }
        let protocol = protocol::by_name(&subscription.protocol);
        let is_topic = protocol.topics().iter().any(|topic| topic.name == subscription.topic);
        let topic = if is_topic {
            subscription.topic.clone()
        } else {
            self.redactor.name(Class::Customer, &subscription.topic)
        };
        let host = match &*subscription.host {
            "" => String::new(),
            host => self.redactor.host(host),
        };
        let name = self.name(&subscription.name, &subscription.topic, &topic);
        let protocol = protocol.name().to_owned();
        let made = Arc::new(Subscription { name, protocol, topic, host });
        self.subscriptions.insert(subscription, Arc::clone(&made));
        made
    }

    /// A name that the user has just given stays. Of another one the topic at its end does: people call
    /// their subscriptions `CUSTOMER-TOPIC`.
    fn name(&mut self, name: &str, topic: &str, new_topic: &str) -> String {
        if self.renames.iter().any(|rename| rename.new_name() == name) {
            return name.to_owned();
        }
        match name.strip_suffix(topic).filter(|_| !topic.is_empty()) {
            Some("") => new_topic.to_owned(),
            Some(customer) if customer.ends_with(['-', '_', '.', ':', '/', ' ']) => {
                let (customer, parting) = customer.split_at(customer.len() - 1);
                self.redactor.name(Class::Customer, customer) + parting + new_topic
            }
            _ => self.redactor.name(Class::Customer, name),
        }
    }
}

/// What was written, before it is proven.
pub(super) struct Written<'a> {
    replaced: Replaced,
    policy: &'a Policy,
    event: MessageDescriptor,
    targets: Vec<Rc<Target>>,
    denied: u64,
}

impl Written<'_> {
    /// What came of it.
    pub(super) const fn redacted(&self) -> Redacted {
        Redacted { denied: self.denied, counts: self.replaced.counts() }
    }

    /// Fails if anything that was replaced is still in a file, and names the fields in which it is. Nothing of
    /// it is taken on trust but the schemas that we wrote there, which hold no values.
    pub(super) fn prove(&self, path: &Path) -> Result<()> {
        let mut proof = self.replaced.proof();
        let types = PROTOCOLS.map(FrameTypes::of);
        let schemas: Vec<_> = types
            .iter()
            .flat_map(FrameTypes::all)
            .map(|kind| kind.descriptors.clone())
            .chain([Bytes::from(schema::session_event_descriptors())])
            .collect();
        let mut survivors = Survivors::new(self.policy);
        let mut channels = HashMap::new();
        capture::each_record(path, |opcode, data| {
            let mut message = None;
            match (opcode, data.first_chunk()) {
                (op::CHANNEL, _) => channels.extend(self.channel(data)),
                (op::MESSAGE, Some(channel)) => {
                    message = channels.get(&u16::from_le_bytes(*channel)).copied();
                }
                _ => {}
            }
            // These are of numbers, some of which look like an address.
            let data = match opcode {
                op::MESSAGE_INDEX
                | op::CHUNK_INDEX
                | op::STATISTICS
                | op::SUMMARY_OFFSET
                | op::DATA_END
                | op::FOOTER => &[],
                // And this one says how much there is of everything.
                op::METADATA if data.get(4..).is_some_and(|name| name.starts_with(RESULT)) => &[],
                op::MESSAGE => &data[data.len().min(MESSAGE_HEADER_SIZE)..],
                _ => data,
            };
            let own = schemas.iter().find(|schema| opcode == op::SCHEMA && data.ends_with(schema));
            let rest = &data[..data.len() - own.map_or(0, Bytes::len)];
            survivors.look(&mut proof, opcode, rest, message)
        })?;
        survivors.finish()
    }

    /// The number of a channel, and what is in it.
    fn channel(&self, record: &[u8]) -> Option<(u16, &MessageDescriptor)> {
        let Ok(Record::Channel(channel)) = mcap::parse_record(op::CHANNEL, record) else {
            return None;
        };
        let Some(payload) = channel.metadata.get("payload") else {
            return Some((channel.id, &self.event));
        };
        let target =
            self.targets.iter().find(|target| target.kind.payload.as_ref() == Some(payload))?;
        Some((channel.id, &target.envelope))
    }
}

/// The name of the metadata record that says what came of it.
const RESULT: &[u8] = super::RESULT.as_bytes();

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        capture::{About, SealedFile},
        synth::{self, Synth},
    };

    /// Redacts a made-up campus, with a class that is not replaced though it was learnt, and proves it.
    fn proven(sabotaged: Option<Class>) -> Result<()> {
        // Only one topic has URLs, and frames of more than all others.
        let topics: &[&str] = match sabotaged {
            Some(Class::Url) => &["apprf"],
            _ => &["audit", "location", "monitoring", "presence", "security"],
        };
        let options = synth::Options {
            messages: if topics.len() == 1 { 4 } else { 150 },
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            devices: 12,
            ..synth::Options::default()
        };
        let entries = || Synth::new(&options).unwrap().map(Ok);
        let key = Key::new(b"synthetic key for tests").unwrap();
        let redaction = Redaction { key, policy: Policy::default(), keep_oui: false };
        let mut masker = Masker::learnt(&redaction, &[], false, entries()).unwrap();
        if let Some(class) = sabotaged {
            masker.redactor.sabotage(class);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.mcap");
        let about = About { started: synth::START, host: String::new(), options: BTreeMap::new() };
        let mut file = SealedFile::create(&path, &about, &[]).unwrap();
        for entry in entries() {
            file.append(&masker.apply(entry.unwrap()).unwrap().unwrap()).unwrap();
        }
        let written = masker.written().unwrap();
        assert!(written.redacted().counts.originals > 50, "{:?}", written.redacted());
        let proven = file.finish_if(|path| written.prove(path));
        assert_eq!(path.exists(), proven.is_ok());
        proven.map(drop)
    }

    #[test]
    fn the_proof_refuses_whatever_class_is_forgotten() {
        proven(None).unwrap();
        // Of the others nothing is looked for: coordinates, times, and what is harmless.
        for class in [
            Class::Mac,
            Class::Ip,
            Class::Essid,
            Class::User,
            Class::Device,
            Class::Serial,
            Class::Customer,
            Class::Site,
            Class::Url,
            Class::Text,
        ] {
            assert!(proven(Some(class)).unwrap_err().is_survivor(), "{class:?}");
        }
    }
}
