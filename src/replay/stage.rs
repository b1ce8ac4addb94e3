//! The life of a client, from its first byte to its last.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpStream, sync::watch, task::JoinError, time::Instant};

use super::{
    Options,
    feed::{Cue, Feed},
    hold::{Hold, Seat},
    offer::{Offer, Share},
    report::{Client, Ending, News},
};
use crate::{
    error::{Error, Kind},
    net::{
        server::{Arrival, Ended, Peer, welcome},
        tls::Identity,
    },
    pace::{Limit, Pace},
};

/// So much is put into one write.
const WRITE_SIZE: usize = 128 * 1024;

/// How long a client may take to answer our close at the end of a replay.
const GOODBYE: Duration = Duration::from_secs(5);

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
    pub identity: Option<Identity>,
    pub hold: Hold,
    pub faults: Mutex<Vec<Error>>,
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
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        mut guest: Guest,
    ) -> Option<Client> {
        let arrival = tokio::select! {
            biased;
            _ = guest.stopped.wait_for(|stopped| *stopped) => None,
            arrival = welcome(stream, self.identity.as_ref(), Arc::clone(&self.offer)) => arrival,
        };
        let (peer, share) = match arrival? {
            Arrival::Client(peer, share) => (*peer, Arc::new(share)),
            Arrival::Answered(status) => {
                (guest.tell)(News::Answered { peer: guest.peer, status });
                return None;
            }
        };
        (guest.tell)(News::Connected { peer: guest.peer, topic: &share.topic });
        let mut tally = Tally { timed: self.options.is_timed(), ..Tally::default() };
        let ending = self.entertain(peer, Arc::clone(&share), &mut tally, &mut guest.stopped).await;
        let client = Client {
            peer: guest.peer,
            topic: share.topic.clone(),
            subscriptions: share.subscriptions.iter().cloned().collect(),
            frames: tally.frames,
            bytes: tally.bytes,
            worst_lateness: tally.worst_lateness,
            ending,
        };
        (guest.tell)(News::Left(&client));
        Some(client)
    }

    /// A client from its upgrade to its end.
    async fn entertain(
        self: &Arc<Self>,
        mut peer: Peer,
        share: Arc<Share>,
        tally: &mut Tally,
        stopped: &mut watch::Receiver<bool>,
    ) -> Ending {
        let mut seat = self.hold.take_seat();
        let played = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => None,
            played = self.play(&mut peer, share, &mut seat, tally) => Some(played),
        };
        match played {
            None => {
                // Whether it answers or not: it was told, and somebody is waiting for us.
                let _ = peer.close(code::GOING_AWAY, "going away", HURRIED_GOODBYE).await;
                Ending::Stopped
            }
            Some(Ok(())) => match peer.close(code::NORMAL, "end of replay", GOODBYE).await {
                Ok(()) => Ending::Played,
                Err(ended) => Ending::Unanswered(ended),
            },
            Some(Err(ended)) => {
                drop(seat);
                peer.leave(&ended).await;
                Ending::Left(ended)
            }
        }
    }

    /// Sends everything when it is due. Returns after the last frame, but without `once` only when
    /// the client leaves.
    async fn play(
        self: &Arc<Self>,
        peer: &mut Peer,
        share: Arc<Share>,
        seat: &mut Seat<'_>,
        tally: &mut Tally,
    ) -> Result<(), Ended> {
        let mut feed = Feed::open(self, share);
        let ready = peer.meanwhile(feed.ready()).await?;
        let zero = peer.meanwhile(seat.lifted()).await?.max(ready);
        let (pace, limit) = (Pace::new(self.options.speed), self.options.limit.clone());
        let mut outlet = Outlet { peer, tally, zero, pace, limit };
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
                let due = outlet.until_due(&cue).await?;
                outlet.hand_over(cue, due).await?;
            }
        }
        if self.options.once { Ok(()) } else { Err(peer.idle().await) }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<Error>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of a connection that is over, if it was one.
    pub(super) fn settled(&self, done: Result<Option<Client>, JoinError>) -> Option<Client> {
        done.unwrap_or_else(|error| {
            self.note(Kind::Internal { reason: error.to_string() }.into());
            None
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
struct Outlet<'a> {
    peer: &'a mut Peer,
    tally: &'a mut Tally,
    /// The zero of the pace.
    zero: Instant,
    pace: Pace,
    limit: Option<Limit>,
}

impl Outlet<'_> {
    /// Waits until a frame is due, and says when that was.
    async fn until_due(&mut self, cue: &Cue) -> Result<Instant, Ended> {
        // Nobody pauses it yet.
        let scheduled = self.pace.due(cue.position).unwrap_or(A_CENTURY);
        let due = self.limit.as_ref().map_or(scheduled, |limit| limit.due(scheduled));
        let due = self.zero.checked_add(due).unwrap_or(self.zero + A_CENTURY);
        if due > Instant::now() {
            self.flush().await?;
            self.peer.meanwhile(tokio::time::sleep_until(due)).await?;
        }
        self.pace.let_go(cue.position);
        if let Some(limit) = &mut self.limit {
            limit.take(scheduled);
        }
        Ok(due)
    }

    /// Gives a frame to the client. Every frame passes here, in its order.
    async fn hand_over(&mut self, cue: Cue, due: Instant) -> Result<(), Ended> {
        self.tally.queue(self.peer, cue.frame.data, due);
        if self.peer.queued() >= WRITE_SIZE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        self.tally.flush(self.peer).await
    }
}

/// What was written to a client, and when.
#[derive(Default)]
struct Tally {
    timed: bool,
    frames: u64,
    bytes: u64,
    worst_lateness: Option<Duration>,
    /// What is queued: how many, how large, and when the first of them was due.
    queued: (u64, u64, Option<Instant>),
}

impl Tally {
    fn queue(&mut self, peer: &mut Peer, message: Bytes, due: Instant) {
        let (frames, bytes, first) = &mut self.queued;
        *frames += 1;
        *bytes += message.len() as u64;
        first.get_or_insert(due);
        peer.queue(message);
    }

    async fn flush(&mut self, peer: &mut Peer) -> Result<(), Ended> {
        peer.flush().await?;
        let (frames, bytes, first) = std::mem::take(&mut self.queued);
        self.frames += frames;
        self.bytes += bytes;
        if self.timed {
            let lateness = first.map(|due| Instant::now().saturating_duration_since(due));
            self.worst_lateness = self.worst_lateness.max(lateness);
        }
        Ok(())
    }
}
