//! `centralcap synth`.

use std::path::PathBuf;

use centralcap::{
    entry::Timestamp,
    error::Error,
    select::time,
    synth::{self, Options, START},
};

use super::{Outcome, Words, begin_capture, made, select};

/// Make a capture from a seed: believable frames for those who have no feed at hand.
///
/// The same seed and version give the same bytes. Devices, clients and networks are made up; addresses
/// are from the ranges for documentation.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Everything follows from this.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = select::number::<u64>)]
    seed: u64,

    /// How many frames.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = select::number::<u64>)]
    messages: u64,

    /// Only these topics, separated by commas.
    #[arg(long, value_name = "TOPICS", value_delimiter = ',')]
    topics: Vec<String>,

    /// How many devices each customer has.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = select::number::<usize>)]
    devices: usize,

    /// How many customers, 8 at most, each with a subscription of each topic.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = select::number::<usize>)]
    customers: usize,

    /// Frames per second over all, instead of the feed's own cadence.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// When the first frame is received (RFC 3339).
    #[arg(long, value_name = "TIME", default_value_t = START, value_parser = time)]
    start: Timestamp,

    /// The new capture.
    #[arg(short, long, value_name = "FILE.mcap")]
    output: PathBuf,
}

fn rate(text: &str) -> Result<f64, Error> {
    text.parse().map_err(|_| {
        let hint = "rates look like 1000 or 0.5";
        Error::usage("a number of frames a second", format!("{text:?}"), hint)
    })
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let Args { seed, messages, topics, devices, customers, rate, start, output } = args;
    let options = Options { seed, messages, topics, devices, customers, rate, start };
    begin_capture(&output)?;
    let summary = synth::write(&options, &output)?;
    words.say(made(summary.frames, summary.bytes, summary.size, &output));
    Ok(Outcome::Done)
}
