//! socket -> net::client -> session -> Entry -> capture -> segment.
//!
//! All subscriptions at once, into one capture. Whatever was received is in the kernel before more is
//! read, so that killing the process loses nothing. Stopping is the normal end: the file is finished
//! and the report says what is in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

pub use self::{
    board::{Board, State, Status},
    keeper::SyncWhen,
    keys::KeySource,
    segments::{Keep, OnFull, Split},
};
use self::{
    dial::Dialer,
    earlier::Covered,
    keeper::Keeper,
    keys::Keys,
    segments::{Care, Place, Segments},
    subscriber::Subscriber,
    turnstile::Turnstile,
};
use crate::{
    accounts::Account,
    capture::{About, SEALED_SUFFIX, Sealed, seal_left_overs, sealed_left_over},
    entry::{Entry, SessionEvent, Subscription, Timestamp},
    error::{Error, Kind, Result},
    net::client::{Connector, Endpoint},
    protocol::Protocol,
    schema::FrameTypes,
    session::Session,
};

mod board;
mod dial;
mod earlier;
mod keeper;
mod keys;
mod outage;
mod segments;
mod subscriber;
mod turnstile;

/// What to record, and where to.
pub struct Options {
    /// The protocol that is spoken.
    pub protocol: &'static dyn Protocol,
    /// Where the feed is.
    pub endpoint: Endpoint,
    /// Whom to trust.
    pub tls: Arc<rustls::ClientConfig>,
    /// The subscriptions, each with a name of its own.
    pub accounts: Vec<Account>,
    /// Where their keys came from.
    pub keys: KeySource,
    /// A folder, or the name of one `.mcap` file.
    pub output: PathBuf,
    /// The size of the largest message, in bytes.
    pub message_limit: usize,
    /// Stop after so many frames.
    pub stop_after_messages: Option<u64>,
    /// Stop after so much time.
    pub stop_after_duration: Option<Duration>,
    /// Be content with one connection of each subscription, until the server closes it.
    pub once: bool,
    /// What becomes of its segments.
    pub keeping: Keeping,
}

/// What becomes of the segments of a recording.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// When a segment ends and the next one begins.
    pub split: Split,
    /// How much of what is sealed stays.
    pub keep: Keep,
    /// What a power cut may cost.
    pub sync: SyncWhen,
    /// What to do when nothing can be written.
    pub on_full: OnFull,
    /// A command that is run with the path of each sealed segment as its argument.
    pub on_sealed: Option<String>,
}

/// Is told what happens while it happens. It is called from many places at once, and must not block.
pub type Notify = Arc<dyn Fn(Notice<'_>) + Send + Sync>;

/// Is given what was kept, batch by batch, on the writing thread: it must not block either.
pub type Kept = Box<dyn FnMut(Vec<Entry>) + Send>;

/// Something worth a line while recording.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Something that goes to the ledger.
    Event {
        /// Whose event it is.
        subscription: &'a Subscription,
        /// What happened.
        event: &'a SessionEvent,
    },
    /// The next attempt comes later.
    Waiting {
        /// Who waits.
        subscription: &'a Subscription,
        /// How long.
        time: Duration,
        /// It was refused for good, and was never connected.
        hopeless: bool,
    },
    /// The server gave no key.
    KeyNotRenewed {
        /// Whose key it is.
        subscription: &'a Subscription,
        /// Why.
        reason: &'a str,
    },
    /// A segment is sealed.
    Sealed {
        /// What became of it.
        sealed: &'a Sealed,
    },
    /// An old segment is about to be deleted, because so much was not to be kept.
    Removing {
        /// Which.
        path: &'a Path,
        /// Its size in bytes.
        size: u64,
    },
    /// Sealing is slower than recording; so many segments wait.
    SealingBehind {
        /// How many.
        segments: usize,
    },
    /// Something did not work, and the recording goes on.
    Trouble {
        /// What.
        error: &'a Error,
    },
    /// After a time in which nothing could be written, it works again.
    WritingAgain {
        /// Frames that were lost in that time.
        lost: u64,
    },
    /// The renewed key is in use, but could not be written back.
    KeyNotWritten {
        /// Whose key it is.
        subscription: &'a Subscription,
        /// Why.
        error: &'a Error,
    },
}

/// How a recording went.
#[derive(Debug)]
pub struct Report {
    /// The segments that were recorded, in order; those that the ring deleted since are among them.
    pub sealed: Vec<Sealed>,
    /// What became of each subscription.
    pub subscriptions: Vec<Status>,
    /// Why it ended before it was asked to, if it did. What was written before is kept.
    pub failed: Option<Error>,
}

impl Report {
    /// Something was received and not kept, or could have come while nobody listened.
    pub fn is_lossy(&self) -> bool {
        self.sealed.iter().any(|sealed| sealed.damage.is_some())
            || self.subscriptions.iter().any(|s| s.gaps + s.dropped > 0 || s.connections == 0)
    }

    /// How many bytes the sealed segments have.
    pub fn size(&self) -> u64 {
        self.sealed.iter().map(|sealed| sealed.sealed_size).sum()
    }

    /// The sealed segments, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sealed.iter().filter_map(|sealed| sealed.path.as_deref())
    }

    /// There never was a connection at all.
    pub fn is_futile(&self) -> bool {
        self.subscriptions.iter().all(|status| status.connections == 0)
    }
}

/// A recording that is about to start: its file is there, and the ones before it are sealed.
pub struct Recording {
    options: Options,
    segments: Segments,
    path: PathBuf,
    board: Arc<Board>,
    left_overs: Vec<Sealed>,
    covered: Covered,
    notify: Notify,
    split: Arc<tokio::sync::Notify>,
}

impl Recording {
    /// Checks the options, seals what an earlier run left behind, and creates the file. `notify` is
    /// told what happens from then on.
    pub fn prepare(options: Options, notify: Notify) -> Result<Self> {
        for (index, account) in options.accounts.iter().enumerate() {
            if options.accounts[..index].iter().any(|other| other.name == account.name) {
                let found = format!("two subscriptions named {:?}", account.name);
                return Err(Error::usage("names that differ", found, "rename one of them"));
            }
        }
        if let Err(error) = options.keys.tidy() {
            notify(Notice::Trouble { error: &error });
        }
        let (place, left_overs) = place(&options)?;
        let covered = match &place {
            Place::File(_) => Covered::new(),
            Place::Folder(folder) => earlier::covered_in(folder),
        };
        let types = FrameTypes::of(options.protocol);
        let mut kinds: Vec<_> = types.all().cloned().collect();
        kinds.sort_by(|a, b| a.label.cmp(&b.label));
        let Keeping { split, keep, on_sealed, .. } = options.keeping.clone();
        let care = Care { keep, on_sealed, notify: Arc::clone(&notify) };
        let segments = Segments::start(place, about(&options), kinds, split, care)?;
        let path = segments.path().unwrap_or(&options.output).to_owned();
        let board = Arc::new(Board::new(options.accounts.iter().map(|a| a.name.clone())));
        let split = Arc::new(tokio::sync::Notify::new());
        Ok(Self { options, segments, path, board, left_overs, covered, notify, split })
    }

    /// The segments of an earlier run that were sealed first.
    pub fn left_overs(&self) -> &[Sealed] {
        &self.left_overs
    }

    /// Where the frames go first.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The counts and states, to be read while it runs.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Ring it to begin a new segment, as [`Split`] does by itself.
    pub fn split_bell(&self) -> Arc<tokio::sync::Notify> {
        Arc::clone(&self.split)
    }

    /// Records until `stop` is ready, a limit is reached, nothing can be written, all subscriptions
    /// have had the one connection that was asked for, or all were refused for good before any was
    /// connected.
    ///
    /// Dropping the future loses no frame that was kept, but leaves the segment hot.
    pub async fn run(self, stop: impl Future<Output = ()>, kept: Option<Kept>) -> Result<Report> {
        let Self { options, segments, board, covered, notify, split, .. } = self;
        let (stop_sender, stopped) = watch::channel(false);
        let shared = keeper::Shared {
            board: Arc::clone(&board),
            stop: stop_sender.clone(),
            limit: options.stop_after_messages,
            kept,
            sync: options.keeping.sync,
            on_full: options.keeping.on_full,
            notify: Arc::clone(&notify),
        };
        let (keeper, writing) = keeper::start(segments, shared);
        let time_out = options.stop_after_duration;
        let hopeless = Hopeless::new(options.accounts.len(), notify, stop_sender.clone());
        let mut subscribers = subscribe(options, &covered, &board, &keeper, &hopeless, &stopped);
        let ticking = tokio::spawn(keeper.tick(split));

        let mut wanted = stopped.clone();
        let mut panicked = false;
        tokio::select! {
            () = stop => {}
            () = after(time_out) => {}
            () = subscriber::asked_to(&mut wanted) => {}
            () = all_ended(&mut subscribers, &mut panicked) => {}
        }
        stop_sender.send_replace(true);
        all_ended(&mut subscribers, &mut panicked).await;
        ticking.abort();
        let _ = ticking.await;
        // The last keeper is gone, so the writing ends. Sealing takes its time, off the runtime.
        let finished = tokio::task::spawn_blocking(move || writing.finish()).await;
        let internal = |reason: &str| Error::from(Kind::Internal { reason: reason.to_owned() });
        let (sealed, failed) = finished.map_err(|_| internal("sealing panicked"))??;
        if panicked {
            return Err(internal("a subscription panicked"));
        }
        match (sealed, failed) {
            (Ok(sealed), failed) => Ok(Report { sealed, subscriptions: board.read(), failed }),
            // The first thing that went wrong is the one to tell; the hot segment stays.
            (Err(error), failed) => Err(failed.unwrap_or(error)),
        }
    }
}

async fn all_ended(subscribers: &mut JoinSet<()>, panicked: &mut bool) {
    while let Some(ended) = subscribers.join_next().await {
        *panicked |= ended.is_err();
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn subscribe(
    options: Options,
    covered: &Covered,
    board: &Arc<Board>,
    keeper: &Keeper,
    hopeless: &Arc<Hopeless>,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let Options { protocol, endpoint, tls, accounts, keys, message_limit, once, .. } = options;
    let host = endpoint.authority();
    let connector = Connector::new(endpoint, protocol, tls, message_limit);
    let keys = Arc::new(Keys::new(protocol, keys));
    let turnstile = Arc::new(Turnstile::default());
    let mut subscribers = JoinSet::new();
    for (index, account) in accounts.into_iter().enumerate() {
        let hopeless = Arc::clone(hopeless);
        let mut session = Session::new(protocol, fastrand::u64(..));
        if let Some(&(until, cause)) = covered.get(&account.name) {
            session = session.resuming(until, cause);
        }
        let subscription = Arc::new(Subscription {
            name: account.name,
            protocol: protocol.name().to_owned(),
            topic: account.topic,
            host: host.clone(),
        });
        let notify: Notify = Arc::new(move |notice| hopeless.notice(index, notice));
        let dialer = Dialer {
            subscription: Arc::clone(&subscription),
            username: account.username,
            connector: connector.clone(),
            turnstile: Arc::clone(&turnstile),
            keys: Arc::clone(&keys),
            slot: keys.add(account.key.clone()),
            notify: Arc::clone(&notify),
        };
        let subscriber = Subscriber {
            index,
            subscription,
            protocol,
            session,
            types: FrameTypes::of(protocol),
            dialer: Arc::new(dialer),
            used: account.key,
            keeper: keeper.clone(),
            board: Arc::clone(board),
            notify,
            stop: stop.clone(),
            once,
        };
        subscribers.spawn(subscriber.run());
    }
    subscribers
}

/// Ends a recording that can come to nothing: everybody was refused for good, and nobody was ever
/// connected. A mistyped key should not look like a quiet feed.
struct Hopeless {
    refused: std::sync::Mutex<Vec<bool>>,
    notify: Notify,
    stop: watch::Sender<bool>,
}

impl Hopeless {
    fn new(count: usize, notify: Notify, stop: watch::Sender<bool>) -> Arc<Self> {
        Arc::new(Self { refused: std::sync::Mutex::new(vec![false; count]), notify, stop })
    }

    fn notice(&self, index: usize, notice: Notice<'_>) {
        if let Notice::Waiting { hopeless, .. } = &notice {
            let mut refused =
                self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            refused[index] = *hopeless;
            if refused.iter().all(|&refused| refused) {
                self.stop.send_replace(true);
            }
        }
        (self.notify)(notice);
    }
}

/// Where the segments go, after what was left behind there was sealed.
fn place(options: &Options) -> Result<(Place, Vec<Sealed>)> {
    let output = &options.output;
    let is_file = output.to_string_lossy().ends_with(SEALED_SUFFIX) && !output.is_dir();
    if is_file {
        if !options.keeping.split.is_never() || options.keeping.keep != Keep::default() {
            return Err(Error::usage(
                "a folder for more than one segment",
                format!("the file {}", output.display()),
                "name a folder with -o, or leave the --split and --keep options away",
            ));
        }
        // What a killed run left under this very name is sealed, which takes the name.
        return match sealed_left_over(output)? {
            Some(Sealed { path: Some(path), entries, .. }) => {
                Err(Kind::SealedInstead { path, entries }.into())
            }
            left_over => Ok((Place::File(output.clone()), left_over.into_iter().collect())),
        };
    }
    fs::create_dir_all(output).map_err(Error::io("create", output))?;
    let left_overs = seal_left_overs(output)?;
    Ok((Place::Folder(output.clone()), left_overs))
}

fn about(options: &Options) -> About {
    let mut kept = BTreeMap::from([
        ("hostname".to_owned(), options.endpoint.authority()),
        ("message-limit".to_owned(), options.message_limit.to_string()),
    ]);
    kept.extend(
        options.stop_after_messages.map(|n| ("stop-after-messages".to_owned(), n.to_string())),
    );
    About {
        started: Timestamp::now(),
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        options: kept,
    }
}
