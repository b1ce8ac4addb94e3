//! Entry -> codec -> line of JSON -> somebody else, while it is recorded.
//!
//! Each exporter has a queue and a thread. The writing thread puts into the queue what the kernel has,
//! in order, and never waits: what does not fit is dropped, counted and written down, as something that
//! the capture has and the exporter's reader has not. The thread decodes, sends, and begins anew where
//! that fails. At the end it has a few seconds for what is left.
//!
//! A frame counts as exported when the system has taken all of its line. What a network or a program
//! loses after that, nobody here can know.

use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use self::{
    exporter::Exporter,
    queue::{Dropping, Queue},
};
use super::{Board, Notice, Notify, outage::Connections};
use crate::{
    codec::STACK_SIZE,
    entry::{
        Entry, SessionEvent, Timestamp, What,
        session_event::{Event, ExportDropped},
    },
    error::{Error, Kind, Result},
    sink::ndjson::Ndjson,
};

pub(super) mod exec;
mod exporter;
mod file;
mod outlet;
pub(super) mod queue;
mod tcp;

/// How long all exporters have at the end for what is left.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a thread has for whatever it is at when its time is over. After that it is left behind.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What was dropped is written down no more often than this.
const LEDGER_EVERY: Duration = Duration::from_secs(5);

/// Where frames are exported to, as lines of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The end of a file. At a size it is moved aside, as `FILE.1`, and so on.
    File(PathBuf),
    /// Whoever listens there: host and port.
    Tcp(String),
    /// The standard input of a command.
    Exec(String),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(
                "a target",
                format!("{text:?}"),
                "targets look like ndjson:FILE, tcp://HOST:PORT or exec:COMMAND",
            )
        };
        let is_address = |address: &str| {
            let (host, port) = address.rsplit_once(':')?;
            let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
            (is_host && port.parse::<u16>().ok()? > 0).then_some(())
        };
        match text.split_once(':') {
            Some(("ndjson", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("exec", command)) if !command.trim().is_empty() => {
                Ok(Self::Exec(command.to_owned()))
            }
            Some(("tcp", address)) => {
                let address = address.strip_prefix("//").ok_or_else(wrong)?;
                is_address(address).map(|()| Self::Tcp(address.to_owned())).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    /// A command may hold a password, so it is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "ndjson:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Exec(_) => f.write_str("exec"),
        }
    }
}

/// Two exporters into one file would move it away under each other's hands, and lines at the end of what is
/// no text spoil that.
pub(super) fn check(exports: &[Export]) -> Result<()> {
    for (index, export) in exports.iter().enumerate() {
        if let Target::File(path) = &export.target {
            file::refuse_others(path)?;
        }
        if exports[..index].iter().any(|other| other.target == export.target) {
            let found = format!("{} twice", export.target);
            return Err(Error::usage("targets that differ", found, "leave one of them away"));
        }
    }
    Ok(())
}

/// An exporter that is asked for.
pub struct Export {
    /// Where to.
    pub target: Target,
    /// What makes lines of frames.
    pub sink: Ndjson,
    /// How many bytes of frames may wait. A larger frame is taken where nothing else waits.
    pub buffer: u64,
    /// The size in bytes at which a file is moved aside.
    pub rotate_at: u64,
}

/// How an exporter is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportStatus {
    /// Its target; of a command only which `--export` it is, counted from 1.
    pub name: String,
    /// Frames whose lines were taken.
    pub exported: u64,
    /// Frames that the capture has and that were not exported.
    pub dropped: u64,
    /// Frames that do not decode, of which there is no line.
    pub undecodable: u64,
    /// Frames that wait.
    pub queued: u64,
    /// Their bytes, as they were received.
    pub queued_bytes: u64,
}

/// All exporters of a recording.
pub(super) struct Exports {
    all: Vec<Running>,
    notify: Notify,
}

struct Running {
    queue: Arc<Queue>,
    /// Ends with the thread.
    thread: mpsc::Receiver<()>,
}

impl Exports {
    /// Starts all of them, and shows them on the board.
    pub(super) fn start(asked: Vec<Export>, board: &Board, notify: &Notify) -> Result<Self> {
        let exporters = asked.into_iter().enumerate();
        let all: Result<Vec<_>> =
            exporters.map(|(index, export)| Running::start(index, export, notify)).collect();
        let all = all?;
        board.show_exports(all.iter().map(|running| Arc::clone(&running.queue)).collect());
        Ok(Self { all, notify: Arc::clone(notify) })
    }

    /// Hands over frames that the kernel has. Never waits for an exporter.
    pub(super) fn hand_over(&self, entries: &[Entry]) {
        for Running { queue, .. } in &self.all {
            if let Dropping::Begins { reason } = queue.hand_over(entries) {
                let exporter = queue.name();
                (self.notify)(Notice::ExportDropping { exporter, reason: &reason });
            }
        }
    }

    /// What the ledger has to be told of what was dropped; where that was done a moment ago, later.
    pub(super) fn ledger(&self, now: Timestamp, connections: &Connections) -> Vec<Entry> {
        self.losses(now, connections, LEDGER_EVERY)
    }

    /// All that the ledger was not told yet.
    pub(super) fn rest_of_ledger(&self, now: Timestamp, connections: &Connections) -> Vec<Entry> {
        self.losses(now, connections, Duration::ZERO)
    }

    fn losses(&self, now: Timestamp, connections: &Connections, every: Duration) -> Vec<Entry> {
        let mut entries = Vec::new();
        for Running { queue, .. } in &self.all {
            for loss in queue.take_losses(every) {
                let connection = connections.of(&loss.subscription);
                let event = Some(Event::ExportDropped(ExportDropped {
                    exporter: queue.name().to_owned(),
                    frames: loss.frames,
                    bytes: loss.bytes,
                    reason: loss.reason,
                }));
                let what = What::Event(SessionEvent { connection, event });
                entries.push(Entry { subscription: loss.subscription, received: now, what });
            }
        }
        entries
    }

    /// Nothing more will come: exports what is left, as far as that is done within seconds, and drops
    /// the rest.
    pub(super) fn drain(&self) {
        let end = Instant::now() + DRAIN;
        self.all.iter().for_each(|running| running.queue.close(end));
        for Running { queue, .. } in &self.all {
            queue.wait_until_over(end + LAST_MOMENT);
            queue.end();
        }
    }

    /// Waits until the exporters have said goodbye, after they were drained; not for long.
    pub(super) fn join(&self) {
        let end = Instant::now() + exec::GOODBYE + LAST_MOMENT;
        for Running { thread, .. } in &self.all {
            // It never sends anything: this is the end of the thread, or of our patience.
            let _ = thread.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
    }
}

impl Running {
    fn start(index: usize, export: Export, notify: &Notify) -> Result<Self> {
        let name = match &export.target {
            Target::Exec(_) => format!("{} #{}", export.target, index + 1),
            target => target.to_string(),
        };
        let queue = Arc::new(Queue::new(name, export.buffer));
        let exporter = Exporter::new(export, Arc::clone(&queue), Arc::clone(notify));
        let (lives, thread) = mpsc::channel();
        let work = move || {
            let _lives = lives;
            exporter.run();
        };
        let started = thread::Builder::new().stack_size(STACK_SIZE).spawn(work);
        started.map_err(|error| Kind::Internal { reason: format!("no more threads: {error}") })?;
        Ok(Self { queue, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_file_an_address_or_a_command() {
        for (text, expected) in [
            ("ndjson:a:b.ndjson", Target::File("a:b.ndjson".into())),
            ("tcp://[2001:db8::1]:9000", Target::Tcp("[2001:db8::1]:9000".to_owned())),
            ("tcp://collector:9000", Target::Tcp("collector:9000".to_owned())),
            ("exec:jq . >x", Target::Exec("jq . >x".to_owned())),
        ] {
            assert_eq!(text.parse::<Target>().unwrap(), expected);
        }
        for text in [
            "",
            "x.ndjson",
            "ndjson:",
            "exec: ",
            "tcp:collector:9000",
            "tcp://collector",
            "tcp://:9000",
            "tcp://collector:0",
            "tcp://collector:90000",
            "tcp://me@collector:9000",
            "tcp://collector:9000/x",
            "udp://collector:9000",
        ] {
            assert!(text.parse::<Target>().unwrap_err().is_usage(), "{text}");
        }
    }

    #[test]
    fn a_command_is_not_shown() {
        let target = Target::Exec("curl --user me:secret".to_owned());
        assert_eq!(target.to_string(), "exec");
    }
}
