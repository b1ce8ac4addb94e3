//! The network: the only asynchronous code besides the two flows that use it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub mod client;
mod gulp;
pub(crate) mod listening;
pub mod pages;
pub mod server;
pub mod tls;
pub mod trust;
pub mod ws;

/// Where a client on this machine finds what listens there.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
