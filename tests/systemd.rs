//! What systemd is told, on a socket that the test owns.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use support::feed::{Feed, Reply, Say};

/// What takes so long will never come.
const AT_MOST: Duration = Duration::from_secs(60);

/// A recording, and the socket on which it says how it goes.
struct Running {
    child: Child,
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Running {
    /// On a socket in a folder, as systemd has it.
    fn start(feed: &Feed, more: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::start_with(feed, folder, socket, path.to_str().unwrap(), more)
    }

    fn start_with(
        feed: &Feed,
        folder: tempfile::TempDir,
        socket: UnixDatagram,
        name: &str,
        more: impl FnOnce(&mut Command),
    ) -> Self {
        socket.set_read_timeout(Some(AT_MOST)).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        command
            .args(["record", "--hostname", &feed.url(), "--topic", "audit", "-o"])
            .arg(folder.path().join("recordings"))
            .env("CENTRALCAP_KEY", "synthetic-key-for-tests")
            .env("NOTIFY_SOCKET", name)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        more(&mut command);
        Self { child: command.spawn().unwrap(), socket, _folder: folder }
    }

    /// The next thing that it says.
    #[track_caller]
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let count = self.socket.recv(&mut buffer).expect("a word within the time");
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    /// The next thing that it says of which this holds.
    #[track_caller]
    fn until(&self, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + AT_MOST;
        loop {
            let said = self.next();
            if holds(&said) {
                return said;
            }
            assert!(Instant::now() < deadline, "{said}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether one of the lines is this one.
fn is(said: &str, line: &str) -> bool {
    said.lines().any(|said| said == line)
}

fn frame() -> Say {
    Say::Binary(Bytes::from_static(b"\x12\x05audit"))
}

fn watched(command: &mut Command) {
    command.env("WATCHDOG_USEC", "200000");
}

#[test]
fn it_says_when_it_is_ready_how_it_goes_and_when_it_stops() {
    let feed = Feed::answering(|_| Reply::Feed(vec![frame(), Say::Stay]));
    // A name that is in no folder.
    let name = format!("centralcap-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start_with(&feed, folder, socket, &format!("@{name}"), watched);
    running.until(|said| is(said, "READY=1"));
    let going = running.until(|said| said.contains("STATUS=1 of 1 connected, 1 frame"));
    assert!(is(&going, "WATCHDOG=1"), "{going}");
    kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
    running.until(|said| is(said, "STOPPING=1"));
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_watchdog_that_is_not_ours_is_not_fed() {
    let feed = Feed::answering(|_| Reply::Feed(vec![Say::Stay]));
    let running = Running::start(&feed, |command| {
        watched(command);
        command.env("WATCHDOG_PID", "1");
    });
    let without_watchdog = |line: &'static str| {
        move |said: &str| {
            assert!(!is(said, "WATCHDOG=1"), "{said}");
            said.contains(line)
        }
    };
    running.until(without_watchdog("STATUS="));
    kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
    running.until(without_watchdog("STOPPING=1"));
}
