//! socket -> net::client -> session -> Entry -> capture -> segment.
//!
//! All subscriptions at once, into one capture. Whatever was received is in the kernel before more is
//! read, so that killing the process loses nothing. Stopping is the normal end: the file is finished
//! and the report says what is in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

pub use self::{
    board::{Board, State, Status, Works},
    clock::{Clock, Reading, SystemClock},
    export::{Export, ExportStatus, Target},
    keeper::SyncWhen,
    keys::KeySource,
    ring::Keep,
    segments::{OnFull, Split},
};
use self::{
    earlier::Earlier,
    export::Exports,
    followed::Followed,
    keys::Keys,
    room::has_room_to_seal,
    sealer::{Care, LeftHot, tell_sealed},
    segments::{Place, Segments},
    subscribers::{Common, Hopeless, Subscribers},
};
use crate::{
    accounts::{self, Account},
    capture::{
        About, Compression, LeftOver, SEALED_SUFFIX, Sealed, left_overs, seal, sealed_left_over,
        unfinished::create_folder,
    },
    entry::{Entry, SessionEvent, Subscription},
    error::{Error, Kind, Result},
    files::folder_of,
    net::client::{Connector, Endpoint},
    protocol::Protocol,
    schema::FrameTypes,
};

mod board;
mod clock;
mod dial;
mod earlier;
mod export;
mod followed;
mod hook;
mod keeper;
mod keys;
pub mod metrics;
mod names;
mod outage;
mod ring;
mod room;
mod sealer;
mod segments;
mod subscriber;
mod subscribers;
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
    /// Take topics that the protocol does not know, if an input file comes to ask for one.
    pub unknown_topics: bool,
    /// Where their keys came from. A file is followed: what changes in it takes effect.
    pub keys: KeySource,
    /// A folder, or the name of one `.mcap` file.
    pub output: PathBuf,
    /// The size of the largest message, in bytes.
    pub message_limit: usize,
    /// Stop after so many frames.
    pub stop_after_messages: Option<u64>,
    /// Stop when frames come to so many bytes.
    pub stop_after_size: Option<u64>,
    /// Stop after so much time.
    pub stop_after_duration: Option<Duration>,
    /// Be content with one connection of each subscription, until the server closes it.
    pub once: bool,
    /// What becomes of its segments.
    pub keeping: Keeping,
    /// Who else gets what is kept, each another target.
    pub exports: Vec<Export>,
    /// Whom to ask for the time.
    pub clock: Arc<dyn Clock>,
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
    /// How much work compressing what is sealed may be.
    pub compression: Compression,
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
    /// Something that goes to the ledger, except a text message.
    Event {
        /// Whose event it is.
        subscription: &'a Subscription,
        /// What happened.
        event: &'a SessionEvent,
    },
    /// Text messages come, which the ledger has, each as an event. It is told of the first one of a connection, and
    /// whenever there are twice as many.
    TextFrames {
        /// Where.
        subscription: &'a Subscription,
        /// How many on this connection, with this one.
        texts: u64,
        /// The size of this one in bytes.
        size: usize,
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
    /// The recording ends: now this one, too, was refused for good, as all the others were, and none was ever
    /// connected.
    AllRefused {
        /// Who was the last.
        subscription: &'a Subscription,
    },
    /// The server is asked for another key, but later: a moment ago it was asked about one of the same customer.
    AskingLater {
        /// Whose key it is.
        subscription: &'a Subscription,
        /// How long that is.
        time: Duration,
    },
    /// The server gave no key.
    KeyNotRenewed {
        /// Whose key it is.
        subscription: &'a Subscription,
        /// Why.
        reason: &'a str,
    },
    /// The input file has one more subscription.
    Added {
        /// Which.
        subscription: &'a Subscription,
    },
    /// The input file does not have it any more, or has another one of its name.
    Removed {
        /// Which.
        subscription: &'a Subscription,
    },
    /// The file that its key came from has another one.
    KeyGiven {
        /// Whose.
        subscription: &'a Subscription,
    },
    /// The file with the keys has changed and is of no use now.
    KeysFileBroken {
        /// Why.
        error: &'a Error,
    },
    /// A segment is sealed.
    Sealed {
        /// What became of it.
        sealed: &'a Sealed,
    },
    /// A hot segment that an earlier run has left is still that at the end: the next recording seals it.
    LeftForNext {
        /// Which.
        path: &'a Path,
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
    /// The recording stands: its file is there, and all subscriptions start now.
    Started,
    /// The recording ends: nothing new is wanted, and what is there is sealed.
    Stopping,
    /// The recording has ended, but for the command that sealed segments are handed to.
    HookAwaited {
        /// Those that have not had their turn, with the one that has it.
        segments: usize,
        /// How long it is waited for at most.
        time: Duration,
    },
    /// An exporter cannot export. It tries again and again.
    ExportTrouble {
        /// Which.
        exporter: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// An exporter begins to drop frames; the capture has them.
    ExportDropping {
        /// Which.
        exporter: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// An exporter works again, and nothing waits for it.
    ExportAgain {
        /// Which.
        exporter: &'a str,
        /// Frames that it dropped meanwhile.
        dropped: u64,
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
    /// The segments that were recorded, in order, those that the ring deleted since among them; and what an earlier
    /// run had left.
    pub sealed: Vec<Sealed>,
    /// What became of each subscription.
    pub subscriptions: Vec<Status>,
    /// What became of each exporter. What they dropped is no loss of the recording.
    pub exports: Vec<ExportStatus>,
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
        self.recorded().map(|sealed| sealed.sealed_size).sum()
    }

    /// What became of the segments that were recorded.
    pub fn recorded(&self) -> impl Iterator<Item = &Sealed> {
        self.sealed.iter().filter(|sealed| !sealed.is_left_over)
    }

    /// The sealed segments, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.recorded().filter_map(|sealed| sealed.path.as_deref())
    }

    /// There never was a connection at all.
    pub fn is_futile(&self) -> bool {
        self.subscriptions.iter().all(|status| status.connections == 0)
    }
}

/// A recording that is about to start: its file is there, and the ones before it are sealed or about to be.
pub struct Recording {
    options: Options,
    types: FrameTypes,
    segments: Segments,
    path: PathBuf,
    board: Arc<Board>,
    earlier: Earlier,
    notify: Notify,
    split: Arc<tokio::sync::Notify>,
    is_hurried: Arc<AtomicBool>,
}

impl Recording {
    /// Checks the options, looks what an earlier run left behind, and creates the file. `notify` is told what
    /// happens from then on. What was left in a folder is sealed meanwhile: as long as nothing is recorded, that is
    /// a gap.
    pub fn prepare(options: Options, notify: Notify) -> Result<Self> {
        for (index, account) in options.accounts.iter().enumerate() {
            if options.accounts[..index].iter().any(|other| other.name == account.name) {
                let found = format!("two subscriptions named {:?}", account.name);
                return Err(Error::usage("names that differ", found, "rename one of them"));
            }
        }
        export::check(&options.exports)?;
        if let Err(error) = options.keys.tidy() {
            notify(Notice::Trouble { error: &error });
        }
        let (place, left) = place(&options, &notify)?;
        let names = options.accounts.iter().map(|account| account.name.clone()).collect();
        let earlier = match &place {
            Place::File(_) => Earlier::none(),
            Place::Folder(folder) => Earlier::look(folder.clone(), left.hot.clone(), names),
        };
        let types = FrameTypes::of(options.protocol);
        let mut kinds: Vec<_> = types.all().cloned().collect();
        kinds.sort_by(|a, b| a.label.cmp(&b.label));
        let Keeping { split, keep, compression, on_sealed, .. } = options.keeping.clone();
        let (clock, is_hurried) = (Arc::clone(&options.clock), Arc::<AtomicBool>::default());
        let care = Care {
            keep,
            compression,
            on_sealed,
            sealed_before: left.sealed,
            left_hot: left.hot.into_iter().map(LeftHot::of_earlier_run).collect(),
            earlier: earlier.clone(),
            is_hurried: Arc::clone(&is_hurried),
            notify: Arc::clone(&notify),
            clock,
        };
        let segments = Segments::start(place, about(&options), kinds, split, care)?;
        let path = segments.path().unwrap_or(&options.output).to_owned();
        let board = Arc::new(Board::new(folder_of(&path).to_owned(), segments.sealing()));
        for account in &options.accounts {
            board.add(&account.name);
        }
        let split = Arc::new(tokio::sync::Notify::new());
        Ok(Self { options, types, segments, path, board, earlier, notify, split, is_hurried })
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
    /// connected. After `stop`, what an earlier run has left stays for the next one.
    ///
    /// Dropping the future loses no frame that was kept, but leaves the segment hot.
    pub async fn run(self, stop: impl Future<Output = ()>, kept: Option<Kept>) -> Result<Report> {
        let Self {
            mut options, types, segments, board, earlier, notify, split, is_hurried, ..
        } = self;
        let exports = Exports::start(std::mem::take(&mut options.exports), &board, &notify)?;
        let (stop_sender, stopped) = watch::channel(false);
        let shared = keeper::Shared {
            board: Arc::clone(&board),
            stop: stop_sender.clone(),
            limit: keeper::Limit {
                frames: options.stop_after_messages,
                bytes: options.stop_after_size,
            },
            kept,
            exports,
            sync: options.keeping.sync,
            on_full: options.keeping.on_full,
            notify: Arc::clone(&notify),
            clock: Arc::clone(&options.clock),
        };
        let (keeper, writing) = keeper::start(segments, shared);
        let time_out = options.stop_after_duration;
        let ticking = tokio::spawn(keeper.clone().tick(split));
        let (keys, wanted, following) = follow_file(&options, &notify);
        let Options { protocol, endpoint, tls, accounts, message_limit, once, clock, .. } = options;
        let common = Common {
            protocol,
            types,
            host: endpoint.authority(),
            connector: Connector::new(endpoint, protocol, tls, message_limit),
            turnstile: Arc::default(),
            keys,
            keeper,
            board: Arc::clone(&board),
            hopeless: Hopeless::new(Arc::clone(&notify), stop_sender.clone()),
            notify: Arc::clone(&notify),
            stop: stopped.clone(),
            once,
            clock,
            earlier,
        };
        notify(Notice::Started);
        let mut subscribers = Subscribers::start(common, accounts);
        let mut told = stopped.clone();
        let end = async {
            tokio::select! {
                () = stop => is_hurried.store(true, Ordering::Relaxed),
                () = after(time_out) => {}
                () = subscriber::asked_to(&mut told) => {}
            }
        };
        attend(&mut subscribers, wanted, end).await;
        following.abort();
        notify(Notice::Stopping);
        stop_sender.send_replace(true);
        let panicked = subscribers.finish().await;
        ticking.abort();
        let _ = ticking.await;
        // The last keeper is gone, so the writing ends. Sealing takes its time, off the runtime.
        let finished = tokio::task::spawn_blocking(move || writing.finish()).await;
        let internal = |reason: &str| Error::from(Kind::Internal { reason: reason.to_owned() });
        let (sealed, failed) = finished.map_err(|_| internal("sealing panicked"))??;
        if panicked {
            return Err(internal("a subscription panicked"));
        }
        let (subscriptions, exports) = (board.read(), board.exports());
        Ok(Report { sealed, subscriptions, exports, failed })
    }
}

/// Does with the subscriptions what their file says, until the end or until none is left.
async fn attend(
    subscribers: &mut Subscribers,
    mut wanted: watch::Receiver<Vec<Account>>,
    end: impl Future<Output = ()>,
) {
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            // Where one has panicked, whoever starts us again has all of them again.
            some_left = subscribers.next_end() => {
                if !some_left || subscribers.one_panicked() {
                    return;
                }
            }
            Ok(()) = wanted.changed() => {
                let wanted = wanted.borrow_and_update().clone();
                subscribers.follow(wanted);
            }
        }
    }
}

/// The keys; and where they come from a file, what that holds whenever it has changed.
fn follow_file(
    options: &Options,
    notify: &Notify,
) -> (Arc<Keys>, watch::Receiver<Vec<Account>>, JoinHandle<()>) {
    let keys = Arc::new(Keys::new(options.protocol, options.keys.clone()));
    let (changed, wanted) = watch::channel(Vec::new());
    let file = match &options.keys {
        KeySource::InputFile(path) => Some(Followed::new(path.clone(), input_file(options))),
        KeySource::KeyFile(path) => Some(Followed::new(path.clone(), key_file(options))),
        KeySource::Memory => None,
    };
    let following = match file {
        Some(file) => tokio::spawn(file.follow(Arc::clone(&keys), changed, Arc::clone(notify))),
        None => tokio::spawn(std::future::ready(())),
    };
    (keys, wanted, following)
}

fn input_file(options: &Options) -> followed::Read {
    let (protocol, unknown_topics) = (options.protocol, options.unknown_topics);
    Box::new(move |path| {
        let accounts = accounts::read(path)?;
        if !unknown_topics {
            accounts.iter().try_for_each(|account| account.check_topic(protocol))?;
        }
        Ok(accounts)
    })
}

/// All have the one key that is in it.
fn key_file(options: &Options) -> followed::Read {
    let accounts = options.accounts.clone();
    Box::new(move |path| {
        let key = accounts::read_key(path)?;
        let with_it = |account: &Account| Account { key: key.clone(), ..account.clone() };
        Ok(accounts.iter().map(with_it).collect())
    })
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// What an earlier run has left.
#[derive(Default)]
struct Left {
    /// What was sealed of it.
    sealed: Vec<Sealed>,
    /// What is still hot.
    hot: Vec<LeftOver>,
}

impl Left {
    fn sealed(&mut self, sealed: Sealed, notify: &Notify) {
        let sealed = Sealed { is_left_over: true, ..sealed };
        tell_sealed(&sealed, notify);
        self.sealed.push(sealed);
    }
}

/// Where the segments go, and what was left behind there. What will find room is sealed while recording; what perhaps
/// will not, is so before: it may fill the disk, and then costs nothing that is recorded.
fn place(options: &Options, notify: &Notify) -> Result<(Place, Left)> {
    let (output, compression) = (&options.output, options.keeping.compression);
    let mut left = Left::default();
    let is_file = output.to_string_lossy().ends_with(SEALED_SUFFIX) && !output.is_dir();
    if is_file {
        if !options.keeping.split.is_never() || options.keeping.keep != Keep::default() {
            return Err(Error::usage(
                "a folder for more than one segment",
                format!("the file {}", output.display()),
                "name a folder with -o, or leave the --split and --keep options away",
            ));
        }
        if options.keeping.on_full == OnFull::DropOldest {
            return Err(Error::usage(
                "a folder whose oldest segments may be deleted",
                format!("the file {}", output.display()),
                "name a folder with -o, or leave --on-full away",
            ));
        }
        // What a killed run left under this very name is sealed, which takes the name.
        return match sealed_left_over(output, compression)? {
            Some(Sealed { path: Some(path), entries, .. }) => {
                Err(Kind::SealedInstead { path, entries }.into())
            }
            left_over => {
                if let Some(sealed) = left_over {
                    left.sealed(sealed, notify);
                }
                Ok((Place::File(output.clone()), left))
            }
        };
    }
    create_folder(output)?;
    for left_over in left_overs(output)? {
        if has_room_to_seal(&left_over.path) {
            left.hot.push(left_over);
            continue;
        }
        match seal(&left_over.path, &left_over.sealed_path, compression) {
            Ok(sealed) => left.sealed(sealed, notify),
            Err(error) if error.is_in_use() => {}
            Err(error) => {
                notify(Notice::Trouble { error: &error });
                left.hot.push(left_over);
            }
        }
    }
    Ok((Place::Folder(output.clone()), left))
}

fn about(options: &Options) -> About {
    let mut kept = BTreeMap::from([
        ("hostname".to_owned(), options.endpoint.authority()),
        ("message-limit".to_owned(), options.message_limit.to_string()),
    ]);
    let limits = [
        ("stop-after-messages", options.stop_after_messages),
        ("stop-after-size", options.stop_after_size),
    ];
    kept.extend(limits.into_iter().filter_map(|(name, n)| Some((name.to_owned(), n?.to_string()))));
    About {
        started: options.clock.look().wall,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        options: kept,
    }
}
