//! Telling systemd how it goes, where it wants to be told: sd_notify(3), one datagram for each thing.
//!
//! A recording is not to suffer from whoever watches it: where nobody listens, or nobody reads, the
//! words are lost.

#[cfg(not(unix))]
use std::convert::Infallible as Socket;
#[cfg(unix)]
use std::os::unix::net::UnixDatagram as Socket;
use std::{ffi::OsStr, io, sync::Arc, time::Duration};

use centralcap::record::{Board, Notice};

use super::status;

/// How often the status is told, at the least.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The shortest time between two words.
const LEAST: Duration = Duration::from_millis(10);

/// The writing thread has something to do twice a second; what takes it so long may still be a slow
/// disk.
const SLOW: Duration = Duration::from_secs(2);

/// Somebody who may want to be told.
pub(super) struct Systemd {
    socket: Option<Socket>,
    /// Who hears nothing for so long restarts us.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment says.
    pub(super) fn from_environment() -> Arc<Self> {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connected(&name).ok());
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        // The variables may be meant for whoever started us.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let micros = number("WATCHDOG_USEC").filter(|&micros| is_ours && micros > 0);
        Arc::new(Self { socket, watchdog: micros.map(Duration::from_micros) })
    }

    /// A recording that has started is ready.
    pub(super) fn heard(&self, notice: &Notice<'_>) {
        match notice {
            Notice::Started => self.tell("READY=1\nSTATUS=recording"),
            Notice::Stopping => self.tell("STOPPING=1\nSTATUS=sealing"),
            _ => {}
        }
    }

    /// Says how it goes, again and again. While the writing hangs, nobody says that all is well.
    pub(super) async fn keep_telling(self: Arc<Self>, board: Arc<Board>) {
        if self.socket.is_none() {
            return;
        }
        let half = self.watchdog.map(|time| time / 2);
        let mut ticks =
            tokio::time::interval(half.unwrap_or(STATUS_EVERY).clamp(LEAST, STATUS_EVERY));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let status = format!("STATUS={}", status::standing(&board.read()));
            match half {
                Some(half) if board.stalled() <= half.max(SLOW) => {
                    self.tell(&format!("WATCHDOG=1\n{status}"));
                }
                _ => self.tell(&status),
            }
        }
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            send(socket, state.as_bytes());
        }
    }
}

#[cfg(unix)]
fn send(socket: &Socket, state: &[u8]) {
    let _ = socket.send(state);
}

#[cfg(not(unix))]
fn send(socket: &Socket, _: &[u8]) {
    match *socket {}
}

/// A socket with a path, or with a name that begins with `@` and is in no folder.
#[cfg(unix)]
fn connected(name: &OsStr) -> io::Result<Socket> {
    let socket = Socket::unbound()?;
    // Who does not read is not waited for.
    socket.set_nonblocking(true)?;
    match name.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => connect_abstract(&socket, name)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn connect_abstract(socket: &Socket, name: &[u8]) -> io::Result<()> {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};

    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Only Linux has such names.
#[cfg(all(unix, not(target_os = "linux")))]
fn connect_abstract(_: &Socket, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nobody listens where there is no systemd.
#[cfg(not(unix))]
fn connected(_: &OsStr) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}
