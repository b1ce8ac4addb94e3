//! `centralcap demo`: the whole tour in one go.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytesize::ByteSize;
use centralcap::{
    accounts::Account,
    capture::Capture,
    codec::plan::Style,
    decode, inspect,
    net::{
        client::Endpoint,
        trust::{self, Trust},
        ws::MESSAGE_LIMIT,
    },
    pace::Speed,
    protocol::{Key, PROTOCOLS},
    record::{Keeping, KeySource, Options, Recording, Report, SystemClock},
    replay::{self, Server},
    schema::Resolver,
    select::Selection,
    sink::{ndjson::Ndjson, stream::Stream},
};

use super::{Outcome, Words, signal};

/// See it work: serve a small feed on this machine, record it live, look at it, decode it.
///
/// Needs no account and no network. Leaves nothing behind unless --keep names a folder.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the files in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The bundled feed; `fixtures/README.md` says how it is made.
const CAMPUS: &[u8] = include_bytes!("../../fixtures/campus.mcap");

/// What it is served from,
const SERVED: &str = "campus.mcap";
/// what is made of it, meanwhile and in the end,
const HOT: &str = "recorded.open.mcap";
const RECORDED: &str = "recorded.mcap";
/// and whom its client trusts.
const CA: &str = "ca.pem";

/// The feed takes about so long.
const SPEED: &str = "60";

/// If it takes so long, something is wrong with this machine.
const AT_MOST: Duration = Duration::from_secs(60);

/// How much of a decoded line is shown.
const WIDTH: usize = 200;

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let temporary = tempfile::tempdir().context("cannot create a temporary folder")?;
    signal::leave_no_folder(temporary.path()).context("cannot wait for signals")?;
    let folder = args.keep.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in [SERVED, CA, HOT, RECORDED] {
        let path = folder.join(name);
        anyhow::ensure!(
            !path.exists(),
            "expected a new file, found {} already there; nothing was overwritten",
            path.display()
        );
    }
    let campus = folder.join(SERVED);
    fs::write(&campus, CAMPUS).with_context(|| format!("cannot write {}", campus.display()))?;

    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    let (served, report) = runtime.block_on(serve_and_record(&campus, folder, words))?;

    let frames = frames_of(&report);
    let recorded = report.paths().next().context("nothing was recorded")?;
    let capture = Capture::open(&[&recorded])?;
    words.say("");
    words.say("3. What is in it: centralcap inspect");
    words.say("");
    let profile = inspect::inspect(&capture, Selection::default())?;
    let mut stdout = io::stdout().lock();
    super::inspect::print(&profile, words, &mut stdout)?;

    words.say("");
    words.say("4. The first lines, decoded: centralcap decode --limit 4");
    words.say("");
    show_lines(&capture, &mut stdout)?;
    drop(stdout);

    words.say("");
    words.say(format_args!("{served} frames served, {frames} frames recorded"));
    match &args.keep {
        Some(folder) => words.say(format_args!(
            "the files: {} (served), {} (recorded), {} (the authority of the certificate)",
            campus.display(),
            recorded.display(),
            folder.join(CA).display()
        )),
        None => words.say("nothing is left behind; --keep DIR keeps the files"),
    }
    anyhow::ensure!(frames == served, "expected {served} frames in the capture, found {frames}");
    Ok(Outcome::Done)
}

/// Serves the feed to ourselves, over real TLS, and records it while it runs.
async fn serve_and_record(
    campus: &Path,
    folder: &Path,
    words: Words,
) -> anyhow::Result<(u64, Report)> {
    let capture = Capture::open(&[campus])?;
    let mut accounts = Vec::new();
    for (subscription, _) in capture.channels()? {
        if !accounts.iter().any(|account: &Account| account.name == subscription.name) {
            accounts.push(Account {
                name: subscription.name.clone(),
                username: None,
                key: Key::new("synthetic-demo-key").context("a key")?,
                topic: subscription.topic.clone(),
            });
        }
    }
    let options = replay::Options {
        speed: SPEED.parse::<Speed>()?,
        once: true,
        wait_clients: accounts.len(),
        accounts: Some(accounts.clone()),
        ..replay::Options::new(capture)
    };
    let server = Server::start(options).await?;
    let ca = folder.join(CA);
    fs::write(&ca, server.ca_pem().unwrap_or_default())
        .with_context(|| format!("cannot write {}", ca.display()))?;
    words.say(format_args!("1. Serving a synthetic campus at {}", server.url()));

    let options = Options {
        protocol: PROTOCOLS[0],
        endpoint: Endpoint::parse(&server.hostname())?,
        tls: trust::client_config(Trust::File(&ca))?,
        accounts,
        unknown_topics: false,
        keys: KeySource::Memory,
        output: folder.join(RECORDED),
        message_limit: MESSAGE_LIMIT,
        stop_after_messages: None,
        stop_after_size: None,
        stop_after_duration: Some(AT_MOST),
        once: true,
        keeping: Keeping::default(),
        exports: Vec::new(),
        clock: Arc::new(SystemClock::new()),
    };
    let recording = Recording::prepare(options, Arc::new(|_| {}))?;
    words.say(format_args!("2. Recording it live to {}", recording.path().display()));
    let started = Instant::now();
    let (served, recorded) = tokio::join!(
        server.run(std::future::pending()),
        recording.run(std::future::pending(), None)
    );
    let report = recorded?;
    words.say(format_args!(
        "   {} frames in {:.1} s, {} on disk",
        frames_of(&report),
        started.elapsed().as_secs_f64(),
        ByteSize::b(report.size()).display().iec()
    ));
    Ok((served.frames, report))
}

fn frames_of(report: &Report) -> u64 {
    report.subscriptions.iter().map(|status| status.frames).sum()
}

fn show_lines(capture: &Capture, out: &mut impl Write) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let selection = Selection { limit: Some(4), ..Selection::default() };
    let mut sink = [Ndjson::new(Resolver::default(), Style::default())];
    let entries = selection.of(capture.entries());
    decode::decode(entries, &mut sink, &mut Stream::new(&mut lines), false, |_| {})?;
    for line in String::from_utf8_lossy(&lines).lines() {
        let shown: String = line.chars().take(WIDTH).collect();
        let more = if shown.len() < line.len() { " ..." } else { "" };
        writeln!(out, "{shown}{more}")?;
    }
    Ok(())
}
