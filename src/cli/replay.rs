//! `centralcap replay`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
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
    files,
    net::pages,
    pace::{Limit, Rate, Rounds, Speed},
    replay::{
        self, Check, Demands, Expected, Fate, KeyChange, Lateness, News, Options, Remote, Report,
        Security, Server, Strikes,
    },
};
use tokio::sync::oneshot;

use super::{
    Outcome, Words, accounts, faults,
    outputs::{self, Named, Output},
    select, signal, stderr,
};

/// So many rules that were never applied are named.
const UNSTRUCK_NAMED: usize = 10;

/// Serve a capture as a live feed on a local endpoint.
///
/// Every client gets it from the start. The first line on stdout, {"event":"ready",...}, says where
/// to connect and which authority to trust.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: select::Args,

    /// Where to listen. A port alone is one of this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = listen)]
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
    #[arg(long, value_name = "D", default_value = "0s", requires = "rounds", value_parser = select::duration)]
    loop_delay: Duration,

    /// No more than N frames a second to each client. With --speed max, exactly that.
    #[arg(long, value_name = "N", value_parser = str::parse::<Rate>)]
    pps: Option<Rate>,

    /// With --pps: up to N frames may follow each other at once after a time with fewer.
    #[arg(long, value_name = "N", default_value = "1", requires = "pps", value_parser = select::count::<NonZeroU64>)]
    burst: NonZeroU64,

    /// Move the times in frames, the envelope's and the payload's, so that the feed looks live. Everything
    /// else stays bit for bit.
    #[arg(long)]
    restamp: bool,

    /// Close each client after the last frame, and end when all that came are done or have left. Whoever was
    /// cut off by a fault has 10 s to come back.
    #[arg(long)]
    once: bool,

    /// Start no clock before N clients are connected.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = select::number::<usize>)]
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

    /// Write what each client got, and when, to this file at the end, as JSON. An earlier file of that name
    /// is removed at the start. With `-` it is on stdout, behind the ready line.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// The same as JUnit's XML, for CI servers. An earlier file of that name is removed at the start. `-` is
    /// stdout here, too.
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

    /// Write the authority of the made-up certificate there, over what an earlier run has left, and keep it
    /// [default: a temporary file].
    #[arg(long, value_name = "FILE", conflicts_with = "cert")]
    ca_out: Option<PathBuf>,

    /// Serve ws:// without TLS.
    #[arg(long, conflicts_with_all = ["cert", "ca_out"])]
    plain: bool,

    /// Let a test control it over HTTP at http://ADDR, which is in the ready line (docs/control.md). A port
    /// alone is one of this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", value_parser = pages::address)]
    control: Option<SocketAddr>,

    /// Write the ready line to this file as well, all of it at once. An earlier file of that name is removed
    /// at the start.
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
    let here = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    here.or_else(|_| text.parse()).map_err(|_| {
        let hint = "addresses look like 8443, 127.0.0.1:8443, [::1]:0 or 0.0.0.0:8443";
        Error::usage("a port, or an IP address with a port", format!("{text:?}"), hint)
    })
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    if args.faults.list_scenarios {
        faults::list_scenarios()?;
        return Ok(Outcome::Done);
    }
    let capture = args.select.open(words);
    args.keep_apart(capture.as_ref().ok())?;
    let mut outputs = Outputs::of(&args)?;
    let mut options = args.options(capture?)?;
    let selection = options.selection.clone();
    let is_none = selection.is_over_before_it_begins();
    if is_none {
        // Now, and not when somebody comes.
        select::warn_if_none(&selection, 0, words);
    }
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
    stderr::never_wait(words).context("cannot start")?;
    // Conditions of faults decode frames on the threads that send them.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(STACK_SIZE).build();
    let runtime = runtime.context("cannot start")?;
    let served = runtime.block_on(serve(options, args, &mut outputs, words));
    // A condition of a fault that has no end would not let go of its thread.
    runtime.shutdown_background();
    let (report, aside) = served?;
    let reported = outputs.report(&report);
    if report.empty && !is_none {
        select::warn_if_none(&selection, 0, words);
    }
    let outcome = conclude(report, words);
    // What came of it is said, wherever else it could not be written.
    reported.and(aside).map(|()| outcome)
}

impl Args {
    /// Refuses to write over what is read, or twice to the same file.
    fn keep_apart(&self, capture: Option<&Capture>) -> Result<(), Error> {
        let paths: Vec<&Path> = match capture {
            Some(capture) => capture.segments().iter().map(|segment| &*segment.path).collect(),
            None => self.select.paths.iter().map(|path| &**path).collect(),
        };
        let inputs = paths.into_iter().map(|path| Named { option: "the capture", path });
        let options = [
            Named::maybe("--accounts", self.accounts.file()),
            Named::maybe("--cert", self.cert.as_ref()),
            Named::maybe("--key", self.key.as_ref()),
            Named::maybe("--faults", self.faults.file()),
        ];
        let files = [
            Named::maybe("--ready-file", self.ready_file.as_ref()),
            Named::maybe("--ca-out", self.ca_out.as_ref()),
            Named::maybe("--fault-log", self.faults.log_file()),
        ];
        let reports = [
            Named::maybe("--report", self.report.as_ref()),
            Named::maybe("--report-junit", self.report_junit.as_ref()),
        ];
        let inputs: Vec<_> = inputs.chain(options.into_iter().flatten()).collect();
        let files: Vec<_> = files.into_iter().flatten().collect();
        outputs::need_files(&files)?;
        let outputs: Vec<_> = reports.into_iter().flatten().chain(files).collect();
        outputs::keep_apart(&inputs, &outputs)
    }

    fn options(&self, capture: Capture) -> Result<Options, Error> {
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
            ..Options::new(capture)
        })
    }
}

/// Serves, and says what came of it, and of what was done beside it.
async fn serve(
    options: Options,
    args: Args,
    outputs: &mut Outputs,
    words: Words,
) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    let Args { ca_out, faults, control, .. } = args;
    let log = faults.log(options.faults.as_ref())?.map(Arc::new);
    // Before the ready line: whoever has read it may stop us.
    let stopped = signal::stop_or_hang_up().context("cannot wait for signals")?;
    let server = Server::start(options).await?;
    let remote = control.map(Remote::bind).transpose()?;
    let kept = ca_out.zip(outputs.authority.take());
    let authority = server.ca_pem().map(|pem| Authority::write(pem, kept)).transpose()?;

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
    if let Some(output) = outputs.ready.take() {
        output.write(&ready)?;
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(ready.as_bytes()).and_then(|()| stdout.flush()) {
        // Nobody reads it. That is no answer to whether a client came.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(Error::output)?,
    }
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
    let controlled = match remote {
        Some(remote) => {
            remote.await.context("the control has failed").and_then(|served| Ok(served?))
        }
        None => Ok(()),
    };
    let logged = log.map_or(Ok(()), |log| log.finish());
    Ok((report, controlled.and(logged)))
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
    let Report { served, lossy, frames, bytes, lateness, faults, rules, answered, .. } = report;
    let (bytes, late) = (ByteSize::b(bytes), late(lateness));
    let (clients, frames) = (counted(served, "client"), counted(frames, "frame"));
    let struck = struck(&rules);
    words.say(format_args!("{clients} served: {frames}, {bytes}{late}{struck}"));
    let somebody_came = served > 0 || !answered.is_empty();
    if let Some(unstruck) = unstruck(&rules).filter(|_| somebody_came) {
        words.say(unstruck);
    }
    if lossy > 0 {
        words.warn(format_args!("{lossy} of them may have missed frames"));
    }
    // With their hints, which a check has not; each once.
    let mut hints = BTreeSet::new();
    for fault in faults {
        let is_new = fault.hint().is_some_and(|hint| hints.insert(hint.to_owned()));
        words.error(&if is_new { fault.into() } else { anyhow::anyhow!("{fault}") });
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

fn struck(rules: &[Strikes]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let applied = rules.iter().map(|rule| rule.applied).sum();
    format!(", {} applied", counted(applied, "fault"))
}

/// The rules that nobody has met: a condition may be misspelled.
fn unstruck(rules: &[Strikes]) -> Option<String> {
    let unstruck: Vec<_> = rules.iter().filter(|rule| rule.applied == 0).collect();
    let named = unstruck.iter().take(UNSTRUCK_NAMED).map(|rule| match rule.left_out {
        0 => format!("{} ({})", rule.rule, rule.fault),
        often => {
            let often = if often == 1 { "once".to_owned() } else { format!("{often} times") };
            format!("{} ({}, which was left out {often})", rule.rule, rule.fault)
        }
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match unstruck.len().saturating_sub(UNSTRUCK_NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!unstruck.is_empty()).then(|| format!("rules that were never applied: {named}{more}"))
}

/// Where something goes besides stdout.
struct Outputs {
    ready: Option<Output>,
    authority: Option<Output>,
    json: Option<Output>,
    junit: Option<Output>,
}

impl Outputs {
    /// What an earlier run left is gone then: no report of it is taken for this one's, and no line sends anybody
    /// to a server that is gone.
    fn of(args: &Args) -> anyhow::Result<Self> {
        let at = |path: &Option<PathBuf>| path.as_deref().map(Output::at).transpose();
        let outputs = Self {
            ready: at(&args.ready_file)?,
            authority: at(&args.ca_out)?,
            json: at(&args.report)?,
            junit: at(&args.report_junit)?,
        };
        let Self { ready, json, junit, .. } = &outputs;
        [ready, json, junit].into_iter().flatten().try_for_each(Output::clear)?;
        Ok(outputs)
    }

    fn report(self, report: &Report) -> anyhow::Result<()> {
        let json = self.json.map_or(Ok(()), |output| output.write(&report.json()));
        let junit = self.junit.map_or(Ok(()), |output| output.write(&report.junit()));
        json.and(junit)
    }
}

/// The file with the authority to trust.
enum Authority {
    Kept(PathBuf),
    /// Removed when this is dropped.
    Temporary(tempfile::TempPath),
}

impl Authority {
    fn write(pem: &str, to: Option<(PathBuf, Output)>) -> anyhow::Result<Self> {
        if let Some((path, output)) = to {
            output.write(pem)?;
            return Ok(Self::Kept(path));
        }
        let mut file = files::temporary(0o666)
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
