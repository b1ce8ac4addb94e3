//! What a capture is: one `.mcap` file, or a folder of segments. See <https://mcap.dev/spec>.
//!
//! A segment is *hot* while it is recorded (`NAME.open.mcap`, unchunked, every batch in the kernel
//! before the next read from the network) and *sealed* afterwards (`NAME.mcap`, zstd chunks, indexes
//! and checksums). Both are read the same way, strictly: what does not check out is named as damage and left
//! out, and what is whole behind it is read.
//! This module knows the container and nothing of the payloads in it.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

pub use self::{
    catalog::{Capture, Channel, Entries, InChunks, Segment},
    chunk::Unpacked,
    hot::{HotSegment, Unsynced},
    past::{LOST_KEPT, PastDamage, RESULT},
    place::{Place, Places},
    reader::each_record,
    seal::{LeftOver, LeftOvers, Sealed, left_overs, seal, seal_left_overs, sealed_left_over},
    summary::{Contents, contents},
    tail::Tail,
    unfinished::discard,
    writer::{Compression, SealedFile, Writer},
};
pub(crate) use self::{
    hot::{CHECKPOINT, Checkpoint},
    past::{past_damage, records_of_damage},
    proof::Summary,
    record::MESSAGE_HEADER_SIZE,
    salvage::Search,
    seal::seal_unless,
    summary::declared,
};
use crate::{
    codec::walk,
    entry::{FrameType, Subscription, Timestamp},
    error::{Kind, Result},
};

mod catalog;
mod chunk;
mod entries;
mod hot;
mod loss;
mod past;
mod place;
mod proof;
mod reader;
mod record;
mod rooms;
mod salvage;
mod seal;
mod stretch;
mod summary;
mod tail;
pub(crate) mod unfinished;
mod writer;

/// The MCAP profile of a capture, and the name of its metadata record.
pub const PROFILE: &str = "centralcap";

/// How the name of a hot segment ends.
pub const HOT_SUFFIX: &str = ".open.mcap";

/// How the name of a sealed segment ends.
pub const SEALED_SUFFIX: &str = ".mcap";

/// How the name of a hot segment ends that could not be sealed as it was; a number may follow.
pub const SET_ASIDE_SUFFIX: &str = ".mcap.damaged";

/// An opcode and a length stand before every record.
pub(crate) const RECORD_HEADER_SIZE: usize = 1 + 8;

/// No record and no chunk may be larger than this, compressed or not: what a file says about its
/// sizes is never believed beyond it. It leaves room for the largest message and its neighbours in
/// one chunk.
pub const RECORD_LIMIT: usize = MESSAGE_LIMIT_MAX + 16 * 1024 * 1024;

/// The largest value that the limit on a message's size can be set to.
pub const MESSAGE_LIMIT_MAX: usize = walk::MESSAGE_LIMIT;

/// What a capture says about itself, in its metadata record.
#[derive(Clone, Debug)]
pub struct About {
    /// When the recording was started.
    pub started: Timestamp,
    /// The recorder's host name; empty if it is not to be told.
    pub host: String,
    /// The options that matter to a reader. Never a key.
    pub options: BTreeMap<String, String>,
}

impl About {
    fn metadata(&self, types: &[&FrameType]) -> mcap::records::Metadata {
        let mut metadata = BTreeMap::from([
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("started".to_owned(), self.started.to_string()),
            ("host".to_owned(), self.host.clone()),
        ]);
        for (name, value) in &self.options {
            metadata.insert(format!("option.{name}"), value.clone());
        }
        for kind in types {
            let payload = kind.payload.as_deref().unwrap_or("unknown");
            metadata.insert(format!("sha256.{payload}"), sha256(&kind.descriptors));
        }
        mcap::records::Metadata { name: PROFILE.to_owned(), metadata }
    }
}

pub(crate) fn sha256(data: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(data)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The metadata of a channel: who it belongs to, and what its messages hold.
fn channel_metadata(
    subscription: &Subscription,
    payload: Option<&str>,
) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("protocol".to_owned(), subscription.protocol.clone()),
        ("subscription".to_owned(), subscription.name.clone()),
        ("topic".to_owned(), subscription.topic.clone()),
        ("host".to_owned(), subscription.host.clone()),
    ]);
    metadata.extend(payload.map(|name| ("payload".to_owned(), name.to_owned())));
    metadata
}

/// What is in a file that is no capture, as far as its beginning says so plainly.
pub(crate) fn stranger(path: &Path) -> &'static str {
    let mut begin = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut begin));
    match begin.trim_ascii_start() {
        _ if read.is_err() => "something else",
        [0x1f, 0x8b, ..] => "what gzip has packed",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "what zstd has packed",
        [b'{', ..] => "JSON",
        _ => "something else",
    }
}

/// Fails on what can be read only once: opening a pipe would also wait until somebody writes to it.
pub(crate) fn refuse_pipe(path: &Path, expected: &'static str) -> Result<()> {
    let found = match path.metadata() {
        Ok(metadata) if is_pipe(&metadata) => format!("the pipe {}", path.display()),
        Err(_) if path == Path::new("-") => "stdin".to_owned(),
        _ => return Ok(()),
    };
    Err(Kind::Pipe { expected, found }.into())
}

#[cfg(unix)]
fn is_pipe(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;

    metadata.file_type().is_fifo()
}

/// Pipes have no place in a folder there.
#[cfg(not(unix))]
const fn is_pipe(_: &std::fs::Metadata) -> bool {
    false
}
