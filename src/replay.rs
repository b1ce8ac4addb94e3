//! A capture as a live feed: a WebSocket endpoint that clients cannot tell from Central's.
//!
//! Every client gets the capture from its start, on a schedule of its own, read by a thread of its
//! own through a bounded channel: memory does not grow with the capture, and a client that stalls
//! holds up nobody else. Frames leave bit for bit. Damage in the capture is served up to, counted
//! once, and reported at the end; only what keeps the server from starting is an error.
//!
//! ```no_run
//! # async fn example() -> centralcap::error::Result<()> {
//! use centralcap::{capture::Capture, replay::{Options, Server}};
//!
//! let capture = Capture::open(&["feed.mcap"])?;
//! let server = Server::start(Options { once: true, ..Options::new(capture) }).await?;
//! println!("{} trusts {:?}", server.url(), server.ca_pem());
//! let report = server.run(std::future::pending()).await?;
//! # Ok(()) }
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};

use crate::{
    capture::Capture,
    entry::{Entry, FrameType, Subscription},
    error::{Error, Kind, Result},
    net::{
        server::{Arrival, Ended, Gate, Peer, welcome},
        tls::Identity,
    },
    pace::{Pace, Rounds, Speed},
    protocol::{self, Key, Protocol},
    select::Selection,
};

/// A batch that a reader hands over holds so many frames at most,
const BATCH_FRAMES: usize = 64;
/// and no more are added when it has so many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// So many batches may wait for a client.
const BATCHES: usize = 4;

/// So much is put into one write.
const WRITE_SIZE: usize = 128 * 1024;

/// How long a client may take to answer our close at the end of a replay.
const GOODBYE: Duration = Duration::from_secs(5);

/// The same when somebody has asked us to stop and is waiting.
const HURRIED_GOODBYE: Duration = Duration::from_secs(2);

/// Whoever is in the middle of connecting when the last client has left is waited for so long.
const LATECOMERS: Duration = Duration::from_secs(1);

/// After a failed accept (usually no file descriptor is left) so long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// So many clients are reported one by one; all of them are in the sums.
pub const CLIENTS_REPORTED: usize = 1000;

/// Stands for all dates that are too far for the clock.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Status codes of a close, RFC 6455, section 7.4.1.
mod code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
}

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
    /// Close each client after its last frame, and end when all that came are done.
    pub once: bool,
    /// No clock starts before so many clients are connected at the same time.
    pub wait_clients: usize,
    /// Whose keys are valid; without it any key is.
    pub accounts: Option<Vec<Account>>,
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
            once: false,
            wait_clients: 0,
            accounts: None,
        }
    }
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

/// One entry of the vendor's input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The customer's name; in a capture, the subscription's.
    pub name: String,
    /// The key.
    pub key: Key,
    /// The topic.
    pub topic: String,
}

/// Reads the vendor's input file: `{"customers": {"NAME": {"wsskey": "...", "topic": "..."}}}`.
pub fn accounts(path: &Path) -> Result<Vec<Account>> {
    #[derive(Deserialize)]
    struct File {
        customers: serde_json::Map<String, serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Customer {
        wsskey: String,
        topic: String,
    }

    let wrong = |expected: String, found: String| {
        Error::from(Kind::InputFile { path: path.to_owned(), expected, found })
    };
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    // A message of serde_json may quote the value that it did not expect, and that may be a key:
    // only the place is told.
    let place = |error: &serde_json::Error| {
        format!("something else at line {}, column {}", error.line(), error.column())
    };
    let file: File = serde_json::from_slice(&text)
        .map_err(|error| wrong("an object with \"customers\"".to_owned(), place(&error)))?;
    let account = |(name, value): (String, serde_json::Value)| {
        let expected = || format!("a \"wsskey\" and a \"topic\" of customer {name:?}");
        let customer: Customer = serde_json::from_value(value)
            .map_err(|_| wrong(expected(), "something else".to_owned()))?;
        let key = Key::new(&customer.wsskey)
            .ok_or_else(|| wrong(expected(), "a key that no header can carry".to_owned()))?;
        Ok(Account { name, key, topic: customer.topic })
    };
    file.customers.into_iter().map(account).collect()
}

/// What happens while a server runs, for those who want to tell somebody.
#[derive(Debug)]
pub enum News<'a> {
    /// A client has subscribed.
    Connected {
        /// Its address.
        peer: SocketAddr,
        /// What it asked for.
        topic: &'a str,
    },
    /// A request was answered without a subscription: refused, or a key that was validated.
    Answered {
        /// Who asked.
        peer: SocketAddr,
        /// The HTTP status.
        status: u16,
    },
    /// A client is done.
    Left(&'a Client),
}

/// What a client got.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The topic it asked for.
    pub topic: String,
    /// The names of the subscriptions it was given.
    pub subscriptions: Vec<String>,
    /// Frames that were written to it.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How much later than it was due the latest frame was written; None if nothing was due at a
    /// time of its own.
    pub worst_lateness: Option<Duration>,
    /// How it ended.
    pub ending: Ending,
}

/// How a client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the last frame, with a closing handshake: everything has arrived.
    Played,
    /// After the last frame, but the client did not answer the close.
    Unanswered(Ended),
    /// The server was stopped.
    Stopped,
    /// The client left, or its connection broke.
    Left(Ended),
}

impl Ending {
    /// Whether the client may have missed frames though it did not leave by itself.
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Left(Ended::Stalled))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Played => f.write_str("played to its end"),
            Self::Unanswered(_) => f.write_str("played to its end, the close was not answered"),
            Self::Stopped => f.write_str("stopped"),
            Self::Left(Ended::Closed { code: Some(code) }) => write!(f, "closed with {code}"),
            Self::Left(Ended::Closed { code: None }) => f.write_str("closed without a code"),
            Self::Left(Ended::Gone) => f.write_str("gone without a close"),
            Self::Left(Ended::Stalled) => f.write_str("stalled and was dropped"),
            Self::Left(Ended::Lost(reason)) => write!(f, "lost: {reason}"),
            Self::Left(Ended::Broken(reason)) => write!(f, "broke the protocol: {reason}"),
        }
    }
}

/// What a server did.
#[derive(Debug, Default)]
pub struct Report {
    /// The first [`CLIENTS_REPORTED`] clients, in the order in which they ended.
    pub clients: Vec<Client>,
    /// How many clients there were.
    pub served: u64,
    /// How many of them may have missed frames though they did not leave by themselves.
    pub lossy: u64,
    /// Frames that were written to all of them.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The worst lateness of all.
    pub worst_lateness: Option<Duration>,
    /// What was wrong with the capture, each fault once.
    pub faults: Vec<Error>,
}

impl Report {
    fn add(&mut self, client: Option<Client>) {
        let Some(client) = client else { return };
        self.served += 1;
        self.lossy += u64::from(client.ending.is_loss());
        self.frames += client.frames;
        self.bytes += client.bytes;
        self.worst_lateness = self.worst_lateness.max(client.worst_lateness);
        if self.clients.len() < CLIENTS_REPORTED {
            self.clients.push(client);
        }
    }
}

/// Accepts connections as soon as it exists, and serves them while it [runs](Self::run).
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    stage: Arc<Stage>,
}

impl Server {
    /// Looks into the capture and begins to listen. Reads a capture without a summary to its end,
    /// and blocks meanwhile.
    pub async fn start(options: Options) -> Result<Self> {
        if options.once && options.rounds == Rounds::Forever {
            let hint = "leave out --once, or give --loop a number";
            return Err(Error::usage("--once with an end", "a loop forever", hint));
        }
        let offer = Offer::of(&options)?;
        let identity = match &options.security {
            Security::Ephemeral => Some(Identity::ephemeral(options.listen.ip())?),
            Security::Files { cert, key } => Some(Identity::from_files(cert, key)?),
            Security::Plain => None,
        };
        let (listener, address) = listen(options.listen).await.map_err(|source| {
            Error::from(Kind::Listen { address: options.listen.to_string(), source })
        })?;
        let hold = Hold::until(options.wait_clients);
        let faults = Mutex::default();
        let stage = Stage { options, offer: Arc::new(offer), identity, hold, faults };
        Ok(Self { listener, address, stage: Arc::new(stage) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT` as a client on this machine can use it.
    pub fn hostname(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port()).to_string()
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
        let topics: BTreeSet<_> =
            self.stage.offer.subscriptions.iter().map(|(topic, _)| topic.as_str()).collect();
        topics.into_iter().collect()
    }

    /// Serves until `shutdown` completes or, with `once`, until all that came are done. Dropping the
    /// future drops all connections without a word.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Report> {
        self.run_telling(shutdown, |_| {}).await
    }

    /// The same, and tells what happens.
    pub async fn run_telling(
        self,
        shutdown: impl Future<Output = ()>,
        tell: impl Fn(News<'_>) + Send + Sync + 'static,
    ) -> Result<Report> {
        let (stop, stopped) = watch::channel(false);
        let tell: Arc<Tell> = Arc::new(tell);
        let mut connections = JoinSet::new();
        let mut report = Report::default();
        let mut over = None;
        tokio::pin!(shutdown);
        loop {
            let stage = &self.stage;
            over = if stage.is_over() { over.or(Some(Instant::now() + LATECOMERS)) } else { None };
            if over.is_some() && connections.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(done) = connections.join_next() => report.add(self.stage.settled(done)),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let stage = Arc::clone(stage);
                        let guest = Guest { peer, stopped: stopped.clone(), tell: Arc::clone(&tell) };
                        connections.spawn(async move { stage.serve(stream, guest).await });
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                // Somebody may have made it in the meantime.
                () = until(over) => if stage.is_over() { break },
            }
        }
        // Nobody new, and those who are here are told.
        drop(self.listener);
        let _ = stop.send(true);
        while let Some(done) = connections.join_next().await {
            report.add(self.stage.settled(done));
        }
        report.faults = std::mem::take(&mut *self.stage.faults());
        Ok(report)
    }
}

type Tell = dyn Fn(News<'_>) + Send + Sync;

async fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What can be subscribed to, and by whom.
struct Offer {
    protocol: &'static dyn Protocol,
    /// Topic and name, sorted.
    subscriptions: BTreeSet<(String, String)>,
    /// For each valid key the names it stands for; None if any key is valid.
    names: Option<HashMap<Key, Vec<String>>>,
}

impl Offer {
    fn of(options: &Options) -> Result<Self> {
        let channels = options.capture.channels()?;
        let protocol = channels.first().map_or("", |(subscription, _)| &subscription.protocol);
        let subscriptions = channels
            .iter()
            .filter(|(subscription, kind)| wants(&options.selection, subscription, kind.as_deref()))
            .map(|(subscription, _)| (subscription.topic.clone(), subscription.name.clone()));
        Ok(Self {
            protocol: protocol::by_name(protocol),
            subscriptions: subscriptions.collect(),
            names: options.accounts.as_deref().map(names_by_key),
        })
    }
}

fn names_by_key(accounts: &[Account]) -> HashMap<Key, Vec<String>> {
    let mut names: HashMap<Key, Vec<String>> = HashMap::new();
    for account in accounts {
        names.entry(account.key.clone()).or_default().push(account.name.clone());
    }
    names
}

/// Whether a selection leaves anything of a channel, as far as can be told without reading it.
fn wants(selection: &Selection, subscription: &Subscription, kind: Option<&FrameType>) -> bool {
    let named = selection.subscriptions.is_empty()
        || selection.subscriptions.iter().any(|pattern| pattern.is_match(&subscription.name));
    let topical = selection.topics.is_empty()
        || selection.topics.contains(&subscription.topic)
        || kind.is_some_and(|kind| selection.topics.contains(&kind.label));
    named && topical
}

/// What one client may have.
struct Share {
    topic: String,
    subscriptions: BTreeSet<String>,
}

impl Share {
    fn has(&self, entry: &Entry) -> bool {
        entry.subscription.topic == self.topic
            && self.subscriptions.contains(&entry.subscription.name)
    }
}

impl Gate for Offer {
    type Pass = Share;

    fn protocol(&self) -> &'static dyn Protocol {
        self.protocol
    }

    fn knows(&self, key: &Key) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains_key(key))
    }

    /// The subscriptions that bear a name of the key; if there are none, all of the topic.
    fn admit(&self, key: &Key, topic: &str) -> Option<Share> {
        let all = self.subscriptions.iter().filter(|(of, _)| of == topic).map(|(_, name)| name);
        let all: BTreeSet<String> = all.cloned().collect();
        let own = self.names.as_ref().and_then(|names| names.get(key)).into_iter().flatten();
        let own: BTreeSet<String> = own.filter(|name| all.contains(*name)).cloned().collect();
        let subscriptions = if own.is_empty() { all } else { own };
        (!subscriptions.is_empty()).then(|| Share { topic: topic.to_owned(), subscriptions })
    }
}

/// Keeps all clocks from starting until enough clients are ready.
struct Hold {
    wanted: usize,
    house: watch::Sender<House>,
}

#[derive(Clone, Copy)]
struct House {
    /// Clients that have ever been.
    came: usize,
    /// Clients that are here,
    here: usize,
    /// and of these, those that could start at once.
    ready: usize,
    /// When the hold ended.
    lifted: Option<Instant>,
}

impl Hold {
    fn until(wanted: usize) -> Self {
        // There is nothing to hold for one client: its clock starts when it is ready.
        let lifted = (wanted <= 1).then(Instant::now);
        Self { wanted, house: watch::Sender::new(House { came: 0, here: 0, ready: 0, lifted }) }
    }

    fn take_seat(&self) -> Seat<'_> {
        self.house.send_modify(|house| {
            house.came += 1;
            house.here += 1;
        });
        Seat { hold: self, ready: false }
    }
}

/// A client's place. Dropping it frees it.
struct Seat<'a> {
    hold: &'a Hold,
    ready: bool,
}

impl Seat<'_> {
    /// Waits until the hold has ended; says when it did.
    async fn lifted(&mut self) -> Instant {
        let Hold { wanted, house } = self.hold;
        house.send_modify(|house| {
            house.ready += usize::from(!self.ready);
            self.ready = true;
            if house.lifted.is_none() && house.ready >= *wanted {
                house.lifted = Some(Instant::now());
            }
        });
        let mut house = house.subscribe();
        // Its other end is ours as well: it does not go away.
        let house = house.wait_for(|house| house.lifted.is_some()).await;
        house.ok().and_then(|house| house.lifted).unwrap_or_else(Instant::now)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.hold.house.send_modify(|house| {
            house.here -= 1;
            house.ready -= usize::from(self.ready);
        });
    }
}

/// What all clients of a server share.
struct Stage {
    options: Options,
    offer: Arc<Offer>,
    identity: Option<Identity>,
    hold: Hold,
    faults: Mutex<Vec<Error>>,
}

/// One connection and its ties to the outside.
struct Guest {
    peer: SocketAddr,
    stopped: watch::Receiver<bool>,
    tell: Arc<Tell>,
}

impl Stage {
    /// With `once`: all that came, and as many as were waited for, are done.
    fn is_over(&self) -> bool {
        let house = *self.hold.house.borrow();
        self.options.once && house.here == 0 && house.came > 0 && house.lifted.is_some()
    }

    /// One connection from its first byte to its last.
    async fn serve(
        self: Arc<Self>,
        stream: tokio::net::TcpStream,
        mut guest: Guest,
    ) -> Option<Client> {
        let arrival = tokio::select! {
            biased;
            _ = guest.stopped.wait_for(|stopped| *stopped) => None,
            arrival = welcome(stream, self.identity.as_ref(), Arc::clone(&self.offer)) => arrival,
        };
        let (peer, share) = match arrival? {
            Arrival::Client(peer, share) => (*peer, Arc::new(share)),
            Arrival::Answered(status) => {
                (guest.tell)(News::Answered { peer: guest.peer, status });
                return None;
            }
        };
        (guest.tell)(News::Connected { peer: guest.peer, topic: &share.topic });
        let mut tally = Tally { timed: self.options.speed != Speed::MAX, ..Tally::default() };
        let ending = self.entertain(peer, Arc::clone(&share), &mut tally, &mut guest.stopped).await;
        let client = Client {
            peer: guest.peer,
            topic: share.topic.clone(),
            subscriptions: share.subscriptions.iter().cloned().collect(),
            frames: tally.frames,
            bytes: tally.bytes,
            worst_lateness: tally.worst_lateness,
            ending,
        };
        (guest.tell)(News::Left(&client));
        Some(client)
    }

    /// A client from its upgrade to its end.
    async fn entertain(
        self: &Arc<Self>,
        mut peer: Peer,
        share: Arc<Share>,
        tally: &mut Tally,
        stopped: &mut watch::Receiver<bool>,
    ) -> Ending {
        let mut seat = self.hold.take_seat();
        let played = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => None,
            played = self.play(&mut peer, share, &mut seat, tally) => Some(played),
        };
        match played {
            None => {
                // Whether it answers or not: it was told, and somebody is waiting for us.
                let _ = peer.close(code::GOING_AWAY, "going away", HURRIED_GOODBYE).await;
                Ending::Stopped
            }
            Some(Ok(())) => match peer.close(code::NORMAL, "end of replay", GOODBYE).await {
                Ok(()) => Ending::Played,
                Err(ended) => Ending::Unanswered(ended),
            },
            Some(Err(ended)) => {
                drop(seat);
                peer.leave(&ended).await;
                Ending::Left(ended)
            }
        }
    }

    /// Sends everything when it is due. Returns after the last frame, but without `once` only when
    /// the client leaves.
    async fn play(
        self: &Arc<Self>,
        peer: &mut Peer,
        share: Arc<Share>,
        seat: &mut Seat<'_>,
        tally: &mut Tally,
    ) -> Result<(), Ended> {
        let mut feed = Feed::open(self, share);
        let ready = peer.meanwhile(feed.ready()).await?;
        let zero = peer.meanwhile(seat.lifted()).await?.max(ready);
        loop {
            let batch = if let Ok(batch) = feed.batches.try_recv() {
                batch
            } else {
                // The reader has to catch up, or has ended: what is queued need not wait for that.
                tally.flush(peer).await?;
                match peer.meanwhile(feed.batches.recv()).await? {
                    Some(batch) => batch,
                    None => break,
                }
            };
            for frame in batch {
                let due = zero.checked_add(frame.due).unwrap_or(zero + A_CENTURY);
                if due > Instant::now() {
                    tally.flush(peer).await?;
                    peer.meanwhile(tokio::time::sleep_until(due)).await?;
                }
                tally.queue(peer, frame.data, due);
                if peer.queued() >= WRITE_SIZE {
                    tally.flush(peer).await?;
                }
            }
        }
        if self.options.once { Ok(()) } else { Err(peer.idle().await) }
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Vec<Error>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of a connection that is over, if it was one.
    fn settled(&self, done: Result<Option<Client>, JoinError>) -> Option<Client> {
        done.unwrap_or_else(|error| {
            self.note(Kind::Internal { reason: error.to_string() }.into());
            None
        })
    }

    /// Every client and every round meets the same damage: it is noted once.
    fn note(&self, fault: Error) {
        let mut faults = self.faults();
        let sentence = fault.to_string();
        if faults.iter().all(|known| known.to_string() != sentence) {
            faults.push(fault);
        }
    }
}

/// What was written to a client, and when.
#[derive(Default)]
struct Tally {
    timed: bool,
    frames: u64,
    bytes: u64,
    worst_lateness: Option<Duration>,
    /// What is queued: how many, how large, and when the first of them was due.
    queued: (u64, u64, Option<Instant>),
}

impl Tally {
    fn queue(&mut self, peer: &mut Peer, message: Bytes, due: Instant) {
        let (frames, bytes, first) = &mut self.queued;
        *frames += 1;
        *bytes += message.len() as u64;
        first.get_or_insert(due);
        peer.queue(message);
    }

    async fn flush(&mut self, peer: &mut Peer) -> Result<(), Ended> {
        peer.flush().await?;
        let (frames, bytes, first) = std::mem::take(&mut self.queued);
        self.frames += frames;
        self.bytes += bytes;
        if self.timed {
            let lateness = first.map(|due| Instant::now().saturating_duration_since(due));
            self.worst_lateness = self.worst_lateness.max(lateness);
        }
        Ok(())
    }
}

/// A frame on its way to a client.
struct Due {
    due: Duration,
    data: Bytes,
}

/// The capture as one client gets it. The reader ends soon after this is dropped.
struct Feed {
    ready: Option<oneshot::Receiver<()>>,
    batches: mpsc::Receiver<Vec<Due>>,
}

impl Feed {
    fn open(stage: &Arc<Stage>, share: Arc<Share>) -> Self {
        let (to, batches) = mpsc::channel(BATCHES);
        let (is_ready, ready) = oneshot::channel();
        let reader = Reader { stage: Arc::clone(stage), share, to, batch: Vec::new(), bytes: 0 };
        let spawned = thread::Builder::new()
            .name("replay-reader".to_owned())
            .spawn(move || reader.read(is_ready));
        if let Err(error) = spawned {
            stage
                .note(Kind::Internal { reason: format!("no thread to read with: {error}") }.into());
        }
        Self { ready: Some(ready), batches }
    }

    /// Completes when the capture is open and its first entry unpacked, which can take longer than
    /// a frame may be late. All clients of one capture wait for the same entry, whatever their topic.
    async fn ready(&mut self) -> Instant {
        if let Some(ready) = self.ready.take() {
            // An empty capture has no first entry, and no frame that could be late.
            let _ = ready.await;
        }
        Instant::now()
    }
}

/// The thread behind a [`Feed`].
struct Reader {
    stage: Arc<Stage>,
    share: Arc<Share>,
    to: mpsc::Sender<Vec<Due>>,
    batch: Vec<Due>,
    bytes: usize,
}

/// The client does not need a reader any more.
struct Unwanted;

impl Reader {
    fn read(mut self, ready: oneshot::Sender<()>) {
        let options = &self.stage.options;
        let (rounds, mut pace) = (options.rounds, Pace::new(options.speed, options.max_gap));
        let mut ready = Some(ready);
        let mut played = 0;
        while rounds.go_on_after(played) {
            // A round without a frame for this client is like all that would follow.
            match self.round(&mut pace, &mut ready) {
                Ok(1..) => {}
                Ok(0) | Err(Unwanted) => return,
            }
            pace.again();
            played += 1;
        }
    }

    /// Reads the capture once. Returns how many frames the client got.
    fn round(
        &mut self,
        pace: &mut Pace,
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
                Ok(entry) => frames += self.take(&entry, pace)?,
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

    /// Schedules every frame, because all clients have the same clock, and keeps the client's own.
    fn take(&mut self, entry: &Entry, pace: &mut Pace) -> Result<u64, Unwanted> {
        let Some(frame) = entry.frame() else { return Ok(0) };
        let due = pace.due(entry.received);
        let own = self.share.has(entry);
        if own {
            self.bytes += frame.data.len();
            self.batch.push(Due { due, data: frame.data.clone() });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(accounts: Option<&[Account]>) -> Offer {
        let subscriptions = [("audit", "a"), ("monitoring", "a"), ("monitoring", "b")];
        Offer {
            protocol: protocol::by_name("classic"),
            subscriptions: subscriptions
                .map(|(topic, name)| (topic.to_owned(), name.to_owned()))
                .into(),
            names: accounts.map(names_by_key),
        }
    }

    fn account(name: &str, key: &str) -> Account {
        let key = Key::new(key).unwrap();
        Account { name: name.to_owned(), key, topic: "audit".to_owned() }
    }

    fn admitted(offer: &Offer, key: &str, topic: &str) -> Option<Vec<String>> {
        let share = offer.admit(&Key::new(key).unwrap(), topic)?;
        Some(share.subscriptions.into_iter().collect())
    }

    #[test]
    fn without_accounts_any_key_gets_all_of_a_topic() {
        let offer = offer(None);
        assert!(offer.knows(&Key::new("whatever").unwrap()));
        assert_eq!(admitted(&offer, "whatever", "monitoring").unwrap(), ["a", "b"]);
        assert_eq!(admitted(&offer, "whatever", "presence"), None);
    }

    #[test]
    fn a_key_gets_the_subscriptions_of_its_names_or_all() {
        let offer = offer(Some(&[account("b", "key-of-b"), account("elsewhere", "other-key")]));
        assert!(!offer.knows(&Key::new("whatever").unwrap()));
        assert_eq!(admitted(&offer, "key-of-b", "monitoring").unwrap(), ["b"]);
        assert_eq!(admitted(&offer, "key-of-b", "audit").unwrap(), ["a"]);
        assert_eq!(admitted(&offer, "other-key", "monitoring").unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_faulty_input_file_is_named_without_showing_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            accounts(&path)
        };
        let whole =
            read(r#"{"customers": {"a": {"username": "u", "wsskey": "k", "topic": "audit"}}}"#);
        assert_eq!(whole.unwrap(), [account("a", "k")]);
        for text in [
            "",
            r#"["synthetic-secret"]"#,
            r#"{"customers": "synthetic-secret"}"#,
            r#"{"customers": {"a": "synthetic-secret"}}"#,
            r#"{"customers": {"a": {"wsskey": "synthetic-secret"}}}"#,
            r#"{"customers": {"a": {"wsskey": "synthetic\nsecret", "topic": "audit"}}}"#,
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(error.to_string().contains("input.json") && error.hint().is_some());
        }
    }
}
