//! The network: the only asynchronous code besides the two flows that use it.

pub mod client;
mod gulp;
pub mod pages;
pub mod server;
pub mod tls;
pub mod trust;
pub mod ws;
