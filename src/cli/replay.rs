//! `centralcap replay`.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytesize::ByteSize;
use centralcap::{
    capture::Capture,
    codec::STACK_SIZE,
    error::{Error, counted},
    net::pages,
    pace::{Limit, Rate, Rounds, Speed},
    replay::{
        self, Check, Demands, Expected, Fate, KeyChange, Lateness, News, Options, Remote, Report,
        Security, Server,
    },
};
use tokio::sync::oneshot;

use super::{Outcome, Words, accounts, faults, select, signal};

/// Serve a capture as a live feed on a local endpoint.
///
/// Every client gets it from the start. The first line on stdout, {"event":"ready",...}, says where
/// to connect and which authority to trust.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: select::Args,

    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0", value_parser = listen)]
    listen: SocketAddr,

    /// How fast: 1, 0.5, 100, or max for as fast as a client reads.
    #[arg(long, value_name = "N", default_value = "1", value_parser = str::parse::<Speed>)]
    speed: Speed,

    /// Cut longer gaps between frames down to D, before the speed is applied.
    #[arg(long, value_name = "D", value_parser = select::duration)]
    max_gap: Option<Duration>,

    /// Play it N times, or forever.
    #[arg(
        long = "loop",
        value_name = "N",
        default_value = "1",
        value_parser = str::parse::<Rounds>
    )]
    rounds: Rounds,

    /// Let D pass between two rounds, whatever the speed.
    #[arg(long, value_name = "D", default_value = "0s", value_parser = select::duration)]
    loop_delay: Duration,

    /// No more than N frames a second to each client. With --speed max, exactly that.
    #[arg(long, value_name = "N", value_parser = str::parse::<Rate>)]
    pps: Option<Rate>,

    /// With --pps: up to N frames may follow each other at once after a time with fewer.
    #[arg(long, value_name = "N", default_value = "1", requires = "pps")]
    burst: NonZeroU64,

    /// Move the times in frames, the envelope's and the payload's, so that the feed looks live. Everything
    /// else stays bit for bit.
    #[arg(long)]
    restamp: bool,

    /// Close each client after the last frame, and end when all that came are done.
    #[arg(long)]
    once: bool,

    /// Start no clock before N clients are connected.
    #[arg(long, value_name = "N", default_value_t = 0)]
    wait_clients: usize,

    /// Start no clock before every topic that there is has a client.
    #[arg(long)]
    wait_topics: bool,

    /// Whether each client has a clock of its own, which starts when it comes, or all have the same, so
    /// that who comes late joins in the middle.
    #[arg(long, value_name = "WHOSE", default_value = "client")]
    timeline: Timeline,

    /// What who comes late to a shared timeline gets first: what is due then, or the newest frame of each
    /// device, client, ... that it has missed.
    #[arg(long, value_name = "WHAT", default_value = "live")]
    late_join: LateJoin,

    /// Give up after D: whoever is still connected is told, and the exit code is 1.
    #[arg(long, value_name = "D", value_parser = select::duration)]
    timeout: Option<Duration>,

    /// Exit with 1 unless so many frames of a topic were sent, to all clients together: 'audit>=100' (may be
    /// given more than once).
    #[arg(long, value_name = "FRAMES", value_parser = str::parse::<Expected>)]
    expect: Vec<Expected>,

    /// Exit with 3 if a frame left more than D after it was due.
    #[arg(long, value_name = "D", value_parser = select::duration)]
    max_lateness: Option<Duration>,

    /// Write what each client got, and when, to this file at the end, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// The same as JUnit's XML, for CI servers.
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,

    #[command(flatten)]
    accounts: accounts::Args,

    #[command(flatten)]
    faults: faults::Args,

    /// The certificate chain to show instead of one made up for this run (PEM).
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The private key that goes with --cert (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Write the authority of the made-up certificate there, and keep it [default: a temporary
    /// file].
    #[arg(long, value_name = "FILE", conflicts_with = "cert")]
    ca_out: Option<PathBuf>,

    /// Serve ws:// without TLS.
    #[arg(long, conflicts_with_all = ["cert", "ca_out"])]
    plain: bool,

    /// Let a test control it over HTTP at http://ADDR, which is in the ready line (docs/control.md). A port
    /// alone is one of this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", value_parser = pages::address)]
    control: Option<SocketAddr>,

    /// Write the ready line to this file as well, all of it at once.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Timeline {
    Client,
    Shared,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LateJoin {
    Live,
    State,
}

fn listen(text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| {
        let hint = "addresses look like 127.0.0.1:8443, [::1]:0 or 0.0.0.0:8443";
        Error::usage("an IP address with a port", format!("{text:?}"), hint)
    })
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    if args.faults.list_scenarios {
        faults::list_scenarios()?;
        return Ok(Outcome::Done);
    }
    // A line of an earlier run must not send anybody to a server that is gone.
    if let Some(path) = &args.ready_file {
        remove(path)?;
    }
    let reports = Reports { json: args.report.clone(), junit: args.report_junit.clone() };
    reports.prepare()?;
    let mut options = args.options()?;
    if args.faults.reproduce_session && options.reproduce_session()? == 0 {
        words.warn("the recording was neither refused nor cut off: there is nothing to reproduce");
    }
    if !options.listen.ip().is_loopback() {
        let whose = if options.accounts.is_some() { "a valid key" } else { "any key" };
        words.warn(format_args!(
            "{} is open to other machines: whoever reaches it gets the capture with {whose}",
            options.listen
        ));
    }
    if let Some(address) = args.control.filter(|address| !address.ip().is_loopback()) {
        words.warn(format_args!(
            "{address} is open to other machines: whoever reaches it controls the replay"
        ));
    }
    // Conditions of faults decode frames on the threads that send them.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(STACK_SIZE).build();
    let runtime = runtime.context("cannot start")?;
    let report = runtime.block_on(serve(options, args, words))?;
    reports.write(&report)?;
    Ok(conclude(report, words))
}

impl Args {
    fn options(&self) -> Result<Options, Error> {
        let security = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Security::Files { cert: cert.clone(), key: key.clone() },
            _ if self.plain => Security::Plain,
            _ => Security::Ephemeral,
        };
        Ok(Options {
            selection: self.select.selection(),
            listen: self.listen,
            security,
            speed: self.speed,
            max_gap: self.max_gap,
            rounds: self.rounds,
            loop_delay: self.loop_delay,
            limit: self.pps.map(|rate| Limit::new(rate, self.burst)),
            restamp: self.restamp,
            once: self.once,
            wait_clients: self.wait_clients,
            wait_topics: self.wait_topics,
            timeline: match self.timeline {
                Timeline::Client => replay::Timeline::Client,
                Timeline::Shared => replay::Timeline::Shared,
            },
            late_join: match self.late_join {
                LateJoin::Live => replay::LateJoin::Live,
                LateJoin::State => replay::LateJoin::State,
            },
            timeout: self.timeout,
            demands: Demands { max_lateness: self.max_lateness, expected: self.expect.clone() },
            accounts: self.accounts.accounts()?,
            expiry: self.accounts.expiry(),
            faults: self.faults.faults(self.control.is_some())?,
            control: self.control.is_some(),
            ..Options::new(Capture::open(&self.select.paths)?)
        })
    }
}

async fn serve(options: Options, args: Args, words: Words) -> anyhow::Result<Report> {
    let Args { ca_out, ready_file, faults, control, .. } = args;
    let log = faults.log(options.faults.as_ref())?.map(Arc::new);
    // Before the ready line: whoever has read it may stop us.
    let stopped = signal::stop().context("cannot wait for signals")?;
    let server = Server::start(options).await?;
    let remote = control.map(Remote::bind).transpose()?;
    let authority = server.ca_pem().map(|pem| Authority::write(pem, ca_out.as_deref()));
    let authority = authority.transpose()?;

    let mut ready = serde_json::json!({
        "event": "ready", "url": server.url(), "hostname": server.hostname(),
    });
    if let Some(authority) = &authority {
        ready["ca"] = authority.path().display().to_string().into();
    }
    if let Some(remote) = &remote {
        ready["control"] = remote.url().into();
    }
    ready["topics"] = server.topics().into();
    let ready = format!("{ready}\n");
    if let Some(path) = &ready_file {
        write_at_once(path, &ready)?;
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(ready.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::output)?;
    drop(stdout);

    let (is_over, over) = oneshot::channel::<()>();
    let remote = remote.zip(server.control()).map(|(remote, control)| {
        let over = async {
            let _ = over.await;
        };
        tokio::spawn(remote.serve(control, over))
    });
    let written = log.clone();
    let report = server.run_telling(stopped, move |news| {
        if let (News::Spoilt { applied, .. }, Some(log)) = (&news, &written) {
            log.write(applied);
        }
        tell(&news, words);
    });
    let report = report.await;
    // Those who wait for the end hear of it.
    drop(is_over);
    if let Some(remote) = remote {
        remote.await.context("the control has failed")??;
    }
    log.map_or(Ok(()), |log| log.finish())?;
    Ok(report)
}

fn tell(news: &News<'_>, words: Words) {
    match news {
        News::Connected { peer, topic } => words.detail(format_args!("{peer} gets {topic}")),
        News::Answered { peer, status } => {
            words.detail(format_args!("{peer} was answered {status}"));
        }
        News::Spoilt { peer, applied } => words.detail(format_args!("{peer} meets {applied}")),
        News::Key(KeyChange { fate, accounts, .. }) => {
            let fate = match fate {
                Fate::Expired => "has expired",
                Fate::Renewed => "was renewed",
            };
            words.say(format_args!("the key of {} {fate}", accounts.join(", ")));
        }
        News::Left(client) => words.detail(format_args!(
            "{} got {} of {}, {}{}: {}",
            client.peer,
            counted(client.frames, "frame"),
            client.topic,
            ByteSize::b(client.bytes),
            late(client.lateness),
            client.ending
        )),
    }
}

fn conclude(report: Report, words: Words) -> Outcome {
    let outcome = report.outcome();
    let checks = report.checks();
    let Report { served, lossy, frames, bytes, lateness, faults, .. } = report;
    let (bytes, late) = (ByteSize::b(bytes), late(lateness));
    let (clients, frames) = (counted(served, "client"), counted(frames, "frame"));
    words.say(format_args!("{clients} served: {frames}, {bytes}{late}"));
    if lossy > 0 {
        words.warn(format_args!("{lossy} of them may have missed frames"));
    }
    // With their hints, which a check has not.
    for fault in faults {
        words.error(&fault.into());
    }
    for Check { name, problem, .. } in checks {
        if let Some(problem) = problem.filter(|_| !matches!(&*name, "capture" | "clients")) {
            words.error(&anyhow::anyhow!(problem));
        }
    }
    match outcome {
        replay::Outcome::Done => Outcome::Done,
        replay::Outcome::Lossy => Outcome::Lossy,
        replay::Outcome::Failed => Outcome::Failed,
    }
}

fn late(lateness: Option<Lateness>) -> String {
    lateness.map_or_else(String::new, |Lateness { max, .. }| {
        let millis = max.as_micros().div_ceil(1000);
        format!(", none more than {millis} ms late")
    })
}

/// Where the report goes.
struct Reports {
    json: Option<PathBuf>,
    junit: Option<PathBuf>,
}

impl Reports {
    /// A report of an earlier run must not be taken for this one's, and one that cannot be written is
    /// better known now than at the end.
    fn prepare(&self) -> anyhow::Result<()> {
        for path in self.json.iter().chain(&self.junit) {
            remove(path)?;
            temporary_beside(path)?;
        }
        Ok(())
    }

    fn write(&self, report: &Report) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            write_at_once(path, &report.json())?;
        }
        if let Some(path) = &self.junit {
            write_at_once(path, &report.junit())?;
        }
        Ok(())
    }
}

/// The file with the authority to trust.
enum Authority {
    Kept(PathBuf),
    /// Removed when this is dropped.
    Temporary(tempfile::TempPath),
}

impl Authority {
    fn write(pem: &str, to: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = to {
            write_at_once(path, pem)?;
            return Ok(Self::Kept(path.to_owned()));
        }
        let mut file = tempfile::Builder::new()
            .prefix("centralcap-ca-")
            .suffix(".pem")
            .tempfile()
            .context("cannot create a temporary file")?;
        file.write_all(pem.as_bytes()).context("cannot write a temporary file")?;
        Ok(Self::Temporary(file.into_temp_path()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(path) => path,
        }
    }
}

/// Whoever waits for the file to appear finds all of it.
fn write_at_once(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = temporary_beside(path)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.persist(path).map_err(|error| error.error).with_context(cannot)?;
    Ok(())
}

fn temporary_beside(path: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
