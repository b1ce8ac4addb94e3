//! A capture as a live feed: a WebSocket endpoint that clients cannot tell from Central's.
//!
//! Every client gets the capture from its start, on a schedule of its own, or joins the schedule of all
//! in the middle. In any case it is read for it by a thread of its own through a bounded channel: memory
//! does not grow with the capture, and a client that stalls holds up nobody else. Frames leave bit for
//! bit, unless their times are to be moved. Damage in the capture is served up to, counted once, and
//! reported at the end; only what keeps the server from starting is an error.
//!
//! ```no_run
//! # async fn example() -> centralcap::error::Result<()> {
//! use centralcap::{capture::Capture, replay::{Options, Server}};
//!
//! let capture = Capture::open(&["feed.mcap"])?;
//! let server = Server::start(Options { once: true, ..Options::new(capture) }).await?;
//! println!("{} trusts {:?}", server.url(), server.ca_pem());
//! let report = server.run(std::future::pending()).await;
//! # Ok(()) }
//! ```

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use self::{
    alarm::Alarm,
    control::{House, Open},
    hold::{Hold, Over},
    offer::Offer,
    spoil::Spoil,
    stage::{Guest, Stage, Tell},
    types::Types,
};
pub use self::{
    background::{Builder, ReplayServer},
    control::{
        COMMANDS_REPORTED, Command, Control, Farewell, Given, Remote, State, Until, Visitor,
    },
    keys::{AtExpiry, Expiry, Keys},
    lateness::Lateness,
    report::{
        CLIENTS_REPORTED, Client, Close, End, Ending, Fate, KEY_CHANGES_REPORTED, KeyChange,
        Moments, News, Report, Sent, Strikes, Totals,
    },
    verdict::{Check, Demands, Expected, Outcome},
};
use crate::{
    accounts::Account,
    capture::Capture,
    error::{Error, Kind, Result},
    fault::Faults,
    net::{self, listening, tls::Identity},
    pace::{Limit, Rounds, Speed},
    select::Selection,
};

mod alarm;
mod background;
mod control;
mod feed;
mod hold;
mod junit;
mod keyring;
mod keys;
mod lateness;
mod offer;
mod report;
mod reproduce;
mod spoil;
mod stage;
mod stamps;
mod tally;
mod types;
mod verdict;

/// Whoever is in the middle of connecting when the last client has left is waited for so long.
const LATECOMERS: Duration = Duration::from_secs(1);

/// So many connections are served at once. Whoever comes then waits for a place.
const CONNECTIONS: usize = 4096;

/// All clients have so long in the end, which is more than any goodbye takes.
const LAST_MOMENT: Duration = Duration::from_secs(10);

/// What is played, how, and to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The capture.
    pub capture: Capture,
    /// What of it.
    pub selection: Selection,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// With or without TLS.
    pub security: Security,
    /// How fast.
    pub speed: Speed,
    /// The longest gap between two frames, in the recording's time.
    pub max_gap: Option<Duration>,
    /// How many times.
    pub rounds: Rounds,
    /// How long nothing comes between two rounds, whatever the speed.
    pub loop_delay: Duration,
    /// No more than that for each client, a full bucket to begin with.
    pub limit: Option<Limit>,
    /// Close each client after its last frame, and end when all that came are done.
    pub once: bool,
    /// Move the times in frames so that they look as if they were sent now.
    pub restamp: bool,
    /// Whose clock counts.
    pub timeline: Timeline,
    /// What a client gets first that comes late to a shared timeline.
    pub late_join: LateJoin,
    /// No clock starts before so many clients are connected at the same time,
    pub wait_clients: usize,
    /// and, if this is set, one of them for each topic that there is.
    pub wait_topics: bool,
    /// End after so long, whoever is there.
    pub timeout: Option<Duration>,
    /// What the report is held against.
    pub demands: Demands,
    /// Whose keys are valid; without it any key is.
    pub accounts: Option<Vec<Account>>,
    /// When these keys die.
    pub expiry: Expiry,
    /// What goes wrong, on purpose.
    pub faults: Option<Faults>,
    /// Whether it can be [controlled](Server::control) while it runs.
    pub control: bool,
}

impl Options {
    /// All of a capture at its original speed, once, over TLS on a free port of 127.0.0.1, staying
    /// connected afterwards.
    pub fn new(capture: Capture) -> Self {
        Self {
            capture,
            selection: Selection::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            security: Security::Ephemeral,
            speed: Speed::default(),
            max_gap: None,
            rounds: Rounds::default(),
            loop_delay: Duration::ZERO,
            limit: None,
            once: false,
            restamp: false,
            timeline: Timeline::default(),
            late_join: LateJoin::default(),
            wait_clients: 0,
            wait_topics: false,
            timeout: None,
            demands: Demands::default(),
            accounts: None,
            expiry: Expiry::default(),
            faults: None,
            control: false,
        }
    }

    /// Whether frames are due at times of their own.
    fn is_timed(&self) -> bool {
        self.speed != Speed::MAX || self.limit.is_some()
    }
}

/// Where the clients' clocks have their zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Timeline {
    /// Each has its own, when it is connected and the hold is over: it gets the capture from the start.
    #[default]
    Client,
    /// All have the same: the first client's, or the end of the hold. Whoever comes later joins in the
    /// middle.
    Shared,
}

/// What a client gets first that comes late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateJoin {
    /// What is due then.
    #[default]
    Live,
    /// The newest frame of each entity among those that it has missed, at once and in their order; at
    /// most 64 MiB of them.
    State,
}

/// What the connections are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS with an authority that exists for this run only.
    Ephemeral,
    /// TLS with the user's own certificate chain and private key, both in PEM.
    Files {
        /// The chain, the server's certificate first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// No TLS.
    Plain,
}

/// Accepts connections as soon as it exists, and serves them while it [runs](Self::run).
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    stage: Arc<Stage>,
    /// Here from the beginning: whoever controls it hears of its end, whether it ever ran or not.
    open: Option<Open>,
}

impl Server {
    /// Looks into the capture and begins to listen. Reads a capture without a summary to its end,
    /// and blocks meanwhile.
    pub async fn start(options: Options) -> Result<Self> {
        if options.once && options.rounds == Rounds::Forever {
            let hint = "leave out --once, or give --loop a number";
            return Err(Error::usage("--once with an end", "a loop forever", hint));
        }
        if options.wait_clients > CONNECTIONS {
            let expected = format!("{CONNECTIONS} clients at most to wait for");
            let hint = "no more are served at once";
            return Err(Error::usage(expected, options.wait_clients.to_string(), hint));
        }
        if options.timeline == Timeline::Client && options.late_join == LateJoin::State {
            let hint = "add --timeline shared: nobody is late for a clock of its own";
            return Err(Error::usage(
                "one clock for all to join late",
                "one for each client",
                hint,
            ));
        }
        if options.timeline == Timeline::Shared && options.speed == Speed::MAX {
            let hint = "give --speed a number; a very large one will do";
            return Err(Error::usage("a speed for the shared timeline", "max", hint));
        }
        // A control may slow it down.
        let is_measured = options.is_timed() || options.control;
        if options.demands.max_lateness.is_some() && !is_measured {
            let hint = "give --speed a number, or --pps: at full speed no frame is due at any time";
            return Err(Error::usage("a speed for --max-lateness", "max", hint));
        }
        let offer = Offer::of(&options)?;
        for Expected { topic, .. } in &options.demands.expected {
            offer.has_topic(topic)?;
        }
        let identity = match &options.security {
            Security::Ephemeral => Some(Identity::ephemeral(options.listen.ip())?),
            Security::Files { cert, key } => Some(Identity::from_files(cert, key)?),
            Security::Plain => None,
        };
        let keys = Keys::of(&options, offer.protocol)?;
        let (listener, address) = listen(options.listen).await.map_err(|source| {
            Error::from(Kind::Listen { address: options.listen.to_string(), source })
        })?;
        let topics = if options.wait_topics { offer.topics() } else { BTreeSet::new() };
        let clients = match options.timeline {
            // There is nothing to hold for one client: its clock starts when it is ready.
            Timeline::Client if options.wait_clients <= 1 => 0,
            Timeline::Client => options.wait_clients,
            Timeline::Shared => options.wait_clients.max(1),
        };
        let hold = Hold::until(clients, topics.into_iter().map(str::to_owned).collect());
        let hold = Arc::new(hold);
        let mut spoil = options.faults.clone().map(Spoil::new).map(Arc::new);
        let house = options.control.then(|| {
            // There may be some later.
            let spoil = spoil.get_or_insert_with(|| Arc::new(Spoil::new(Faults::none(None))));
            let subscriptions = offer.subscriptions.iter().map(|(topic, name)| (topic, name));
            let ties = (Arc::clone(spoil), Arc::clone(&hold), keys.clone());
            Arc::new(House::new(&options, subscriptions, ties))
        });
        let alarm = Alarm::start().map_err(|error| {
            let reason = format!("no thread to keep time with: {error}");
            Error::from(Kind::Internal { reason })
        })?;
        let stage = Stage {
            options,
            alarm,
            offer: Arc::new(offer),
            keys,
            identity,
            hold,
            types: Types::default(),
            unpacked: Arc::default(),
            faults: Mutex::default(),
            empty: AtomicBool::default(),
            spoil,
            house,
        };
        let open = stage.house.clone().map(Open);
        Ok(Self { listener, address, stage: Arc::new(stage), open })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT` as a client on this machine can use it.
    pub fn hostname(&self) -> String {
        net::reachable(self.address).to_string()
    }

    /// The feed's URL.
    pub fn url(&self) -> String {
        let scheme = if self.stage.identity.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.hostname(), self.stage.offer.protocol.feed_path())
    }

    /// The authority to trust, in PEM, if it was made up for this run.
    pub fn ca_pem(&self) -> Option<&str> {
        self.stage.identity.as_ref()?.ca_pem()
    }

    /// The topics that can be subscribed to.
    pub fn topics(&self) -> Vec<&str> {
        self.stage.offer.topics().into_iter().collect()
    }

    /// The keys that are valid; None if any key will do.
    pub fn keys(&self) -> Option<Keys> {
        self.stage.keys.clone()
    }

    /// What controls it, if its options say that something does.
    pub fn control(&self) -> Option<Control> {
        self.stage.house.clone().map(Control)
    }

    /// Serves until `shutdown` completes or, with `once`, until all that came are done. Dropping the
    /// future drops all connections without a word.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Report {
        self.run_telling(shutdown, |_| {}).await
    }

    /// The same, and tells what happens.
    pub async fn run_telling(
        self,
        shutdown: impl Future<Output = ()>,
        tell: impl Fn(News<'_>) + Send + Sync + 'static,
    ) -> Report {
        let Self { listener, stage, open, .. } = self;
        let (stop, stopped) = watch::channel(false);
        let counting = stage.spoil.clone();
        let tell: Arc<Tell> = Arc::new(move |news: News<'_>| {
            if let (News::Spoilt { applied, .. }, Some(spoil)) = (&news, &counting) {
                spoil.count(applied);
            }
            tell(news);
        });
        let mut connections = JoinSet::new();
        let demands = stage.options.demands.clone();
        let mut report = Report::of(stage.offer.topics().into_iter(), demands);
        let started = Instant::now();
        let deadline = stage.options.timeout.and_then(|timeout| started.checked_add(timeout));
        tokio::pin!(shutdown);
        loop {
            let over = stage.over();
            if let Some(Over { since, returners: None }) = over
                && (connections.is_empty() || since.elapsed() >= LATECOMERS)
            {
                break;
            }
            let patience = over.map(|over| over.returners.unwrap_or(over.since + LATECOMERS));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = until(deadline) => {
                    report.timed_out = Some(connections.len());
                    report.awaited = stage.hold.awaits();
                    break;
                }
                changes = stage.key_changes() => note(changes, &mut report, &*tell),
                Some(done) = connections.join_next() => report.add(stage.settled(done)),
                (stream, peer) = listening::next(&listener), if connections.len() < CONNECTIONS => {
                    let (stopped, tell) = (stopped.clone(), Arc::clone(&tell));
                    let guest = Guest { peer, stopped, tell };
                    connections.spawn(Arc::clone(&stage).serve(stream, guest));
                }
                () = until(patience) => {}
            }
        }
        // Nobody new is let in, and those who are here are told.
        drop(listener);
        let _ = stop.send(true);
        let last = Instant::now() + LAST_MOMENT;
        while let Ok(Some(done)) = timeout_at(last, connections.join_next()).await {
            report.add(stage.settled(done));
        }
        if !connections.is_empty() {
            let expected = "an end of all clients".to_owned();
            let found = format!("{} still busy after {LAST_MOMENT:?}", connections.len());
            stage.note(Kind::NotInTime { expected, found }.into());
        }
        let last = stage.keys.as_ref().map(Keys::changes_so_far).unwrap_or_default();
        note(last, &mut report, &*tell);
        drop(open);
        if let Some(house) = &stage.house {
            (report.control, report.commands) = house.given(started);
        }
        report.rules = stage.spoil.as_ref().map(|spoil| spoil.strikes()).unwrap_or_default();
        report.lasted = started.elapsed();
        report.faults = std::mem::take(&mut *stage.faults());
        report.empty = stage.empty.load(Ordering::Relaxed);
        report
    }
}

async fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn note(changes: Vec<KeyChange>, report: &mut Report, tell: &Tell) {
    for change in changes {
        tell(News::Key(&change));
        report.keep(change);
    }
}

/// Waits for a moment that may never come.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
