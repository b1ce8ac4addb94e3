//! `centralcap encode`.

use std::{
    io,
    path::{Path, PathBuf},
};

use centralcap::{
    encode::{self, Input, Options, START},
    entry::Timestamp,
    error,
    select::time,
};

use super::{
    Outcome, Words, begin_capture,
    decode::{self, Bytes},
    made,
};

/// Turn lines of JSON back into a capture: the inverse of decode.
///
/// A line is what decode writes, or has at least "topic" and "data". What it does not say is made up:
/// the subscription is named after the topic, and each frame comes a second after the one before it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of lines, packed by zstd or not; - is stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    inputs: Vec<PathBuf>,

    /// The new capture, which must not exist yet.
    #[arg(short, long, value_name = "FILE.mcap")]
    output: PathBuf,

    /// How bytes are written: by meaning (MAC, IP, ESSID, else base64), or always one way.
    #[arg(long, value_name = "STYLE", default_value = "text")]
    bytes: Bytes,

    /// Take each frame's bytes from "@raw", which decode --raw writes, whatever else its line says.
    #[arg(long)]
    raw: bool,

    /// When the first frame is received, if its line does not say (RFC 3339).
    #[arg(long, value_name = "TIME", default_value_t = START, value_parser = time)]
    start: Timestamp,

    /// Encode with the .proto files in this folder before those that are bundled.
    #[arg(long, value_name = "DIR")]
    proto: Option<PathBuf>,

    /// Encode the payloads of a topic as this message (may be given more than once).
    #[arg(long, value_name = "TOPIC=MESSAGE", value_parser = decode::payload)]
    payload: Vec<(String, String)>,
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let Args { inputs, output, bytes, raw, start, proto, payload } = args;
    let resolver = decode::resolver(proto.as_deref(), &payload)?;
    let options = Options { bytes: bytes.style(), raw, start, resolver: resolver.clone() };
    let inputs = inputs.iter().map(|path| input(path)).collect::<error::Result<_>>()?;
    begin_capture(&output)?;
    let summary = encode::write(&options, inputs, &output)?;
    decode::warn_of_unheard(&resolver, words);
    words.say(made(summary.frames, summary.bytes, summary.size, &output));
    Ok(Outcome::Done)
}

fn input(path: &Path) -> error::Result<Input> {
    if path == Path::new("-") {
        return Input::new("stdin", io::stdin());
    }
    Input::open(path)
}
