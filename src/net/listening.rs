//! An address that is taken before anybody is answered there.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::error::{Error, Kind, Result};

/// How long to wait where the system has no socket to spare.
pub(crate) const BREATH: Duration = Duration::from_millis(100);

/// An address that is ours; nobody is answered there yet.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Takes the address; port 0 takes a free one. Whoever connects from now on waits to be served.
    pub(crate) fn at(address: SocketAddr) -> Result<Self> {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(Self { address: listener.local_addr()?, listener })
        });
        bound.map_err(|source| Kind::Listen { address: address.to_string(), source }.into())
    }

    /// Where it is, with the port that was free.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tells who connects. Needs a tokio runtime.
    pub(crate) fn open(self) -> Result<TcpListener> {
        let address = self.address.to_string();
        TcpListener::from_std(self.listener)
            .map_err(|source| Error::from(Kind::Listen { address, source }))
    }
}

/// The next who connects. Dropping the future misses nobody.
pub(crate) async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => sleep(BREATH).await,
        }
    }
}
