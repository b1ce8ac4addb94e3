//! Keys and the input file while a recording runs: how often the server is asked, what becomes of a
//! renewed key, and what an edited file changes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use support::feed::{Feed, Reply, Request, Say};

/// What takes so long will never come.
const AT_MOST: Duration = Duration::from_secs(60);

/// A recording of an input file that runs, into a folder.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(feed: &Feed, input: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("input.json"), input).unwrap();
        let child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
            .args(["record", "-v", "--hostname", &feed.url(), "--input"])
            .arg(folder.path().join("input.json"))
            .arg("-o")
            .arg(folder.path().join("recordings"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All that was said so far.
    fn words(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// Waits until it holds.
    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + AT_MOST;
        while !holds() {
            assert!(Instant::now() < deadline, "no {what}: {}", self.words());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An input file with one subscription for each name and key.
fn input<'a>(subscriptions: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entries = subscriptions.into_iter().map(|(name, key)| {
        format!("    \"{name}\": {{\"wsskey\": \"{key}\", \"topic\": \"monitoring\"}}")
    });
    format!("{{\n  \"customers\": {{\n{}\n  }}\n}}\n", entries.collect::<Vec<_>>().join(",\n"))
}

fn duration(requests: &[Request]) -> Duration {
    let at = |request: Option<&Request>| request.unwrap().at;
    at(requests.iter().max_by_key(|request| request.at))
        - at(requests.iter().min_by_key(|request| request.at))
}

#[test]
fn a_hundred_connections_that_are_dropped_at_once_come_back_twenty_a_second() {
    const MANY: usize = 100;

    let (count, together) = (AtomicUsize::new(0), Arc::new(Barrier::new(MANY)));
    let feed = Feed::answering(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        number if number < MANY => Reply::Feed(vec![Say::Meet(Arc::clone(&together)), Say::Drop]),
        _ => Reply::Feed(vec![Say::Stay]),
    });
    let names: Vec<_> = (0..MANY).map(|number| format!("feed-{number}")).collect();
    let running = Running::start(
        &feed,
        &input(names.iter().map(|name| (name.as_str(), "synthetic-key-for-tests"))),
    );
    running.wait_for("second connections", || feed.requests().len() == 2 * MANY);
    let (first, second) = (&feed.requests()[..MANY], &feed.requests()[MANY..]);
    // A hundred at twenty a second take four seconds from the first to the last, the last twenty
    // being there at once.
    for wave in [first, second] {
        assert!(duration(wave) >= Duration::from_secs(4), "{:?}", duration(wave));
    }
}
