//! The capture as one client gets it: read by a thread, handed over in small batches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{offer::Share, stage::Stage};
use crate::{
    entry::{Entry, Frame, Subscription, What},
    error::{Error, Kind},
    pace::{Position, Track},
};

/// A batch that a reader hands over holds so many frames at most,
const BATCH_FRAMES: usize = 64;
/// and no more are added when it has so many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// So many batches may wait for a client.
const BATCHES: usize = 4;

/// A frame on its way to a client.
pub(super) struct Cue {
    /// Where in the replay it is.
    pub position: Position,
    /// Whose it is.
    pub subscription: Arc<Subscription>,
    pub frame: Frame,
}

/// The capture as one client gets it. The reader ends soon after this is dropped.
pub(super) struct Feed {
    ready: Option<oneshot::Receiver<()>>,
    pub batches: mpsc::Receiver<Vec<Cue>>,
}

impl Feed {
    pub(super) fn open(stage: &Arc<Stage>, share: Arc<Share>) -> Self {
        let (to, batches) = mpsc::channel(BATCHES);
        let (is_ready, ready) = oneshot::channel();
        let held = to.clone();
        let reader = Reader { stage: Arc::clone(stage), share, to, batch: Vec::new(), bytes: 0 };
        let noted = Arc::clone(stage);
        let spawned = thread::Builder::new().name("replay-reader".to_owned()).spawn(move || {
            // A feed must not look complete because its reader has died.
            if catch_unwind(AssertUnwindSafe(|| reader.read(is_ready))).is_err() {
                noted.note(fault("the reader of the capture has failed".to_owned()));
            }
            drop(held);
        });
        if let Err(error) = spawned {
            stage.note(fault(format!("no thread to read with: {error}")));
        }
        Self { ready: Some(ready), batches }
    }

    /// Completes when the capture is open and its first entry unpacked, which can take longer than
    /// a frame may be late. All clients of one capture wait for the same entry, whatever their topic.
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
}

/// The client does not need a reader any more.
struct Unwanted;

impl Reader {
    fn read(mut self, ready: oneshot::Sender<()>) {
        let options = &self.stage.options;
        let (rounds, mut track) = (options.rounds, Track::new(options.max_gap, options.loop_delay));
        let mut ready = Some(ready);
        let mut played = 0;
        while rounds.go_on_after(played) {
            // A round without a frame for this client is like all that would follow.
            match self.round(&mut track, &mut ready) {
                Ok(1..) => {}
                Ok(0) | Err(Unwanted) => return,
            }
            track.again();
            played += 1;
        }
    }

    /// Reads the capture once. Returns how many frames the client got.
    fn round(
        &mut self,
        track: &mut Track,
        ready: &mut Option<oneshot::Sender<()>>,
    ) -> Result<u64, Unwanted> {
        let options = &self.stage.options;
        let entries = options.selection.clone().of(options.capture.entries());
        let mut frames = 0;
        for entry in entries {
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            match entry {
                Ok(entry) => frames += self.take(entry, track)?,
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
        self.hand_over()?;
        Ok(frames)
    }

    /// Places every frame, because all clients have the same clock, and keeps the client's own.
    fn take(&mut self, entry: Entry, track: &mut Track) -> Result<u64, Unwanted> {
        let own = self.share.has(&entry);
        let Entry { subscription, received, what: What::Frame(frame) } = entry else {
            return Ok(0);
        };
        let position = track.position(received);
        if own {
            self.bytes += frame.data.len();
            self.batch.push(Cue { position, subscription, frame });
        }
        // A client that waits must not wait for a full batch: on a quiet topic that could be the
        // whole capture.
        let waits = self.to.capacity() == BATCHES && !self.batch.is_empty();
        if waits || self.batch.len() >= BATCH_FRAMES || self.bytes >= BATCH_BYTES {
            self.hand_over()?;
        } else if self.to.is_closed() {
            return Err(Unwanted);
        }
        Ok(u64::from(own))
    }

    fn hand_over(&mut self) -> Result<(), Unwanted> {
        self.bytes = 0;
        if self.batch.is_empty() {
            return if self.to.is_closed() { Err(Unwanted) } else { Ok(()) };
        }
        self.to.blocking_send(std::mem::take(&mut self.batch)).map_err(|_| Unwanted)
    }
}
