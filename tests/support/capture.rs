//! Captures made by our own writer.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use centralcap::{
    capture::{About, Capture, SealedFile},
    entry::{
        Entry, SessionEvent, Subscription, Timestamp, What, envelope::MsgProto, session_event,
    },
    inspect, protocol,
    schema::FrameTypes,
};

/// When all made-up recordings begin.
pub const START: Timestamp = Timestamp::from_nanos(1_795_000_000_000_000_000);

/// Somebody who subscribed.
pub fn subscription(name: &str, topic: &str) -> Arc<Subscription> {
    Arc::new(Subscription {
        name: name.to_owned(),
        protocol: "classic".to_owned(),
        topic: topic.to_owned(),
        host: "feed.example.com".to_owned(),
    })
}

/// A small envelope: the subject, and a payload that no other frame has.
pub fn message(topic: &str, number: u32, size: usize) -> Bytes {
    let mut payload = format!("{number}:").into_bytes();
    payload.resize(payload.len().max(size), b'.');
    let mut message = vec![0x12, u8::try_from(topic.len()).unwrap()];
    message.extend_from_slice(topic.as_bytes());
    message.push(0x1a);
    prost::encode_length_delimiter(payload.len(), &mut message).unwrap();
    message.extend_from_slice(&payload);
    message.into()
}

/// An envelope with everything in it but an MSP.
pub fn envelope(topic: &str, customer: &str, payload: impl Into<Bytes>) -> Bytes {
    let envelope = MsgProto {
        subject: topic.to_owned(),
        data: payload.into(),
        timestamp: START.as_nanos().cast_signed(),
        customer_id: customer.to_owned(),
        msp_id: None,
    };
    prost::Message::encode_to_vec(&envelope).into()
}

/// What a recording says about itself that was started so long after the start.
pub fn about(started: Duration) -> About {
    About { started: START.after(started), host: String::new(), options: BTreeMap::new() }
}

/// All entries of a capture.
pub fn entries_of(path: &Path) -> Vec<Entry> {
    Capture::open(&[path]).unwrap().entries().map(Result::unwrap).collect()
}

/// All entries of a capture that is proven to be whole.
#[track_caller]
pub fn proven(path: &Path) -> Vec<Entry> {
    let capture = Capture::open(&[path]).unwrap();
    let verdict = inspect::verify(&capture).unwrap();
    let faults = verdict.checks.iter().flat_map(|checked| &checked.first);
    assert!(verdict.whole, "{:#?}", faults.collect::<Vec<_>>());
    capture.entries().map(Result::unwrap).collect()
}

/// Makes entries for a capture.
pub struct Entries {
    types: FrameTypes,
    sequence: u32,
    /// What was made so far.
    pub made: Vec<Entry>,
}

impl Entries {
    pub fn new() -> Self {
        Self { types: FrameTypes::of(protocol::by_name("classic")), sequence: 0, made: Vec::new() }
    }

    /// A frame that was received so long after the start.
    pub fn frame(&mut self, after: Duration, of: &Arc<Subscription>, data: Bytes) {
        self.sequence += 1;
        let what = What::Frame(self.types.frame(&of.topic, self.sequence, data));
        let received = START.after(after);
        self.made.push(Entry { subscription: Arc::clone(of), received, what });
    }

    /// A frame with a sequence number of its own.
    pub fn numbered(
        &mut self,
        after: Duration,
        of: &Arc<Subscription>,
        sequence: u32,
        data: impl Into<Bytes>,
    ) {
        let what = What::Frame(self.types.frame(&of.topic, sequence, data.into()));
        let received = START.after(after);
        self.made.push(Entry { subscription: Arc::clone(of), received, what });
    }

    /// Something that happened to a connection so long after the start.
    pub fn happened(
        &mut self,
        after: Duration,
        of: &Arc<Subscription>,
        connection: u32,
        event: session_event::Event,
    ) {
        let what = What::Event(SessionEvent { connection, event: Some(event) });
        let received = START.after(after);
        self.made.push(Entry { subscription: Arc::clone(of), received, what });
    }

    /// A session event at the start.
    pub fn event(&mut self, of: &Arc<Subscription>) {
        let what = What::Event(SessionEvent::default());
        self.made.push(Entry { subscription: Arc::clone(of), received: START, what });
    }

    /// Writes all of it to a sealed capture.
    pub fn write(&self, path: &Path) {
        self.write_of_run(path, Duration::ZERO);
    }

    /// The same in a segment of the recording that was started so long after the start.
    pub fn write_of_run(&self, path: &Path, started: Duration) {
        let about = about(started);
        let mut file = SealedFile::create(path, &about, &[]).unwrap();
        for entry in &self.made {
            file.append(entry).unwrap();
        }
        file.finish().unwrap();
    }
}
