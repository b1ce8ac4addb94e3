//! `centralcap decode`.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use centralcap::{
    capture::Capture,
    codec::plan::{BytesStyle, EnumStyle, Int64Style, Style},
    decode, error, schema,
    schema::Resolver,
    sink::ndjson::Ndjson,
};
use clap::ValueEnum;

use super::{Outcome, Words, select};

/// Turn a capture into data: one line of JSON for each frame.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: select::Args,

    /// Write to this file, which must not exist yet; - is stdout.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

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
    pub(super) fn sink(&self) -> centralcap::error::Result<Ndjson> {
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
        Ok(Ndjson::new(Resolver::new(user, payloads)?, style))
    }
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let mut sink = args.style.sink()?;
    let capture = Capture::open(&args.select.paths)?;
    let entries = args.select.selection().of(capture.entries());

    let mut lost = |error: &error::Error| words.warn(error);
    let summary = match &*args.output {
        path if path == Path::new("-") => {
            decode::decode(entries, &mut sink, &mut io::stdout().lock(), &mut lost)?
        }
        path => decode::decode(entries, &mut sink, &mut decode::create(path)?, &mut lost)?,
    };
    if summary.undecodable + summary.damaged == 0 {
        return Ok(Outcome::Done);
    }
    words.say(format_args!(
        "{} frames decoded, {} could not be, {} damaged places",
        summary.decoded, summary.undecodable, summary.damaged
    ));
    Ok(Outcome::Lossy)
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
