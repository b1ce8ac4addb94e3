//! `centralcap record`.

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use bytesize::ByteSize;
use centralcap::{
    accounts::{self, Account},
    capture::{Compression, MESSAGE_LIMIT_MAX, Sealed},
    error::{self, Error, counted},
    net::{
        client::Endpoint,
        pages::{self, Pages},
        trust::{self, Trust},
    },
    protocol::{Key, PROTOCOLS},
    record::{
        Export, Keep, Keeping, KeySource, Notify, OnFull, Options, Recording, Report, Split,
        SyncWhen, SystemClock, Target, metrics,
    },
};
use clap::{ArgGroup, ValueEnum};
use tokio::task::JoinHandle;

mod notices;
mod printer;

use self::{notices::said, printer::Printer};
use super::{
    Outcome, Words,
    decode::StyleArgs,
    log::{Level, Line},
    select, signal,
    status::Screen,
    stderr,
    systemd::Systemd,
};

/// How long what cannot be broken off has at the end.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Record a live feed into a capture.
///
/// Subscriptions come from the vendor's input file, or one from --topic with the key in the
/// environment variable CENTRALCAP_KEY or in --key-file. Ctrl-C ends the recording and finishes the
/// capture.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("subscriptions").args(["input", "topic"]).required(true))]
pub(super) struct Args {
    /// Where the feed is: HOST, HOST:PORT, or a whole wss:// URL.
    #[arg(long, value_name = "HOST", value_parser = Endpoint::parse)]
    hostname: Endpoint,

    /// The subscriptions, in the vendor's format. Renewed keys are written back to it, and what is
    /// changed in it takes effect while recording.
    #[arg(long, alias = "jsoninput", value_name = "FILE")]
    input: Option<PathBuf>,

    /// One topic (apprf, audit, location, monitoring, presence, security), for one subscription without an
    /// input file.
    #[arg(long, value_parser = topic)]
    topic: Option<String>,

    /// The name of that subscription [default: the topic].
    #[arg(long, requires = "topic", conflicts_with = "input", value_parser = name)]
    name: Option<String>,

    /// The account's e-mail address, for that subscription.
    #[arg(long, requires = "topic", conflicts_with = "input")]
    username: Option<String>,

    /// A file with the key, for that subscription. A renewed key is written back to it, and another one that
    /// is put there takes effect while recording.
    #[arg(long, value_name = "FILE", requires = "topic", conflicts_with = "input")]
    key_file: Option<PathBuf>,

    /// Take topics that this version does not know.
    #[arg(long)]
    unknown_topics: bool,

    /// The capture: a folder that gets a segment for each run, or one new .mcap file.
    #[arg(short, long, value_name = "DIR|FILE.mcap")]
    output: PathBuf,

    /// Begin a new segment when the one being recorded has this size, before it is compressed.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Segments")]
    split_size: Option<u64>,

    /// Begin a new segment at each multiple of this time on the wall clock, in UTC: 1h is on the hour. One
    /// without frames goes on. SIGHUP begins one at any time.
    #[arg(long, value_name = "D", value_parser = every, help_heading = "Segments")]
    split_every: Option<Duration>,

    /// Keep so many segments of this folder, and delete the oldest. Those without frames do not count.
    #[arg(long, value_name = "N", value_parser = select::count::<NonZeroU64>, help_heading = "Segments")]
    keep_files: Option<NonZeroU64>,

    /// Keep segments of this size altogether, the one being recorded among them, and delete the oldest.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Segments")]
    keep_size: Option<u64>,

    /// Delete segments that ended so long ago.
    #[arg(long, value_name = "D", value_parser = age, help_heading = "Segments")]
    keep_age: Option<Duration>,

    /// Delete the oldest segments while less than this is free on the disk, if deleting them is enough.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Segments")]
    min_free: Option<u64>,

    /// When nothing can be written: count what is lost and go on when there is room again, stop, or
    /// delete the oldest segments to make room. A single .mcap file is not continued: it stops.
    #[arg(long, value_name = "WHAT", default_value = "wait", help_heading = "Segments")]
    on_full: Full,

    /// What a power cut may cost: nothing (each), what came in so much time (1s), or more (never).
    #[arg(long, value_name = "WHEN", default_value = "1s", value_parser = sync, help_heading = "Segments")]
    sync: SyncWhen,

    /// How much work compressing a sealed segment may be: a level of zstd, from 1, the quickest, to 19.
    #[arg(long, value_name = "N", default_value = "3", value_parser = level, help_heading = "Segments")]
    level: Compression,

    /// Run this command with the path of each sealed segment as its last argument, one at a time. What it
    /// prints goes to stderr. One that fails is told and not run again, and one that takes longer than ten
    /// minutes is ended.
    #[arg(long, value_name = "CMD", value_parser = command, help_heading = "Segments")]
    on_sealed: Option<String>,

    /// Stop after so many frames.
    #[arg(long, value_name = "N", value_parser = select::count::<NonZeroU64>)]
    stop_after_messages: Option<NonZeroU64>,

    /// Stop when the frames come to so many bytes, as they were received: the one that reaches it is the last.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    stop_after_size: Option<u64>,

    /// Stop after so much time.
    #[arg(long, value_name = "D", value_parser = until_stop)]
    stop_after_duration: Option<Duration>,

    /// Take one connection of each subscription and stop when the server has closed them all.
    #[arg(long)]
    once: bool,

    /// The size of the largest message that is taken, at most 64 MiB.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = message_limit)]
    message_limit: usize,

    /// Trust the certificates in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Check no certificate, and allow ws:// to other machines.
    #[arg(long, alias = "no_valid_cert", conflicts_with = "ca")]
    insecure: bool,

    /// Also decode: one line of JSON for each frame on stdout, while recording.
    #[arg(long, alias = "decode_data")]
    decode: bool,

    /// Answer http://ADDR/metrics for Prometheus and http://ADDR/healthz. A port alone is one of
    /// 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "ADDR", value_parser = pages::address, help_heading = "Monitoring")]
    metrics: Option<SocketAddr>,

    /// How long a subscription may be down before /healthz says 503 and names it.
    #[arg(long, value_name = "D", default_value = "5m", requires = "metrics", value_parser = select::duration, help_heading = "Monitoring")]
    healthy_within: Duration,

    /// Also export: each frame as a line of JSON, as decode prints it, to the end of a file
    /// (ndjson:FILE), to whoever listens (tcp://HOST:PORT), or to the standard input of a command
    /// (exec:COMMAND), whose output goes to stderr. May be given several times. The recording waits
    /// for none of them: what one cannot take in time is dropped for it and counted, which does not
    /// change the exit code.
    #[arg(long, alias = "export_data", value_name = "TARGET", help_heading = "Exporting")]
    export: Vec<Target>,

    /// How much may wait for each export: the size of frames as they were received.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB", requires = "export", help_heading = "Exporting")]
    export_buffer: u64,

    /// At this size an exported FILE is moved to FILE.1, that to FILE.2, and so on to FILE.4.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB", requires = "export", help_heading = "Exporting")]
    export_rotate: u64,

    #[command(flatten)]
    style: StyleArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Full {
    Wait,
    Stop,
    DropOldest,
}

fn size(text: &str) -> Result<u64, Error> {
    let found = text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|&size| size > 0);
    found.ok_or_else(|| {
        Error::usage("a size", format!("{text:?}"), "sizes look like 256MiB, 10GB or 500kB")
    })
}

/// Like those in an input file.
fn name(text: &str) -> Result<String, Error> {
    called("a name", text)
}

/// Without another one it is the subscription's name.
fn topic(text: &str) -> Result<String, Error> {
    called("a topic", text)
}

fn called(expected: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() || text.chars().any(char::is_control) {
        let hint = "all that is told of the subscription goes by its name";
        return Err(Error::usage(expected, format!("{text:?}"), hint));
    }
    Ok(text.to_owned())
}

fn every(text: &str) -> Result<Duration, Error> {
    some_time(text, "leave it away for one segment, or take a minute (1m) or an hour (1h)")
}

fn age(text: &str) -> Result<Duration, Error> {
    some_time(text, "leave it away to keep segments however old they are, or take a week (7d)")
}

fn until_stop(text: &str) -> Result<Duration, Error> {
    some_time(text, "leave it away to record until Ctrl-C, or take an hour (1h)")
}

fn some_time(text: &str, hint: &'static str) -> Result<Duration, Error> {
    let time = select::duration(text)?;
    if time.is_zero() {
        return Err(Error::usage("a length of time", format!("{text:?}"), hint));
    }
    Ok(time)
}

/// Without one, the shell would run the segment itself; so it would behind the end of a line.
fn command(text: &str) -> Result<String, Error> {
    let command = text.trim();
    if command.is_empty() {
        let hint = "leave it away to run none";
        return Err(Error::usage("a command", format!("{text:?}"), hint));
    }
    Ok(command.to_owned())
}

fn sync(text: &str) -> Result<SyncWhen, Error> {
    match text {
        "each" => Ok(SyncWhen::Each),
        "never" => Ok(SyncWhen::Never),
        time => select::duration(time).map(SyncWhen::Every).map_err(|_| {
            let hint = "durations look like 1s or 250ms";
            Error::usage("each, never or a duration", format!("{text:?}"), hint)
        }),
    }
}

pub(super) fn level(text: &str) -> Result<Compression, Error> {
    text.parse().ok().and_then(Compression::new).ok_or_else(|| {
        let expected = format!("a level of zstd from 1 to {}", Compression::HIGHEST);
        Error::usage(expected, format!("{text:?}"), "leave --level away for 3")
    })
}

fn message_limit(text: &str) -> Result<usize, Error> {
    let found = text.parse::<ByteSize>().ok().map(|size| size.as_u64() as usize);
    found.filter(|size| (1..=MESSAGE_LIMIT_MAX).contains(size)).ok_or_else(|| {
        let expected = format!("a size of 1 B to {}", ByteSize::b(MESSAGE_LIMIT_MAX as u64));
        Error::usage(expected, format!("{text:?}"), "sizes look like 16MiB or 500kB")
    })
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    stderr::never_wait(words).context("cannot start")?;
    #[cfg(unix)]
    open_many();
    let decoding = args.decode.then(|| args.style.sink()).transpose()?;
    let options = args.options(words)?;
    // Whoever is to be seen from outside does not start where nobody can look.
    let pages = args.metrics.map(Pages::bind).transpose()?;
    let count = options.accounts.len();
    // What is said before the screen is there goes to stderr as it comes.
    let screen = Arc::new(OnceLock::<Arc<Screen>>::new());
    let systemd = Systemd::from_environment();
    let notify: Notify = {
        let (screen, systemd) = (Arc::clone(&screen), Arc::clone(&systemd));
        Arc::new(move |notice| {
            systemd.heard(&notice);
            let Some(line) = said(&notice, words) else { return };
            match screen.get() {
                Some(screen) => screen.put(&line),
                None => super::to_stderr(line),
            }
        })
    };
    let recording = Recording::prepare(options, notify)?;
    let subscriptions =
        if count == 1 { "1 subscription" } else { &format!("{count} subscriptions") };
    let path = recording.path().display();
    words.tell(format_args!("recording {subscriptions} to {path}"), || {
        let line = Line::new(Level::Info, "recording").with("path", path.to_string());
        line.with("subscriptions", count)
    });
    if let Some(pages) = &pages {
        let url = format!("http://{}/metrics", pages.address());
        words.tell(format_args!("metrics at {url}"), || {
            Line::new(Level::Info, "metrics").with("url", url.clone())
        });
    }

    let screen = Arc::clone(screen.get_or_init(|| Screen::new(recording.board(), words)));
    let (kept, printer) = match decoding {
        Some(sink) => {
            let (kept, printer) = Printer::start(sink, Arc::clone(&screen));
            (Some(kept), Some(printer))
        }
        None => (None, None),
    };
    // One thread receives: handing a connection from one to another would cost more than what is done for
    // it, and a thread takes some hundred thousand frames a second.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("cannot start")?;
    let report = runtime.block_on(async {
        let stop = signal::stop().context("cannot wait for signals")?;
        let splitting =
            signal::hang_up(recording.split_bell()).context("cannot wait for signals")?;
        let splitting = tokio::spawn(splitting);
        let drawing = tokio::spawn(Arc::clone(&screen).draw_until_dropped());
        let answering = pages.map(|pages| {
            tokio::spawn(metrics::serve(pages, recording.board(), args.healthy_within))
        });
        let telling = tokio::spawn(systemd.keep_telling(recording.board()));
        let report = recording.run(stop, kept).await;
        telling.abort();
        splitting.abort();
        drawing.abort();
        answering.inspect(JoinHandle::abort);
        screen.clear();
        report.map_err(anyhow::Error::from)
    });
    // Looking up a name cannot be broken off, and may take minutes.
    runtime.shutdown_timeout(LAST_MOMENT);
    let concluded = report.and_then(|report| conclude(report, words));
    // Whatever has ended it: what was kept is printed.
    let printed = printer.map_or(Ok(Outcome::Done), |printer| printer.finish(words));
    Ok(concluded?.max(printed?))
}

/// Each connection is a file, and many systems let a process open 1024 unless it asks for more.
#[cfg(unix)]
fn open_many() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Some commands that it starts go through all that they might have open.
    const MOST: u64 = 65_536;

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Some(has) = current.filter(|&has| has < MOST) {
        let wanted = maximum.map_or(MOST, |most| most.min(MOST)).max(has);
        // Where that is refused, the connection that is too many says so.
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).ok();
    }
}

impl Args {
    fn options(&self, words: Words) -> anyhow::Result<Options> {
        let protocol = PROTOCOLS[0];
        if self.output == Path::new("-") {
            let hint = "name the folder of the capture with -o DIR, or print frames with --decode";
            return Err(Error::usage("a folder", "-", hint).into());
        }
        let (accounts, keys) = self.accounts()?;
        if !self.unknown_topics {
            accounts.iter().try_for_each(|account| account.check_topic(protocol))?;
        }
        if !self.hostname.secure && !self.hostname.is_loopback() && !self.insecure {
            let found = format!("ws:// to {}", self.hostname.host);
            let hint = "keys would cross the network in the clear: use wss://, or --insecure";
            return Err(Error::usage("wss://", found, hint).into());
        }
        let trust = match &self.ca {
            Some(path) => Trust::File(path),
            None if self.insecure => Trust::Anybody,
            None => Trust::System,
        };
        if self.insecure {
            words.warn("--insecure: whoever is in between can read the key and invent the feed");
        }
        let tls = if self.hostname.secure {
            trust::client_config(trust)?
        } else {
            trust::client_config(Trust::Anybody)?
        };
        Ok(Options {
            protocol,
            endpoint: self.hostname.clone(),
            tls,
            accounts,
            unknown_topics: self.unknown_topics,
            keys,
            output: self.output.clone(),
            message_limit: self.message_limit,
            stop_after_messages: self.stop_after_messages.map(NonZeroU64::get),
            stop_after_size: self.stop_after_size,
            stop_after_duration: self.stop_after_duration,
            once: self.once,
            keeping: self.keeping(),
            exports: self.exports()?,
            clock: Arc::new(SystemClock::new()),
        })
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            split: Split { size: self.split_size, every: self.split_every },
            keep: Keep {
                files: self.keep_files.and_then(|files| usize::try_from(files.get()).ok()),
                size: self.keep_size,
                age: self.keep_age,
                min_free: self.min_free,
            },
            sync: self.sync,
            on_full: match self.on_full {
                Full::Wait => OnFull::Wait,
                Full::Stop => OnFull::Stop,
                Full::DropOldest => OnFull::DropOldest,
            },
            compression: self.level,
            on_sealed: self.on_sealed.clone(),
        }
    }

    fn exports(&self) -> error::Result<Vec<Export>> {
        let export = |target: &Target| {
            Ok(Export {
                target: target.clone(),
                sink: self.style.sink()?,
                buffer: self.export_buffer,
                rotate_at: self.export_rotate,
            })
        };
        self.export.iter().map(export).collect()
    }

    fn accounts(&self) -> error::Result<(Vec<Account>, KeySource)> {
        if let Some(path) = &self.input {
            return Ok((accounts::read(path)?, kept(path, KeySource::InputFile)));
        }
        let topic = self.topic.clone().unwrap_or_default();
        let (key, source) = match &self.key_file {
            Some(path) => (accounts::read_key(path)?, kept(path, KeySource::KeyFile)),
            None => {
                let Ok(key) = std::env::var("CENTRALCAP_KEY") else {
                    return Err(Error::no_key(&topic));
                };
                let key = Key::new(&key).ok_or_else(|| {
                    let expected = "a key of visible ASCII in CENTRALCAP_KEY";
                    Error::usage(expected, "something else", "copy it anew, in one line")
                })?;
                (key, KeySource::Memory)
            }
        };
        let name = self.name.clone().unwrap_or_else(|| topic.clone());
        let account = Account { name, username: self.username.clone(), key, topic };
        Ok((vec![account], source))
    }
}

/// What came from a pipe is there no longer, neither to be read again nor to be written to.
fn kept(path: &Path, source: fn(PathBuf) -> KeySource) -> KeySource {
    if path.is_file() { source(path.to_owned()) } else { KeySource::Memory }
}

fn conclude(report: Report, words: Words) -> anyhow::Result<Outcome> {
    let (lossy, futile) = (report.is_lossy(), report.is_futile());
    for status in &report.subscriptions {
        let mut line = format!(
            "{}: {}, {}",
            status.name,
            counted(status.frames, "frame"),
            ByteSize::b(status.bytes).display().iec()
        );
        if status.connections == 0 {
            line.push_str(", never connected");
        }
        for (count, what, rest) in
            [(status.gaps, "gap", ""), (status.dropped, "frame", " not kept")]
        {
            if count > 0 {
                line.push_str(&format!(", {}{rest}", counted(count, what)));
            }
        }
        words.tell(line, || {
            Line::new(Level::Info, "recorded")
                .about(&status.name)
                .with("frames", status.frames)
                .with("bytes", status.bytes)
                .with("connections", status.connections)
                .with("gaps", status.gaps)
                .with("dropped", status.dropped)
        });
    }
    for status in &report.exports {
        let mut line = format!("{}: {} exported", status.name, counted(status.exported, "frame"));
        for (count, what) in
            [(status.dropped, "dropped"), (status.undecodable, "that do not decode")]
        {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        words.tell(line, || {
            Line::new(Level::Info, "exported")
                .with("exporter", &*status.name)
                .with("frames", status.exported)
                .with("dropped", status.dropped)
                .with("undecodable", status.undecodable)
        });
    }
    tell_what_is_kept(&report, words);
    for damage in report.sealed.iter().filter_map(|sealed| sealed.damage.as_ref()) {
        words.warn(damage);
    }
    for kept in report.sealed.iter().filter_map(|sealed| sealed.kept.as_ref()) {
        words.warn(format_args!("all that was written stays in {}", kept.display()));
    }
    if let Some(error) = report.failed {
        return Err(error.into());
    }
    if futile {
        anyhow::bail!("no subscription was ever connected, nothing was recorded");
    }
    Ok(if lossy { Outcome::Lossy } else { Outcome::Done })
}

/// What was recorded, as far as the ring has left it.
fn tell_what_is_kept(report: &Report, words: Words) {
    let frames: u64 = report.subscriptions.iter().map(|status| status.frames).sum();
    let all = report.paths().count();
    let is_there = |sealed: &&Sealed| sealed.path.as_ref().is_some_and(|path| path.exists());
    let left: Vec<_> = report.recorded().filter(is_there).collect();
    let bytes = left.iter().map(|sealed| sealed.sealed_size).sum();
    let size = ByteSize::b(bytes).display().iec();
    let paths: Vec<_> = left.iter().filter_map(|sealed| sealed.path.as_deref()).collect();
    let place = match &paths[..] {
        [] if all == 0 => return,
        [] => "none".to_owned(),
        [path] => path.display().to_string(),
        [first, .., last] => format!("{} to {}", first.display(), last.display()),
    };
    let frames_kept = counted(frames, "frame");
    let said = match paths.len() {
        left if left < all => {
            format!(
                "{frames_kept} recorded in {all} segments, of which {left} are left: {place} ({size})"
            )
        }
        1 => format!("{frames_kept} kept in {place} ({size})"),
        _ => format!("{frames_kept} kept in {all} segments, {place} ({size})"),
    };
    words.tell(said, || {
        let line = Line::new(Level::Info, "finished").with("frames", frames);
        line.with("segments", all).with("left", paths.len()).with("bytes", bytes)
    });
}
