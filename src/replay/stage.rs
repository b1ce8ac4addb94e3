//! The life of a client, from its first byte to its last.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpStream, sync::watch, task::JoinError, time::Instant};

use super::{
    Options, Timeline,
    feed::{Cue, Feed},
    hold::{Hold, Seat},
    keyring::Ticket,
    keys::Keys,
    offer::{Offer, Share},
    report::{Client, Close, End, Ending, KeyChange, News, Parted},
    spoil::{self, Exit, Spoil, Spoilt, Usher},
    stamps::Stamper,
    tally::Tally,
    types::Types,
};
use crate::{
    capture::Unpacked,
    entry::{Subscription, Timestamp},
    error::{Error, Kind},
    net::{
        server::{Arrival, Ended, Peer, welcome},
        tls::Identity,
    },
    pace::{Limit, Pace, Position},
};

/// So much is put into one write.
const WRITE_SIZE: usize = 128 * 1024;

/// How long a client may take to answer our close at the end of a replay.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// The same when somebody has asked us to stop and is waiting.
const HURRIED_GOODBYE: Duration = Duration::from_secs(2);

/// Stands for all dates that are too far for the clock.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Status codes of a close, RFC 6455, section 7.4.1.
mod code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
}

/// What all clients of a server share.
pub(super) struct Stage {
    pub options: Options,
    pub offer: Arc<Offer>,
    /// None if any key will do.
    pub keys: Option<Keys>,
    pub identity: Option<Identity>,
    pub hold: Hold,
    pub types: Types,
    /// Most clients are in about the same place of the capture.
    pub unpacked: Arc<Unpacked>,
    pub faults: Mutex<Vec<Error>>,
    /// The faults that are on purpose.
    pub spoil: Option<Spoil>,
}

/// One connection and its ties to the outside.
pub(super) struct Guest {
    pub peer: SocketAddr,
    pub stopped: watch::Receiver<bool>,
    pub tell: Arc<Tell>,
}

pub(super) type Tell = dyn Fn(News<'_>) + Send + Sync;

impl Stage {
    /// Nobody is left, and with `once` that is the end.
    pub(super) fn is_over(&self) -> bool {
        self.options.once && self.hold.is_over()
    }

    /// One connection from its first byte to its last.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, mut guest: Guest) -> Parted {
        let (tell, stage) = (Arc::clone(&guest.tell), Arc::clone(&self));
        let usher = Arc::new(Usher { stage, tell, peer: guest.peer });
        let arrival = tokio::select! {
            biased;
            _ = guest.stopped.wait_for(|stopped| *stopped) => None,
            arrival = welcome(stream, self.identity.as_ref(), usher) => arrival,
        };
        let (peer, share, ticket) = match arrival {
            Some(Arrival::Client(peer, (share, ticket))) => (*peer, Arc::new(share), ticket),
            Some(Arrival::Answered(status)) => {
                (guest.tell)(News::Answered { peer: guest.peer, status });
                return Parted::Answered(status);
            }
            None => return Parted::Nobody,
        };
        (guest.tell)(News::Connected { peer: guest.peer, topic: &share.topic });
        let connected = Timestamp::now();
        let mut tally = Tally::new(self.options.is_timed());
        let spoil = self.spoil.as_ref();
        let spoilt = spoil.map(|spoil| spoil.entered(&share, Arc::clone(&self), &guest));
        let shared = (Arc::clone(&share), spoilt);
        let (ending, close) =
            self.entertain(peer, shared, ticket, &mut tally, &mut guest.stopped).await;
        let faults = tally.faults();
        let (stayed, subscriptions, delays) = tally.finish(share.subscriptions.iter());
        let client = Client {
            peer: guest.peer,
            topic: share.topic.clone(),
            connected,
            stayed,
            frames: subscriptions.iter().map(|sent| sent.frames).sum(),
            bytes: subscriptions.iter().map(|sent| sent.bytes).sum(),
            lateness: delays.lateness(),
            subscriptions,
            faults,
            ending,
            close,
        };
        (guest.tell)(News::Left(&client));
        Parted::Client(Box::new(client), delays)
    }

    /// A client from its upgrade to its end.
    async fn entertain(
        self: &Arc<Self>,
        mut peer: Peer,
        shared: (Arc<Share>, Option<Spoilt>),
        ticket: Option<Ticket>,
        tally: &mut Tally,
        stopped: &mut watch::Receiver<bool>,
    ) -> (Ending, Option<Close>) {
        let mut seat = self.hold.take_seat(&shared.0.topic);
        let played = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => None,
            code = self.key_dies(ticket) => Some(Err(Exit::Expired(code))),
            played = self.play(&mut peer, shared, &mut seat, tally) => Some(played),
        };
        let ours = |code, answered| Some(Close { by: End::Server, code: Some(code), answered });
        match played {
            None => {
                // Whether it answers or not: it was told, and somebody is waiting for us.
                let told = peer.close(code::GOING_AWAY, "going away", HURRIED_GOODBYE).await;
                (Ending::Stopped, ours(code::GOING_AWAY, told.is_ok()))
            }
            Some(Ok(())) => match peer.close(code::NORMAL, "end of replay", GOODBYE).await {
                Ok(()) => (Ending::Played, ours(code::NORMAL, true)),
                Err(ended) => (Ending::Unanswered(ended), ours(code::NORMAL, false)),
            },
            Some(Err(Exit::Spoilt(end))) => {
                let word = spoil::word(&end);
                (Ending::Spoilt(word), spoil::end(peer, end, stopped).await)
            }
            Some(Err(Exit::Expired(code))) => {
                let closed = peer.close(code, "token expired", GOODBYE).await;
                if closed.is_ok() {
                    // What was queued went before.
                    tally.written();
                }
                (Ending::KeyExpired, ours(code, closed.is_ok()))
            }
            Some(Err(Exit::Left(ended))) => {
                drop(seat);
                peer.leave(&ended).await;
                let close = match ended {
                    Ended::Closed { code } => Some(Close { by: End::Client, code, answered: true }),
                    _ => None,
                };
                (Ending::Left(ended), close)
            }
        }
    }

    /// Waits until something has become of keys.
    pub(super) async fn key_changes(&self) -> Vec<KeyChange> {
        match &self.keys {
            Some(keys) => keys.changes().await,
            None => std::future::pending().await,
        }
    }

    /// Completes when a client is to be closed because its key has died, and says with which code.
    async fn key_dies(&self, ticket: Option<Ticket>) -> u16 {
        match self.keys.as_ref().zip(ticket) {
            Some((keys, ticket)) => keys.end_of(ticket).await,
            None => std::future::pending().await,
        }
    }

    /// Sends everything when it is due. Returns after the last frame, but without `once` only when
    /// the client leaves.
    async fn play(
        self: &Arc<Self>,
        peer: &mut Peer,
        (share, spoilt): (Arc<Share>, Option<Spoilt>),
        seat: &mut Seat<'_>,
        tally: &mut Tally,
    ) -> Result<(), Exit> {
        let mut feed = Feed::open(self, share);
        let ready = peer.meanwhile(feed.ready()).await?;
        let lifted = peer.meanwhile(seat.lifted()).await?;
        let zero = match self.options.timeline {
            Timeline::Client => lifted.at.max(ready),
            Timeline::Shared => {
                feed.start(lifted);
                lifted.at
            }
        };
        let (pace, limit) = (Pace::new(self.options.speed), self.options.limit.clone());
        let stamper = Stamper::new();
        let restamp = self.options.restamp;
        let mut outlet = Outlet { peer, tally, zero, pace, limit, restamp, stamper, spoilt };
        loop {
            let batch = if let Ok(batch) = feed.batches.try_recv() {
                batch
            } else {
                // The reader has to catch up, or has ended: what is queued need not wait for that.
                outlet.flush().await?;
                match outlet.peer.meanwhile(feed.batches.recv()).await? {
                    Some(batch) => batch,
                    None => break,
                }
            };
            for cue in batch {
                if !cue.state {
                    outlet.until_moment(cue.position.recorded()).await?;
                }
                let due = outlet.until_due(&cue).await?;
                outlet.hand_over(cue, due).await?;
            }
        }
        outlet.hand_over_rest().await?;
        outlet.until_moment(Duration::MAX).await?;
        if self.options.once { Ok(()) } else { Err(peer.idle().await.into()) }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<Error>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of a connection that is over.
    pub(super) fn settled(&self, done: Result<Parted, JoinError>) -> Parted {
        done.unwrap_or_else(|error| {
            self.note(Kind::Internal { reason: error.to_string() }.into());
            Parted::Nobody
        })
    }

    /// Every client and every round meets the same damage: it is noted once.
    pub(super) fn note(&self, fault: Error) {
        let mut faults = self.faults();
        let sentence = fault.to_string();
        if faults.iter().all(|known| known.to_string() != sentence) {
            faults.push(fault);
        }
    }
}

/// Between a feed and its client.
pub(super) struct Outlet<'a> {
    pub peer: &'a mut Peer,
    pub tally: &'a mut Tally,
    /// The zero of the pace.
    zero: Instant,
    pace: Pace,
    limit: Option<Limit>,
    restamp: bool,
    stamper: Stamper,
    /// The faults that are on purpose.
    pub spoilt: Option<Spoilt>,
}

impl Outlet<'_> {
    /// Waits until a frame is due, and says when that was.
    async fn until_due(&mut self, cue: &Cue) -> Result<Instant, Ended> {
        let scheduled = if cue.state { self.zero.elapsed() } else { self.scheduled(cue.position) };
        let due = self.limit.as_ref().map_or(scheduled, |limit| limit.due(scheduled));
        let due = self.zero.checked_add(due).unwrap_or(self.zero + A_CENTURY);
        if due > Instant::now() {
            self.flush().await?;
            self.peer.meanwhile(tokio::time::sleep_until(due)).await?;
        }
        if !cue.state {
            self.pace.let_go(cue.position);
        }
        if let Some(limit) = &mut self.limit {
            limit.take(scheduled);
        }
        Ok(due)
    }

    /// When the replay gets to a place.
    fn scheduled(&mut self, position: Position) -> Duration {
        // Nobody pauses it yet.
        self.pace.due(position).unwrap_or(A_CENTURY)
    }

    /// The same as a moment.
    pub(super) fn due(&mut self, position: Position) -> Instant {
        let scheduled = self.scheduled(position);
        self.zero.checked_add(scheduled).unwrap_or(self.zero + A_CENTURY)
    }

    /// Gives a frame to the client, or what faults have made of it. Every frame passes here, in its order.
    async fn hand_over(&mut self, mut cue: Cue, due: Instant) -> Result<(), Exit> {
        if self.restamp
            && let Some(kind) = cue.kind.take()
        {
            let at = match self.tally.is_timed() {
                // Known since it was due to all the others.
                true if cue.state => self.zero + self.scheduled(cue.position),
                true => due,
                // Whoever is as fast as it can be is sent everything now.
                false => Instant::now(),
            };
            self.stamper.stamp(&mut cue, &kind.restamp, at, self.pace.speed());
        }
        // What belongs to the state depends on when the client came, and is nobody's n-th frame.
        if self.spoilt.is_some() && !cue.state {
            return self.hand_over_spoilt(cue, due).await;
        }
        Ok(self.queue(cue.frame.data, &cue.subscription, due, cue.state).await?)
    }

    /// Gives a message to the client.
    pub(super) async fn queue(
        &mut self,
        message: Bytes,
        of: &Arc<Subscription>,
        due: Instant,
        state: bool,
    ) -> Result<(), Ended> {
        self.tally.queued(of, message.len(), due, state);
        self.peer.queue(message);
        if self.peer.queued() >= WRITE_SIZE {
            self.flush().await?;
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        self.peer.flush().await?;
        self.tally.written();
        Ok(())
    }
}
