//! The capture as one client gets it: read by a thread, handed over in small batches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    LateJoin, Timeline,
    control::{Clock, Origin},
    hold::Lifted,
    offer::Share,
    stage::Stage,
    types::{Known, Type},
};
use crate::{
    entry::{Entry, Frame, Subscription, Timestamp, What},
    error::{Error, Kind},
    pace::{Position, Track},
    state::Snapshot,
};

/// A batch that a reader hands over holds so many frames at most,
const BATCH_FRAMES: usize = 64;
/// or so many where nobody waits for the time of a frame: what is handed over has to last until the next
/// chunk is unpacked.
const FAST_BATCH_FRAMES: usize = 512;
/// No more are added when it has so many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// So many batches may wait for a client.
const BATCHES: usize = 4;

/// How many readers there have been.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// A frame on its way to a client.
pub(super) struct Cue {
    /// Where in the replay it is.
    pub position: Position,
    /// Counted from 0.
    pub round: u64,
    /// Whose it is.
    pub subscription: Arc<Subscription>,
    /// When it was received.
    pub received: Timestamp,
    /// What is known of such frames, if that is asked for.
    pub kind: Option<Arc<Type>>,
    /// It was due before the client came, and is part of the state that it is given.
    pub state: bool,
    pub frame: Frame,
}

/// The capture as one client gets it. The reader ends soon after this is dropped.
pub(super) struct Feed {
    ready: Option<oneshot::Receiver<()>>,
    start: Option<oneshot::Sender<(Lifted, Clock)>>,
    /// Where it begins, if that is not the capture's first frame.
    pub origin: Option<Origin>,
    pub batches: mpsc::Receiver<Vec<Cue>>,
}

impl Feed {
    pub(super) fn open(stage: &Arc<Stage>, share: Arc<Share>, origin: Option<Origin>) -> Self {
        let (to, batches) = mpsc::channel(BATCHES);
        let (is_ready, ready) = oneshot::channel();
        let (start, started) = oneshot::channel();
        let held = to.clone();
        let full = if stage.options.is_timed() { BATCH_FRAMES } else { FAST_BATCH_FRAMES };
        let reader = Reader {
            stage: Arc::clone(stage),
            share,
            to,
            batch: Vec::new(),
            latest: None,
            bytes: 0,
            full,
            most: 1 + READERS.fetch_add(1, Ordering::Relaxed) % full,
            round: 0,
            known: Known::default(),
            joining: None,
            origin,
            unready: None,
        };
        let noted = Arc::clone(stage);
        let spawned = thread::Builder::new().name("replay-reader".to_owned()).spawn(move || {
            // A feed must not look complete because its reader has died.
            if catch_unwind(AssertUnwindSafe(|| reader.read(Doors { is_ready, started }))).is_err()
            {
                noted.note(fault("the reader of the capture has failed".to_owned()));
            }
            drop(held);
        });
        if let Err(error) = spawned {
            stage.note(fault(format!("no thread to read with: {error}")));
        }
        Self { ready: Some(ready), start: Some(start), origin, batches }
    }

    /// Says when the shared clock has started, and which it is. The reader of a shared timeline waits for
    /// that.
    pub(super) fn start(&mut self, lifted: Lifted, clock: Clock) {
        if let Some(start) = self.start.take() {
            // Whose reader has ended has nothing to read.
            let _ = start.send((lifted, clock));
        }
    }

    /// Completes when the capture is open and the first entry unpacked, which can take longer than a frame
    /// may be late. All clients of one capture wait for the same entry, whatever their topic.
    pub(super) async fn ready(&mut self) -> Instant {
        if let Some(ready) = self.ready.take() {
            // An empty capture has no first entry, and no frame that could be late.
            let _ = ready.await;
        }
        Instant::now()
    }
}

fn fault(reason: String) -> Error {
    Kind::Internal { reason }.into()
}

/// The thread behind a [`Feed`].
struct Reader {
    stage: Arc<Stage>,
    share: Arc<Share>,
    to: mpsc::Sender<Vec<Cue>>,
    batch: Vec<Cue>,
    bytes: usize,
    /// So many frames make a batch full,
    full: usize,
    /// and so many the first one. It is of another size for each reader: clients that began together need the
    /// next one at the same time, and hundreds would read at once.
    most: usize,
    /// Counted from 0.
    round: u64,
    known: Known,
    /// Whose the last entry was, and whether the client has a share in it.
    latest: Option<(Arc<Subscription>, bool)>,
    /// The clock that is running already, as long as frames come by that are over.
    joining: Option<Joining>,
    /// Where it begins, as long as that is not reached.
    origin: Option<Origin>,
    /// Who waits for that.
    unready: Option<oneshot::Sender<()>>,
}

/// What passes between a reader and its client before the first frame.
struct Doors {
    is_ready: oneshot::Sender<()>,
    started: oneshot::Receiver<(Lifted, Clock)>,
}

/// A clock that was started before there was a reader.
struct Joining {
    clock: Clock,
    /// What is due later than this is not waited out: a reader that is slower than the clock would never
    /// catch up with it.
    by: Instant,
    /// What was sent before, as far as it matters, if it is wanted.
    state: Option<Snapshot<Cue>>,
}

/// For so long frames are left out that become due while the capture is read up to the clock; later ones
/// are sent, and count as late.
const CATCH_UP: Duration = Duration::from_secs(10);

/// A client that comes late is given no more than so many bytes of state.
const STATE_LIMIT: usize = 64 * 1024 * 1024;

impl Joining {
    /// Whether a frame has been due already.
    fn is_over(&self, position: Position) -> bool {
        self.clock.passed(Instant::now().min(self.by), position).is_some()
    }

    /// Keeps a frame that is over if it may be the newest of something.
    fn remember(&mut self, mut cue: Cue) {
        if let (Some(state), Some(kind)) = (&mut self.state, &cue.kind) {
            let keys = kind.entities.keys(&cue.frame.data);
            if !keys.is_empty() {
                let size = cue.frame.data.len();
                // A copy: the original is a part of a chunk, which would be kept with it.
                cue.frame.data = Bytes::copy_from_slice(&cue.frame.data);
                state.add(keys, cue, size);
            }
        }
    }

    /// How many more rounds are over when the first whole one began and ended in these places; None if
    /// rounds take no time. Nothing else is left out then but what is over by now.
    fn rounds_over(&mut self, began: Position, end: Position) -> Option<u64> {
        let round = self.clock.takes(began, end).as_nanos();
        self.by = self.by.min(Instant::now());
        let over = self.clock.passed(self.by, end).unwrap_or_default();
        let rounds = over.as_nanos().checked_div(round)?;
        Some(u64::try_from(rounds).unwrap_or(u64::MAX))
    }
}

/// The client does not need a reader any more.
struct Unwanted;

impl Reader {
    fn read(mut self, doors: Doors) {
        // Whoever comes when all is over gets the state all the same.
        if self.play(doors).is_ok()
            && let Some(joining) = self.joining.take()
            && self.queue_state(joining.state).is_ok()
        {
            let _ = self.hand_over();
        }
    }

    fn play(&mut self, doors: Doors) -> Result<(), Unwanted> {
        let options = &self.stage.options;
        let rounds = options.rounds;
        let mut track = Track::new(options.max_gap, options.loop_delay);
        // What it takes to leave out rounds is learnt from a whole one.
        let mut unlearnt = 1;
        if let Some(Origin { received, position }) = self.origin {
            track = track.starting_at(received, position);
            unlearnt = 2;
        }
        let mut doors = Some(doors);
        while rounds.go_on_after(self.round) {
            let began = track.reached();
            // A round without a frame for this client is like all that would follow.
            if self.round(&mut track, &mut doors)? == 0 {
                break;
            }
            track.again();
            self.round += 1;
            if self.round == unlearnt
                && let Some(mut joining) = self.joining.take()
            {
                match joining.rounds_over(began, track.reached()) {
                    Some(over) => {
                        track.skip(over, began);
                        self.round += over;
                        self.joining = Some(joining);
                    }
                    // There is no place in time at which to join.
                    None => self.queue_state(joining.state)?,
                }
            }
        }
        Ok(())
    }

    /// Reads the capture once. Returns how many frames of it are for the client, wherever it begins.
    fn round(&mut self, track: &mut Track, doors: &mut Option<Doors>) -> Result<u64, Unwanted> {
        let options = &self.stage.options;
        let entries = options.capture.entries().sharing(&self.stage.unpacked);
        let entries = options.selection.clone().of(entries);
        let (mut frames, mut is_empty) = (0, true);
        for entry in entries {
            if let Some(doors) = doors.take() {
                self.open(doors)?;
            }
            match entry {
                Ok(entry) => {
                    is_empty &= entry.frame().is_none();
                    frames += self.take(entry, track)?;
                }
                Err(error) => {
                    let damage = error.is_damage();
                    self.stage.note(error);
                    if !damage {
                        self.hand_over()?;
                        return Ok(0);
                    }
                }
            }
        }
        self.stage.empty.fetch_or(is_empty, Ordering::Relaxed);
        // It begins behind all there is.
        (self.origin, self.unready) = (None, None);
        self.hand_over()?;
        Ok(frames)
    }

    /// Says that the capture is open, and waits for a shared clock to start.
    fn open(&mut self, Doors { is_ready, started }: Doors) -> Result<(), Unwanted> {
        let options = &self.stage.options;
        if self.origin.is_some() && options.timeline == Timeline::Client {
            // Its clock has to wait for more than the first entry.
            self.unready = Some(is_ready);
            return Ok(());
        }
        let _ = is_ready.send(());
        if options.timeline == Timeline::Shared {
            let (lifted, clock) = started.blocking_recv().map_err(|_| Unwanted)?;
            let wanted = options.late_join == LateJoin::State;
            self.joining = lifted.late.then(|| Joining {
                clock,
                by: Instant::now() + CATCH_UP,
                state: wanted.then(|| Snapshot::new(STATE_LIMIT)),
            });
        }
        Ok(())
    }

    /// Places every frame, because all clients have the same clock, and keeps the client's own.
    fn take(&mut self, entry: Entry, track: &mut Track) -> Result<u64, Unwanted> {
        let own = self.has(&entry.subscription);
        let Entry { subscription, received, what: What::Frame(frame) } = entry else {
            return Ok(0);
        };
        if let Some(origin) = self.origin {
            if received < origin.received {
                return self.pass_over(own, || Cue {
                    position: origin.position,
                    round: 0,
                    subscription,
                    received,
                    kind: None,
                    state: true,
                    frame,
                });
            }
            self.origin = None;
            self.unready.take().map(|unready| unready.send(()));
        }
        let position = track.position(received);
        let state = match &self.joining {
            Some(joining) => joining.is_over(position),
            None => false,
        };
        if !state && let Some(joining) = self.joining.take() {
            self.queue_state(joining.state)?;
        }
        if own {
            let kind = self.kind(&frame);
            let cue =
                Cue { position, round: self.round, subscription, received, kind, state, frame };
            match &mut self.joining {
                Some(joining) => joining.remember(cue),
                None => self.queue(cue),
            }
        }
        // A client that waits must not wait for a full batch: on a quiet topic that could be the
        // whole capture.
        let waits = self.to.capacity() == BATCHES && !self.batch.is_empty();
        if waits || self.is_full() {
            self.hand_over()?;
        } else if self.to.is_closed() {
            return Err(Unwanted);
        }
        Ok(u64::from(own))
    }

    /// Whether the client has a share in a subscription. Most entries are of the same one as the last.
    fn has(&mut self, subscription: &Arc<Subscription>) -> bool {
        match &self.latest {
            Some((latest, has)) if Arc::ptr_eq(latest, subscription) => *has,
            _ => {
                let has = self.share.has(subscription);
                self.latest = Some((Arc::clone(subscription), has));
                has
            }
        }
    }

    /// A frame before the place at which it begins: no more than what the state is made of.
    fn pass_over(&mut self, own: bool, cue: impl FnOnce() -> Cue) -> Result<u64, Unwanted> {
        if self.to.is_closed() {
            return Err(Unwanted);
        }
        if own && let Some(mut joining) = self.joining.take_if(|joining| joining.state.is_some()) {
            let mut cue = cue();
            cue.kind = self.kind(&cue.frame);
            joining.remember(cue);
            self.joining = Some(joining);
        }
        Ok(u64::from(own))
    }

    /// What is known of such frames, if that is asked for.
    fn kind(&mut self, frame: &Frame) -> Option<Arc<Type>> {
        let options = &self.stage.options;
        let known = options.restamp || options.late_join == LateJoin::State;
        let tell = |error| self.stage.note(error);
        known.then(|| self.known.of(&frame.kind, &self.stage.types, tell)).flatten()
    }

    fn queue(&mut self, cue: Cue) {
        self.bytes += cue.frame.data.len();
        self.batch.push(cue);
    }

    /// The state comes before all that follows.
    fn queue_state(&mut self, state: Option<Snapshot<Cue>>) -> Result<(), Unwanted> {
        for cue in state.into_iter().flat_map(Snapshot::into_frames) {
            self.queue(cue);
            if self.is_full() {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= self.most || self.bytes >= BATCH_BYTES
    }

    fn hand_over(&mut self) -> Result<(), Unwanted> {
        self.bytes = 0;
        if self.batch.len() >= self.most {
            self.most = self.full;
        }
        if self.batch.is_empty() {
            return if self.to.is_closed() { Err(Unwanted) } else { Ok(()) };
        }
        let following = Vec::with_capacity(self.most);
        let batch = std::mem::replace(&mut self.batch, following);
        self.to.blocking_send(batch).map_err(|_| Unwanted)
    }
}
