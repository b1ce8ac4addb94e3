//! A server in the background of a test: a thread of its own, control, and an end when it is dropped.

use std::{net::SocketAddr, sync::mpsc, thread::JoinHandle, time::Duration};

use tokio::sync::oneshot;

use super::{Control, Options, Report, Security, Server, Timeline};
use crate::{
    accounts::Account,
    capture::Capture,
    codec::STACK_SIZE,
    error::{Error, Kind, Result},
    fault::Faults,
    pace::{Rounds, Speed},
};

/// A feed that runs on a thread of its own, whatever the test does meanwhile: the test may be asynchronous
/// or not, and its client may block.
///
/// Dropping it cuts all connections off and frees the address. [`stop`](Self::stop) says goodbye.
///
/// ```
/// # use centralcap::{capture::Capture, replay::ReplayServer};
/// # fn main() -> centralcap::error::Result<()> {
/// let capture = Capture::open(&["fixtures/campus.mcap"])?;
/// let feed = ReplayServer::builder(capture).plain().start()?;
/// feed.control().pause()?;
/// println!("connect to {}, which is held", feed.url());
/// # Ok(())
/// # }
/// ```
pub struct ReplayServer {
    address: SocketAddr,
    hostname: String,
    url: String,
    ca_pem: Option<String>,
    topics: Vec<String>,
    control: Control,
    stop: Option<oneshot::Sender<()>>,
    /// Dropping it is an end without a goodbye.
    alive: Option<oneshot::Sender<()>>,
    report: Option<oneshot::Receiver<Report>>,
    thread: Option<JoinHandle<()>>,
}

/// What a [`ReplayServer`] is made of.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder(Options);

impl Builder {
    /// How fast.
    pub fn speed(self, speed: Speed) -> Self {
        self.with(|options| options.speed = speed)
    }

    /// How many times.
    pub fn rounds(self, rounds: Rounds) -> Self {
        self.with(|options| options.rounds = rounds)
    }

    /// The longest gap between two frames, in the recording's time.
    pub fn max_gap(self, max_gap: Duration) -> Self {
        self.with(|options| options.max_gap = Some(max_gap))
    }

    /// Closes each client after its last frame, and ends when all that came are done.
    pub fn once(self) -> Self {
        self.with(|options| options.once = true)
    }

    /// No TLS.
    pub fn plain(self) -> Self {
        self.with(|options| options.security = Security::Plain)
    }

    /// Whose clock counts.
    pub fn timeline(self, timeline: Timeline) -> Self {
        self.with(|options| options.timeline = timeline)
    }

    /// No clock starts before so many clients are connected.
    pub fn wait_clients(self, clients: usize) -> Self {
        self.with(|options| options.wait_clients = clients)
    }

    /// Whose keys are valid.
    pub fn accounts(self, accounts: Vec<Account>) -> Self {
        self.with(|options| options.accounts = Some(accounts))
    }

    /// What goes wrong, on purpose, from the beginning.
    pub fn faults(self, faults: Faults) -> Self {
        self.with(|options| options.faults = Some(faults))
    }

    /// Changes any of the [`Options`].
    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.0);
        self
    }

    /// Looks into the capture, begins to listen and to serve. Takes a moment, in which it blocks.
    pub fn start(self) -> Result<ReplayServer> {
        let options = Options { control: true, ..self.0 };
        let (to, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("replay-server".to_owned())
            .spawn(move || serve(options, &to))
            .map_err(|error| fault(format!("no thread to serve with: {error}")))?;
        match started.recv() {
            Ok(Ok(mut server)) => {
                server.thread = Some(thread);
                Ok(server)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(fault("the server has not started".to_owned())),
        }
    }
}

/// The thread: serves until it is told to stop, or to vanish.
fn serve(options: Options, started: &mpsc::SyncSender<Result<ReplayServer>>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Conditions of faults decode frames on the threads that send them.
    let runtime = runtime.worker_threads(2).enable_all().thread_stack_size(STACK_SIZE).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(fault(format!("no runtime to serve with: {error}"))));
            return;
        }
    };
    runtime.block_on(async {
        let server = match Server::start(options).await {
            Ok(server) => server,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let Some(control) = server.control() else { return };
        let (stop, stopped) = oneshot::channel();
        let (alive, gone) = oneshot::channel::<()>();
        let (to, report) = oneshot::channel();
        let running = ReplayServer {
            address: server.address(),
            hostname: server.hostname(),
            url: server.url(),
            ca_pem: server.ca_pem().map(str::to_owned),
            topics: server.topics().into_iter().map(str::to_owned).collect(),
            control,
            stop: Some(stop),
            alive: Some(alive),
            report: Some(report),
            thread: None,
        };
        if started.send(Ok(running)).is_err() {
            return;
        }
        let stopped = async {
            let _ = stopped.await;
        };
        tokio::select! {
            biased;
            _ = gone => {}
            report = server.run(stopped) => { let _ = to.send(report); }
        }
    });
    // A reader that is at work ends by itself.
    runtime.shutdown_background();
}

fn fault(reason: String) -> Error {
    Kind::Internal { reason }.into()
}

impl ReplayServer {
    /// All of a capture at its original speed, once, over TLS on a free port of 127.0.0.1, staying
    /// connected afterwards; unless something else is said.
    pub fn builder(capture: Capture) -> Builder {
        Builder(Options::new(capture))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT` as a client on this machine can use it.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The feed's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority to trust, in PEM, if it was made up for this run.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The topics that can be subscribed to.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// What controls it. It may be cloned, and outlive the server.
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Waits for its end, which comes by itself only after `once` or a timeout. Dropping the future ends
    /// it.
    pub async fn report(mut self) -> Result<Report> {
        let report = self.report.as_mut().expect("it is taken here only").await;
        report.map_err(|_| fault("the server has failed".to_owned()))
    }

    /// Tells all clients that it is going away, and waits for its end. Dropping the future ends it without
    /// that.
    pub async fn stop(mut self) -> Result<Report> {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        self.report().await
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // It has been told to vanish, or has. If it failed, its report says so.
            let _ = thread.join();
        }
    }
}
