//! A connection to somebody who reads lines.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use super::outlet::{Outlet, SLICE, is_not_yet};

/// How long one address has to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Whoever takes nothing for so long is dead, or as good as that.
const STALLED: Duration = Duration::from_secs(10);

/// The other side.
pub(super) struct Peer {
    stream: TcpStream,
    /// Since when it has taken nothing, if it should have.
    stuck: Option<Instant>,
}

impl Peer {
    /// Tries all addresses of `HOST:PORT`.
    pub(super) fn connect(address: &str) -> io::Result<Self> {
        let mut failed = io::Error::other("the host has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(SLICE))?;
                    stream.set_nodelay(true)?;
                    return Ok(Self { stream, stuck: None });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Reads what is there, which nobody wants. False: the other side has closed.
    fn discard(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if is_not_yet(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Outlet for Peer {
    /// What is sent to somebody who has closed is lost without a word: the system finds out too late. So
    /// it is looked before each write. Closing one direction counts, too.
    fn check(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let is_open = self.discard();
        self.stream.set_nonblocking(false)?;
        if is_open? { Ok(()) } else { Err(io::Error::other("the other side has closed")) }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self.stream.write(text) {
            Ok(count) => {
                self.stuck = None;
                Ok(count)
            }
            Err(error) if is_not_yet(&error) => {
                let stuck = self.stuck.get_or_insert_with(Instant::now);
                if stuck.elapsed() < STALLED {
                    return Err(error);
                }
                let reason = format!("nothing was read for {} s", STALLED.as_secs());
                Err(io::Error::other(reason))
            }
            Err(error) => Err(error),
        }
    }

    fn close(self: Box<Self>) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Writes until nothing more is taken.
    fn fill(peer: &mut Peer) -> io::Error {
        loop {
            if let Err(error) = peer.write(&[b'.'; 16 * 1024]) {
                return error;
            }
        }
    }

    #[test]
    fn whoever_takes_nothing_for_ten_seconds_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = Peer::connect(&listener.local_addr().unwrap().to_string()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        let ago = |time| Instant::now().checked_sub(time);

        assert!(is_not_yet(&fill(&mut peer)));
        let since = peer.stuck.expect("it is stuck");
        assert!(is_not_yet(&fill(&mut peer)));
        assert_eq!(peer.stuck, Some(since));
        peer.stuck = ago(STALLED / 2);
        assert!(is_not_yet(&fill(&mut peer)));

        // Reading some of it is a sign of life.
        let mut some = vec![0; 16 << 20];
        while peer.stuck.is_some() {
            assert!(reader.read(&mut some).unwrap() > 0);
            let _ = peer.write(b".");
        }
        assert!(is_not_yet(&fill(&mut peer)));
        assert!(peer.stuck.expect("it is stuck again") > since);

        peer.stuck = ago(STALLED);
        assert_eq!(fill(&mut peer).to_string(), "nothing was read for 10 s");
    }
}
