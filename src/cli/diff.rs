//! `centralcap diff`.

use std::path::{Path, PathBuf};

use centralcap::{
    capture::Capture,
    diff::{self, Entries, FieldPath, Options, Report, Side, Source},
    encode::{self, Lines, START},
    error::{Error, Result, counted},
};

use super::{
    Outcome, Words,
    decode::{self, Bytes},
    losses::Losses,
    select::{self, SelectionArgs},
};

/// Compare two captures, or a capture and lines of JSON that decode has written, by what is in the frames.
///
/// Frames of a subscription are compared in their order, as a text diff compares lines. Between two that
/// are the same, frames of the same type about the same devices, clients and so on are taken for changed,
/// then frames of the same type; what is left is missing in B, or added there. Not compared: when frames
/// were received, their sequence numbers, session events, and how bytes are encoded. Both are read twice
/// if anything differs; 40 bytes of memory are taken for each frame.
///
/// The exit code is 0 if nothing differs, 1 if something does, and 3 if nothing does of what could be
/// read, but something is damaged or cannot be decoded.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A capture (a file or a folder), or a file of lines as decode writes them, packed by zstd or not.
    #[arg(value_name = "A")]
    a: PathBuf,

    /// What it is compared with.
    #[arg(value_name = "B")]
    b: PathBuf,

    /// Do not compare this field (may be given more than once): a path such as timestamp or
    /// data.aps[].serial. @times are all times that are numbers, @unknown all fields that the schema does not
    /// know, data.aps.#77 is one of them, and @schema is what the schemas declare.
    #[arg(long, value_name = "PATH")]
    ignore: Vec<FieldPath>,

    /// Compare when frames were received, too.
    #[arg(long)]
    times: bool,

    /// A frame that is the same in another place of its subscription is the same.
    #[arg(long)]
    any_order: bool,

    /// Show N differences at most; all are counted.
    #[arg(long, value_name = "N", default_value_t = diff::SHOWN, value_parser = select::number::<usize>)]
    show: usize,

    /// Print one JSON document; docs/diff-json.md says what is in it.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    selection: SelectionArgs,

    /// Show bytes, and read those in lines, by meaning (MAC, IP, ESSID, else base64), or always one way.
    #[arg(long, value_name = "STYLE", default_value = "text", help_heading = "Decoding")]
    bytes: Bytes,

    /// Decode with the .proto files in this folder before those that the captures carry.
    #[arg(long, value_name = "DIR", help_heading = "Decoding")]
    proto: Option<PathBuf>,

    /// Decode the payloads of a topic as this message (may be given more than once).
    #[arg(long, value_name = "TOPIC=MESSAGE", help_heading = "Decoding", value_parser = decode::payload)]
    payload: Vec<(String, String)>,
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let resolver = decode::resolver(args.proto.as_deref(), &args.payload)?;
    let options = Options {
        selection: args.selection.selection(),
        resolver: resolver.clone(),
        bytes: args.bytes.style(),
        ignore: args.ignore,
        times: args.times,
        any_order: args.any_order,
        shown: args.show,
    };
    let lines = encode::Options { bytes: args.bytes.style(), raw: false, start: START, resolver };
    let (a, b) = (Input::open(&args.a, &lines)?, Input::open(&args.b, &lines)?);
    let ignores_unknown = options.ignore.iter().any(FieldPath::is_all_unknown);
    let mut losses = Losses::new(words);
    let lost = |side, error: &Error| {
        let path = if side == Side::A { &args.a } else { &args.b };
        losses.tell(format_args!("{}: {error}", path.display()));
    };
    let report = diff::diff(&a, &b, &options, lost)?;
    losses.tell_rest();
    show(&report, args.json, words)?;
    let left_out = report.a.without_unknown + report.b.without_unknown;
    if left_out > 0 && !ignores_unknown {
        words.say(format_args!(
            "not compared: fields of {} that the schema does not know, as the lines tell of \
             none; decode --unknown writes them",
            counted(left_out, "frame")
        ));
    }
    let compared = report.a.frames + report.b.frames;
    if compared > 0 {
        decode::warn_of_unheard(&options.resolver, words);
    }
    let is_none = select::warn_if_none(&options.selection, compared, words);
    Ok(match () {
        () if !report.equal => Outcome::Failed,
        // That nothing differs of nothing proves nothing.
        () if report.is_lossy() || is_none => Outcome::Lossy,
        () => Outcome::Done,
    })
}

fn show(report: &Report, json: bool, words: Words) -> anyhow::Result<()> {
    let page = match () {
        () if json => report.json(),
        () if words.quiet => String::new(),
        () => report.text(),
    };
    super::print(&page)?;
    words.say(report.summary());
    for (name, read) in [("A", report.a), ("B", report.b)] {
        if read.undecodable + read.damaged > 0 {
            words.say(format_args!(
                "{name}: {} compared by bytes, as decoding failed; {}",
                counted(read.undecodable, "frame"),
                counted(read.damaged, "damaged place")
            ));
        }
    }
    Ok(())
}

/// What a path leads to.
enum Input {
    Capture(Capture),
    Lines { lines: Lines, show_unknown: bool },
}

impl Input {
    fn open(path: &Path, options: &encode::Options) -> Result<Self> {
        if path == Path::new("-") {
            let hint = "both are read more than once: write it to a file";
            return Err(Error::usage("a file or a folder", "-", hint));
        }
        if Lines::are_in(path)? {
            let lines = Lines::new(path, options);
            let show_unknown = lines.show_unknown()?;
            return Ok(Self::Lines { lines, show_unknown });
        }
        Ok(Self::Capture(Capture::open(&[path])?))
    }
}

impl Source for Input {
    fn entries(&self) -> Result<Entries<'_>> {
        Ok(match self {
            Self::Capture(capture) => Box::new(capture.entries()),
            Self::Lines { lines, .. } => Box::new(lines.entries()?),
        })
    }

    fn has_schema(&self) -> bool {
        matches!(self, Self::Capture(_))
    }

    fn shows_unknown(&self) -> bool {
        match self {
            Self::Capture(_) => true,
            Self::Lines { show_unknown, .. } => *show_unknown,
        }
    }
}
