//! Wire bytes to values. Knows no file and no socket.

pub mod wire;
