//! One subscription, from the first attempt to the end: what [`Session`] decides is done here.
//!
//! What was received is in the kernel before more is read, and before anything is answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Board, Keys, Notice, Notify, State,
    keeper::Keeper,
    keys::{Slot, Successor},
    turnstile::Turnstile,
};
use crate::{
    entry::{
        Entry, SessionEvent, Subscription, Timestamp, What,
        session_event::{DroppedFrames, Event, TextFrame},
    },
    net::{
        client::{Accepted, Connection, Connector, NotConnected},
        ws::{Broken, Incoming},
    },
    protocol::{Ask, Key},
    schema::FrameTypes,
    session::{Ended, Next, Renewal, Session},
};

/// A connection without traffic is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(20);

/// A connection from which nothing was heard for so long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(45);

/// How long the server has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A write that takes longer has no reader.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Subscriber {
    pub index: usize,
    pub subscription: Arc<Subscription>,
    pub username: Option<String>,
    pub session: Session,
    pub types: FrameTypes,
    pub connector: Connector,
    pub turnstile: Arc<Turnstile>,
    pub keeper: Keeper,
    pub keys: Arc<Keys>,
    pub key: Arc<Slot>,
    /// The key of the last attempt. The slot may hold a newer one.
    pub used: Key,
    pub board: Arc<Board>,
    pub notify: Notify,
    pub stop: watch::Receiver<bool>,
    /// Be content with one connection.
    pub once: bool,
}

/// The frames of one connection.
#[derive(Default)]
struct Frames {
    received: u64,
    /// The last ones of them, which were more than the user asked for.
    left_out: u64,
}

/// Whether there is a point in going on.
enum Go {
    On,
    /// The user stops, or nothing can be written any more.
    Stop,
}

impl Subscriber {
    pub(super) async fn run(mut self) {
        let mut connection = None;
        let mut step = self.session.start();
        loop {
            if !self.note(&step.events).await {
                break;
            }
            step = match step.next {
                Next::Connect => {
                    self.board.set(self.index, State::Connecting);
                    let mut stop = self.stop.clone();
                    let result = tokio::select! {
                        result = self.connect() => result,
                        () = asked_to(&mut stop) => break self.abandon().await,
                    };
                    match result {
                        Ok(accepted) => {
                            let Accepted { connection: opened, round_trip, peer } = accepted;
                            connection = Some(opened);
                            self.session.accepted(Timestamp::now(), round_trip, peer.to_string())
                        }
                        Err(NotConnected::Refused(refused)) => self.session.refused(refused),
                        Err(NotConnected::Failed(failure)) => self.session.failed(failure),
                    }
                }
                Next::Receive => {
                    self.board.set(self.index, State::Connected);
                    let Some(connection) = connection.take() else { break };
                    match self.receive(connection).await {
                        (Go::On, ended) if !(self.once && ended.clean) => {
                            let step = self.session.ended(Timestamp::now(), ended);
                            if self.once {
                                self.note(&step.events).await;
                                break self.abandon().await;
                            }
                            step
                        }
                        (_, ended) => {
                            let events = self.session.stopped(Timestamp::now(), ended);
                            self.note(&events).await;
                            break;
                        }
                    }
                }
                Next::RenewKey => {
                    let mut stop = self.stop.clone();
                    let renewal = tokio::select! {
                        renewal = self.renew() => renewal,
                        () = asked_to(&mut stop) => break self.abandon().await,
                    };
                    self.session.renewed(&renewal)
                }
                Next::Wait(time) => {
                    self.board.set(self.index, State::Waiting);
                    (self.notify)(Notice::Waiting {
                        subscription: &self.subscription,
                        time,
                        hopeless: self.session.is_hopeless(),
                    });
                    let mut stop = self.stop.clone();
                    tokio::select! {
                        () = sleep(time) => self.session.waited(),
                        () = asked_to(&mut stop) => break self.abandon().await,
                    }
                }
            };
        }
        self.board.set(self.index, State::Stopped);
    }

    async fn abandon(&mut self) {
        let events = self.session.abandoned(Timestamp::now());
        self.note(&events).await;
    }

    async fn connect(&mut self) -> Result<Accepted, NotConnected> {
        self.turnstile.pass().await;
        self.used = self.key.held().key;
        let username = self.username.as_deref();
        let ask = Ask { key: &self.used, topic: &self.subscription.topic, username };
        self.connector.connect(&ask).await
    }

    async fn renew(&self) -> Renewal {
        let ask = async {
            self.turnstile.pass().await;
            self.connector.renew(&self.used).await
        };
        let (successor, error) = self.keys.renew(&self.key, &self.used, ask).await;
        if let Some(error) = &error {
            let subscription = &self.subscription;
            (self.notify)(Notice::KeyNotWritten { subscription, error });
        }
        match successor {
            Successor::Here => Renewal::NewKey { written_back: self.key.held().stored },
            Successor::SameKey => Renewal::SameKey,
            Successor::None(reason) => {
                let (subscription, reason) = (&self.subscription, reason.as_str());
                (self.notify)(Notice::KeyNotRenewed { subscription, reason });
                Renewal::Failed
            }
        }
    }

    /// Brings events to the ledger. False: nothing can be written any more.
    async fn note(&self, events: &[SessionEvent]) -> bool {
        for event in events {
            (self.notify)(Notice::Event { subscription: &self.subscription, event });
        }
        let received = Timestamp::now();
        let entries = events.iter().map(|event| self.entry(received, What::Event(event.clone())));
        self.keeper.keep(entries.collect()).await.is_some()
    }

    fn entry(&self, received: Timestamp, what: What) -> Entry {
        Entry { subscription: Arc::clone(&self.subscription), received, what }
    }

    /// Receives until the connection ends or is ended.
    async fn receive(&mut self, mut connection: Connection) -> (Go, Ended) {
        let mut frames = Frames::default();
        let mut heard = Instant::now();
        let mut asked = Instant::now();
        let mut stop = self.stop.clone();
        let (go, mut ended) = loop {
            let next_ping = PING_EVERY.saturating_sub(heard.max(asked).elapsed());
            let read = tokio::select! {
                read = connection.read() => read,
                () = sleep(next_ping) => {
                    if heard.elapsed() >= DEAD_AFTER {
                        let reason = format!("nothing was heard for {} s", DEAD_AFTER.as_secs());
                        break (Go::On, Ended { reason, ..Ended::default() });
                    }
                    asked = Instant::now();
                    connection.socket.send_ping(Bytes::new());
                    if let Err(ended) = answer(&mut connection).await {
                        break (Go::On, ended);
                    }
                    continue;
                }
                () = asked_to(&mut stop) => {
                    break (Go::Stop, self.goodbye(&mut connection, &mut frames).await);
                }
            };
            heard = Instant::now();
            match self.take(&mut connection, read, &mut frames).await {
                Ok(()) => {}
                Err((go, ended)) => break (go, ended),
            }
        };
        ended.frames = frames.received - frames.left_out;
        // The peer may be long gone; the capture has what it sent.
        let _ = timeout(GOODBYE, connection.shutdown()).await;
        (go, ended)
    }

    /// Keeps all that a read has brought, and answers. The error is the end of the connection.
    async fn take(
        &mut self,
        connection: &mut Connection,
        read: std::io::Result<bool>,
        frames: &mut Frames,
    ) -> Result<(), (Go, Ended)> {
        let received = Timestamp::now();
        let (batch, end) = self.batch(connection, received, frames);
        let Some(left_out) = self.keeper.keep(batch).await else {
            let reason = "nothing can be written any more".to_owned();
            return Err((Go::Stop, Ended { reason, ..Ended::default() }));
        };
        frames.left_out += left_out;
        let answered = answer(connection).await;
        if let Some(ended) = end {
            return Err((Go::On, ended));
        }
        let lost = |reason: String| (Go::On, Ended { reason, ..Ended::default() });
        match read {
            Ok(true) => answered.map_err(|ended| (Go::On, ended)),
            Ok(false) => Err(lost("the stream ended without a close frame".to_owned())),
            Err(error) => Err(lost(error.to_string())),
        }
    }

    /// The messages that are there, as entries; and how the connection ended, if it did.
    fn batch(
        &mut self,
        connection: &mut Connection,
        received: Timestamp,
        frames: &mut Frames,
    ) -> (Vec<Entry>, Option<Ended>) {
        let mut batch = Vec::new();
        loop {
            let what = match connection.socket.next() {
                Ok(None) => return (batch, None),
                Ok(Some(Incoming::Binary(data))) => {
                    frames.received += 1;
                    let sequence = u32::try_from(frames.received).unwrap_or(u32::MAX);
                    What::Frame(self.types.frame(&self.subscription.topic, sequence, data))
                }
                Ok(Some(Incoming::Text(data))) => {
                    What::Event(self.session.event(Event::TextFrame(TextFrame { data })))
                }
                Ok(Some(Incoming::Close { code, reason })) => {
                    return (batch, Some(Ended { code, reason, clean: true, frames: 0 }));
                }
                Err(Broken::TooLarge { size, limit }) => {
                    frames.received += 1;
                    let reason = format!("a message of {size} bytes is over the limit of {limit}");
                    let bytes = size as u64;
                    let dropped = DroppedFrames { count: 1, bytes, reason: reason.clone() };
                    let event = self.session.event(Event::DroppedFrames(dropped));
                    (self.notify)(Notice::Event {
                        subscription: &self.subscription,
                        event: &event,
                    });
                    batch.push(self.entry(received, What::Event(event)));
                    connection.socket.send_close(TOO_BIG, "message too big");
                    return (batch, Some(Ended { reason, ..Ended::default() }));
                }
                Err(Broken::Protocol(reason)) => {
                    connection.socket.send_close(PROTOCOL_ERROR, "protocol error");
                    return (batch, Some(Ended { reason, ..Ended::default() }));
                }
            };
            if let What::Event(event) = &what {
                (self.notify)(Notice::Event { subscription: &self.subscription, event });
            }
            batch.push(self.entry(received, what));
        }
    }

    /// Says goodbye and keeps what still comes until the server has said it too.
    async fn goodbye(&mut self, connection: &mut Connection, frames: &mut Frames) -> Ended {
        connection.socket.send_close(NORMAL, "");
        let farewell = async {
            if let Err(ended) = answer(connection).await {
                return ended;
            }
            loop {
                let read = connection.read().await;
                if let Err((_, ended)) = self.take(connection, read, frames).await {
                    return ended;
                }
            }
        };
        timeout(GOODBYE, farewell).await.unwrap_or_else(|_| Ended {
            reason: format!("no goodbye within {} s", GOODBYE.as_secs()),
            ..Ended::default()
        })
    }
}

/// Is ready when the recording is to stop. What the channel lends must not be held any longer.
pub(super) async fn asked_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

// Close codes of RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const TOO_BIG: u16 = 1009;

/// Lets out what the socket wants to say.
async fn answer(connection: &mut Connection) -> Result<(), Ended> {
    let lost = |reason: String| Err(Ended { reason, ..Ended::default() });
    match timeout(WRITE_DEADLINE, connection.write()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => lost(error.to_string()),
        Err(_) => lost("the server does not read".to_owned()),
    }
}
