//! Wire bytes to values. Knows no file and no socket.

pub mod bytes;
pub mod reflect;
pub mod wire;
