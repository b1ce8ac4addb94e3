//! seed -> Entry -> capture: believable frames for those who have no feed at hand.
//!
//! A campus is made from the seed and lives on while frames are made: devices report in the feed's
//! cadence, clients roam and keep who they are in every topic. The same options and the same version
//! give the same bytes. Memory depends on the campus, never on how many frames are made.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use prost::Message;

use self::{
    campus::{Campus, NAMES, Role},
    fill::{Payloads, Scene},
};
use crate::{
    capture::{About, SealedFile},
    dice::Dice,
    entry::{
        Entry, SessionEvent, Subscription, Timestamp, What,
        envelope::MsgProto,
        session_event::{Closed, Connected, Event},
    },
    error::{Error, Result},
    protocol::{PROTOCOLS, Protocol, Topic},
    schema::{self, FrameTypes},
};

mod campus;
mod fill;

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything follows from this.
    pub seed: u64,
    /// How many frames.
    pub messages: u64,
    /// Only these topics, if there are any.
    pub topics: Vec<String>,
    /// Devices of each customer, at least 3.
    pub devices: usize,
    /// Customers, at most 8; each has one subscription of each topic.
    pub customers: usize,
    /// Frames per second over all, instead of the feed's own cadence.
    pub rate: Option<f64>,
    /// When the first frame is received.
    pub start: Timestamp,
}

/// 2026-01-05T08:00:00Z: a fixed moment, so that nothing depends on the clock.
pub const START: Timestamp = Timestamp::from_nanos(1_767_600_000_000_000_000);

/// No frame is sent later: an envelope has no room for it.
const LATEST: Timestamp = Timestamp::from_nanos(i64::MAX.cast_unsigned());

/// The host that made-up subscriptions are of.
const HOST: &str = "central.example.com";

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            messages: 1000,
            topics: Vec::new(),
            devices: 40,
            customers: 1,
            rate: None,
            start: START,
        }
    }
}

/// How often a device sends on a topic, in seconds. Presence comes about once a minute, application
/// use every 15 minutes, statistics every 5 minutes with state changes in between; location follows
/// the clients; audit and security are rare.
const CADENCE: [(&str, f64); 6] = [
    ("apprf", 900.0),
    ("audit", 2400.0),
    ("location", 80.0),
    ("monitoring", 90.0),
    ("presence", 60.0),
    ("security", 1800.0),
];

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The capture's size in bytes.
    pub size: u64,
}

/// Writes a sealed capture.
pub fn write(options: &Options, path: &Path) -> Result<Summary> {
    let about = About {
        started: options.start,
        host: String::new(),
        options: BTreeMap::from([
            ("seed".to_owned(), options.seed.to_string()),
            ("messages".to_owned(), options.messages.to_string()),
        ]),
    };
    let synth = Synth::new(options)?;
    let types = FrameTypes::of(PROTOCOLS[0]);
    let mut kinds: Vec<_> = types.all().map(AsRef::as_ref).collect();
    kinds.sort_by_key(|kind| &kind.label);
    let mut file = SealedFile::create(path, &about, &kinds)?;
    let mut summary = Summary { frames: 0, bytes: 0, size: 0 };
    for entry in synth {
        if let Some(frame) = entry.frame() {
            summary.frames += 1;
            summary.bytes += frame.data.len() as u64;
        }
        file.append(&entry)?;
    }
    summary.size = file.finish()?;
    Ok(summary)
}

/// Makes the entries one by one.
#[derive(Debug)]
pub struct Synth {
    dice: Dice,
    campuses: Vec<Campus>,
    feeds: Vec<Feed>,
    types: FrameTypes,
    payloads: Payloads,
    /// Of the feeds: who is connected next, and who is closed next.
    opened: usize,
    closed: usize,
    left: u64,
    start: Timestamp,
    now: Timestamp,
}

/// One subscription.
#[derive(Debug)]
struct Feed {
    subscription: Arc<Subscription>,
    topic: &'static Topic,
    campus: usize,
    every: Duration,
    next: Timestamp,
    frames: u32,
}

impl Synth {
    /// Makes the campuses.
    pub fn new(options: &Options) -> Result<Self> {
        let protocol = PROTOCOLS[0];
        check(options, protocol)?;
        let mut dice = Dice::new(options.seed);
        let campuses: Vec<_> = (0..options.customers)
            .map(|number| Campus::new(number, options.devices, &mut dice))
            .collect();
        let feeds = feeds(options, protocol, &campuses, &mut dice)?;
        let all = protocol.payloads().map(|payload| {
            let message = schema::message(schema::bundled(), payload.message);
            (payload.label, message.expect("a test asks for every payload"))
        });
        Ok(Self {
            payloads: Payloads::new(all),
            types: FrameTypes::of(protocol),
            dice,
            campuses,
            feeds,
            opened: 0,
            closed: 0,
            left: options.messages,
            start: options.start,
            now: options.start,
        })
    }

    fn frame(&mut self) -> Entry {
        let index = (0..self.feeds.len())
            .min_by_key(|&index| self.feeds[index].next)
            .expect("there is at least one topic and one customer");
        let feed = &mut self.feeds[index];
        let sent = feed.next;
        feed.next = sent.after(feed.every.mul_f64(0.5 + self.dice.unit()));
        feed.frames += 1;

        let campus = &mut self.campuses[feed.campus];
        roam(campus, &mut self.dice);
        let device = self.dice.below(campus.devices.len() as u64) as usize;
        // About one in twelve locations is a geofence notice.
        let payload = match feed.topic.payloads {
            [only] => only,
            [usual, ..] if !self.dice.once_in(12) => usual,
            [.., other] => other,
            [] => unreachable!("every topic has a payload"),
        };
        let message = self.payloads.of(payload.label).clone();
        let mut scene = Scene {
            campus,
            dice: &mut self.dice,
            seconds: sent.as_nanos() / 1_000_000_000,
            milliseconds: sent.as_nanos() / 1_000_000,
            device,
            client: 0,
        };
        let mut data = scene.payload(&message).encode_to_vec();
        if self.dice.once_in(500) {
            // A field that this schema does not have: number 200, a varint.
            data.extend([0xc0, 0x0c, 0x01]);
        }
        let envelope = MsgProto {
            subject: feed.topic.name.to_owned(),
            data: data.into(),
            timestamp: sent.as_nanos().cast_signed(),
            customer_id: self.campuses[feed.campus].customer.clone(),
            msp_id: self.dice.once_in(50).then(|| "2000002".to_owned()),
        };
        // It takes a few milliseconds from there to here, and nothing overtakes.
        let arrives = sent.after(Duration::from_micros(self.dice.within(2_000, 9_000)));
        let received = self.now.max(arrives);
        self.now = received;
        let frame = self.types.frame(feed.topic.name, feed.frames, envelope.encode_to_vec().into());
        Entry { subscription: Arc::clone(&feed.subscription), received, what: What::Frame(frame) }
    }

    fn event(&self, feed: usize, event: Event) -> Entry {
        let event = SessionEvent { connection: 1, event: Some(event) };
        let subscription = Arc::clone(&self.feeds[feed].subscription);
        Entry { subscription, received: self.now, what: What::Event(event) }
    }
}

impl Iterator for Synth {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.opened < self.feeds.len() {
            self.opened += 1;
            let connected = Connected {
                attempt: 1,
                status: 101,
                round_trip_ns: 23_000_000,
                peer: "192.0.2.1:443".to_owned(),
            };
            return Some(self.event(self.opened - 1, Event::Connected(connected)));
        }
        if self.left > 0 {
            self.left -= 1;
            return Some(self.frame());
        }
        if self.closed < self.feeds.len() {
            self.closed += 1;
            let frames = self.feeds[self.closed - 1].frames;
            let closed = Closed {
                code: Some(1000),
                reason: String::new(),
                clean: true,
                last_sequence: frames.into(),
            };
            return Some(self.event(self.closed - 1, Event::Closed(closed)));
        }
        debug_assert!(self.now >= self.start);
        None
    }
}

fn check(options: &Options, protocol: &dyn Protocol) -> Result<()> {
    let hint = "synth --help says what there is, and what is taken if nothing is said";
    let refused = |expected: String, found: String| Err(Error::usage(expected, found, hint));
    let known: Vec<_> = protocol.topics().iter().map(|topic| topic.name).collect();
    for topic in &options.topics {
        if !known.contains(&&**topic) {
            return refused(format!("a topic ({})", known.join(", ")), format!("{topic:?}"));
        }
    }
    if options.messages == 0 {
        return refused("at least one message".to_owned(), "0".to_owned());
    }
    if !(3..=50_000).contains(&options.devices) {
        return refused("3 to 50000 devices".to_owned(), options.devices.to_string());
    }
    if !(1..=NAMES.len()).contains(&options.customers) {
        let expected = format!("1 to {} customers", NAMES.len());
        return refused(expected, options.customers.to_string());
    }
    if let Some(rate) = options.rate.filter(|rate| !(*rate > 0.0 && *rate <= 1e6)) {
        let expected = "a rate above 0, up to a million frames a second".to_owned();
        return refused(expected, rate.to_string());
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "devices and customers are few")]
fn feeds(
    options: &Options,
    protocol: &dyn Protocol,
    campuses: &[Campus],
    dice: &mut Dice,
) -> Result<Vec<Feed>> {
    let wanted =
        |name: &str| options.topics.is_empty() || options.topics.iter().any(|topic| topic == name);
    let topics: Vec<_> = protocol.topics().iter().filter(|topic| wanted(topic.name)).collect();
    let every = |name: &str| {
        let cadence = CADENCE.iter().find(|(known, _)| *known == name).map_or(60.0, |row| row.1);
        cadence / options.devices as f64
    };
    let natural: f64 =
        topics.iter().map(|topic| 1.0 / every(topic.name)).sum::<f64>() * campuses.len() as f64;
    let rate = options.rate.unwrap_or(natural);
    // Each feed waits for one and a half times its cadence at most, before its first frame and between any two.
    let longest =
        (options.messages as f64 + 2.0 * (topics.len() * campuses.len()) as f64) / rate * 1.5;
    if longest >= LATEST.since(options.start).as_secs_f64() {
        return Err(Error::usage(
            "frames that end before the year 2262",
            format!("{} of them, {rate} a second from {}", options.messages, options.start),
            "a higher --rate or fewer --messages take less time",
        ));
    }
    let stretch = natural / rate;
    let mut feeds = Vec::new();
    for (number, campus) in campuses.iter().enumerate() {
        for topic in &topics {
            let every = Duration::from_secs_f64(every(topic.name) * stretch);
            feeds.push(Feed {
                subscription: Arc::new(Subscription {
                    name: format!("{}-{}", campus.name, topic.name),
                    protocol: protocol.name().to_owned(),
                    topic: topic.name.to_owned(),
                    host: HOST.to_owned(),
                }),
                topic,
                campus: number,
                every,
                next: options.start.after(every.mul_f64(dice.unit())),
                frames: 0,
            });
        }
    }
    Ok(feeds)
}

/// Now and then a client moves on to another access point.
fn roam(campus: &mut Campus, dice: &mut Dice) {
    if dice.once_in(4) {
        let to = dice.below(campus.devices.len() as u64) as usize;
        let who = dice.below(campus.clients.len() as u64) as usize;
        if campus.devices[to].role == Role::Ap {
            campus.clients[who].at = to;
        }
    }
}
