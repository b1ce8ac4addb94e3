//! `centralcap decode`.

use std::{
    collections::HashMap,
    io,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use centralcap::{
    capture::Capture,
    codec::{
        notes::Drift,
        plan::{BytesStyle, EnumStyle, Int64Style, Style},
    },
    decode, error, schema,
    schema::Resolver,
    sink::{ndjson::Ndjson, stream::Stream},
};
use clap::ValueEnum;

use super::{Outcome, Words, select};

/// Turn a capture into data: one line of JSON for each frame.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: select::Args,

    /// Write to this file, which must not exist yet, compressed if its name ends in .zst; - is stdout.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    /// Stop at the first frame that cannot be decoded, and at the first damage.
    #[arg(long)]
    strict: bool,

    /// How many threads decode [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// Show what the schema does not know, under "@unknown".
    #[arg(long, help_heading = "Decoding")]
    unknown: bool,

    #[command(flatten)]
    style: StyleArgs,
}

/// How frames are decoded and spelled, here and while recording.
#[derive(Debug, clap::Args)]
pub(super) struct StyleArgs {
    /// Show bytes by meaning (MAC, IP, ESSID, else base64), or always one way.
    #[arg(long, value_name = "STYLE", default_value = "text", help_heading = "Decoding")]
    bytes: Bytes,

    /// Show 64-bit integers as strings, which no reader of JSON rounds, or as numbers.
    #[arg(long, value_name = "STYLE", default_value = "string", help_heading = "Decoding")]
    int64: Int64,

    /// Show enum values by name or by number.
    #[arg(long, value_name = "STYLE", default_value = "name", help_heading = "Decoding")]
    enums: Enums,

    /// Show absent fields for which the schema declares a value.
    #[arg(long, help_heading = "Decoding")]
    defaults: bool,

    /// Decode with the .proto files in this folder before those that the capture carries.
    #[arg(long, value_name = "DIR", help_heading = "Decoding")]
    proto: Option<PathBuf>,

    /// Decode the payloads of a topic as this message (may be given more than once).
    #[arg(long, value_name = "TOPIC=MESSAGE", help_heading = "Decoding", value_parser = payload)]
    payload: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bytes {
    Text,
    Base64,
    Hex,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Int64 {
    String,
    Number,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Enums {
    Name,
    Number,
}

impl StyleArgs {
    /// A sink that does as was asked.
    pub(super) fn sink(&self) -> error::Result<Ndjson> {
        self.sinks(1).map(|mut sinks| sinks.remove(0))
    }

    /// So many of them.
    fn sinks(&self, count: usize) -> error::Result<Vec<Ndjson>> {
        let style = Style {
            bytes: match self.bytes {
                Bytes::Text => BytesStyle::Text,
                Bytes::Base64 => BytesStyle::Base64,
                Bytes::Hex => BytesStyle::Hex,
            },
            int64: match self.int64 {
                Int64::String => Int64Style::String,
                Int64::Number => Int64Style::Number,
            },
            enums: match self.enums {
                Enums::Name => EnumStyle::Name,
                Enums::Number => EnumStyle::Number,
            },
            defaults: self.defaults,
        };
        let user = self.proto.as_deref().map(schema::from_folder).transpose()?;
        let payloads: HashMap<_, _> = self.payload.iter().cloned().collect();
        let sink = || Ok(Ndjson::new(Resolver::new(user.clone(), payloads.clone())?, style));
        (0..count).map(|_| sink()).collect()
    }
}

/// So many losses are told one by one, unless the user wants more.
const TOLD: u64 = 20;

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let threads = args.threads.or_else(|| thread::available_parallelism().ok());
    let sinks = args.style.sinks(threads.map_or(1, NonZero::get))?;
    let mut sinks: Vec<_> =
        sinks.into_iter().map(|sink| sink.showing_unknown(args.unknown)).collect();
    let capture = Capture::open(&args.select.paths)?;
    let entries = args.select.selection().of(capture.entries());

    let mut told = 0;
    let lost = |error: &error::Error| {
        told += 1;
        if told <= TOLD || words.verbose {
            words.warn(error);
        }
    };
    let mut out = match &*args.output {
        path if path == Path::new("-") => Stream::new(io::stdout()),
        path => Stream::create(path)?,
    };
    let summary = decode::decode(entries, &mut sinks, &mut out, args.strict, lost)?;
    if told > TOLD && !words.verbose {
        words.warn(format_args!("{} more of these, which --verbose shows", told - TOLD));
    }
    if !summary.drift.is_empty() {
        words.say(described(&summary.drift));
    }
    if summary.undecodable + summary.damaged == 0 {
        return Ok(Outcome::Done);
    }
    words.say(format_args!(
        "{} frames decoded, {} could not be, {} damaged places",
        summary.decoded, summary.undecodable, summary.damaged
    ));
    Ok(Outcome::Lossy)
}

/// What the schema did not know, on one line: the most frequent kinds, and how many others.
fn described(drift: &Drift) -> String {
    const SHOWN: usize = 3;

    let counts = drift.counts();
    let shown: Vec<_> = counts
        .iter()
        .take(SHOWN)
        .map(|(message, note, count)| format!("{count}x {note} ({message})"))
        .collect();
    let more = match counts.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more kinds"),
    };
    format!("not as the schema says: {}{more}", shown.join(", "))
}

fn payload(text: &str) -> Result<(String, String), error::Error> {
    match text.split_once('=') {
        Some((topic, message)) if !topic.is_empty() && !message.is_empty() => {
            Ok((topic.to_owned(), message.to_owned()))
        }
        _ => Err(error::Error::usage(
            "TOPIC=MESSAGE",
            format!("{text:?}"),
            "for example monitoring=Monitoring.MonitoringInformation",
        )),
    }
}
