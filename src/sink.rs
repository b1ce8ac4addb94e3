//! What decoded frames are written as.

pub mod ndjson;
