//! `centralcap decode`.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, IsTerminal, Write},
    mem,
    num::NonZero,
    ops::ControlFlow,
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context;
use centralcap::{
    capture::Tail,
    codec::{
        notes::Drift,
        plan::{BytesStyle, EnumStyle, Int64Style, Style},
    },
    decode::{self, Summary},
    entry::Entry,
    error::{self, counted},
    plain, schema,
    schema::Resolver,
    select::Selected,
    sink::{
        Output, Sink,
        csv::{Csv, Folder, Lines},
        filter::{Condition, Filtered},
        json::{Document, Json},
        ndjson::Ndjson,
        select::Select,
        stream::Stream,
    },
};
use clap::ValueEnum;

use super::{
    Outcome, Words,
    follow::{Audience, one_of},
    losses::Losses,
    select, signal,
};

/// Turn a capture into data: lines of JSON, or tables.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    capture: select::Args,

    /// One line of JSON for each frame; one JSON document with an array for each topic; or a folder of
    /// CSV tables, one for each list that frames have [default: ndjson, or csv with --select]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Write to this file, which must not exist yet, compressed if its name ends in .zst, or to this
    /// folder; it gets its name when it is whole. - is stdout, and pipes and devices take what comes.
    #[arg(short, long, value_name = "PATH", default_value = "-")]
    output: PathBuf,

    /// One CSV table with these columns, such as 'time,subscription,data.aps[].serial': a row for each
    /// element of the innermost list.
    #[arg(long, value_name = "COLUMNS")]
    select: Option<Select>,

    /// Only frames for which this jq expression holds. Asked after the selection: --limit counts the
    /// frames that are asked, not those that pass.
    #[arg(long = "where", value_name = "EXPR")]
    condition: Option<Condition>,

    /// Go on with what a recorder writes, until Ctrl-C: each frame is written within a second of its being
    /// recorded. One file or folder, and lines only.
    #[arg(long, conflicts_with = "threads")]
    follow: bool,

    /// Stop at the first frame that cannot be decoded, and at the first damage. -o leaves nothing then.
    #[arg(long)]
    strict: bool,

    /// How many threads decode, 16 at most [default: one for each core]
    #[arg(long, value_name = "N", value_parser = select::count::<NonZero<usize>>)]
    threads: Option<NonZero<usize>>,

    /// Show what the schema does not know, under "@unknown".
    #[arg(long, help_heading = "Decoding")]
    unknown: bool,

    /// Show the frame's bytes as base64 beside what they say, under "@raw".
    #[arg(long, help_heading = "Decoding")]
    raw: bool,

    #[command(flatten)]
    style: StyleArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Json,
    Csv,
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
pub(super) enum Bytes {
    Text,
    Base64,
    Hex,
}

impl Bytes {
    pub(super) const fn style(self) -> BytesStyle {
        match self {
            Self::Text => BytesStyle::Text,
            Self::Base64 => BytesStyle::Base64,
            Self::Hex => BytesStyle::Hex,
        }
    }
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
        Ok(Ndjson::new(self.resolver()?, self.style()))
    }

    pub(super) fn style(&self) -> Style {
        Style {
            bytes: self.bytes.style(),
            int64: match self.int64 {
                Int64::String => Int64Style::String,
                Int64::Number => Int64Style::Number,
            },
            enums: match self.enums {
                Enums::Name => EnumStyle::Name,
                Enums::Number => EnumStyle::Number,
            },
            defaults: self.defaults,
        }
    }

    pub(super) fn resolver(&self) -> error::Result<Resolver> {
        resolver(self.proto.as_deref(), &self.payload)
    }
}

/// What knows the schemas that the user gave.
pub(super) fn resolver(
    proto: Option<&Path>,
    payloads: &[(String, String)],
) -> error::Result<Resolver> {
    let user = proto.map(schema::from_folder).transpose()?;
    let payloads: HashMap<_, _> = payloads.iter().cloned().collect();
    Resolver::new(user, payloads)
}

/// Says so if --payload names a topic that has not come: it may be misspelled.
pub(super) fn warn_of_unheard(resolver: &Resolver, words: Words) {
    let unheard = resolver.unheard();
    if !unheard.is_empty() {
        words.warn(format_args!(
            "no frame's topic is {}, which --payload names",
            unheard.join(" or ")
        ));
    }
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    if args.output != Path::new("-") && !takes_as_it_comes(&args.output) {
        signal::leave_nothing_of(&args.output).context("cannot wait for signals")?;
    }
    args.refuse_what_has_an_end()?;
    let style = args.style.style();
    let lines =
        |resolver| Ndjson::new(resolver, style).showing_unknown(args.unknown).showing_raw(args.raw);
    match (args.format(), &args.select) {
        (Format::Csv, _) if args.unknown || args.raw => {
            let (expected, hint) = if args.unknown {
                (
                    "lines or a document of JSON for --unknown",
                    "leave --unknown away, or choose another format",
                )
            } else {
                (
                    "lines or a document of JSON for --raw",
                    "leave --raw away, or choose another format",
                )
            };
            Err(error::Error::usage(expected, "--format csv", hint).into())
        }
        (Format::Csv, Some(select)) => {
            let out = Lines::new(args.stream()?, select)?;
            let table = |resolver| Csv::selected(resolver, style, select.clone());
            let outcome = args.write(words, table, out)?;
            let missing: Vec<_> = select.not_found().collect();
            if missing.is_empty() {
                return Ok(outcome);
            }
            words.warn(format_args!(
                "no frame's type has a value at {}; inspect --schema shows its fields",
                missing.join(", ")
            ));
            Ok(Outcome::Lossy)
        }
        (Format::Csv, None) if args.output == Path::new("-") => Err(error::Error::usage(
            "a folder for the tables",
            "none",
            "name one with -o DIR, or choose the columns of one table with --select",
        )
        .into()),
        (Format::Csv, None) if args.output.extension().is_some_and(|name| name == "zst") => {
            Err(error::Error::usage(
                "a folder for the tables",
                args.output.display().to_string(),
                "tables are not compressed: leave .zst away, or choose the columns of one with --select",
            )
            .into())
        }
        (Format::Csv, None) if names_a_table(&args.output) => Err(error::Error::usage(
            "a folder for the tables",
            args.output.display().to_string(),
            "choose the columns of one table with --select, or name a folder without .csv",
        )
        .into()),
        (Format::Csv, None) => {
            args.write(words, |resolver| Csv::tables(resolver, style), Folder::new(&args.output))
        }
        // Said by nobody, lines would be in a file that a spreadsheet opens as a table.
        (Format::Ndjson, None) if args.format.is_none() && names_a_table(&args.output) => {
            Err(error::Error::usage(
                "--select or --format for a table",
                args.output.display().to_string(),
                "--select makes one table of the columns that it names, --format csv -o DIR all tables",
            )
            .into())
        }
        (Format::Ndjson, None) => args.write(words, lines, args.stream()?),
        (Format::Json, None) => {
            let out = Document::new(args.stream()?);
            args.write(words, |resolver| Json::new(lines(resolver)), out)
        }
        (_, Some(_)) => Err(error::Error::usage(
            "--format csv beside --select",
            "another format",
            "leave --format away: --select makes a CSV table",
        )
        .into()),
    }
}

impl Args {
    fn format(&self) -> Format {
        self.format.unwrap_or(match self.select {
            Some(_) => Format::Csv,
            None => Format::Ndjson,
        })
    }

    /// Of what goes on until somebody stops it, only lines can be made, and nothing that is ever whole.
    fn refuse_what_has_an_end(&self) -> error::Result<()> {
        if !self.follow {
            return Ok(());
        }
        one_of(&self.capture.paths)?;
        match self.format() {
            Format::Ndjson => {}
            Format::Csv if self.select.is_some() => {}
            Format::Json | Format::Csv => {
                return Err(error::Error::usage(
                    "lines for --follow",
                    "another format",
                    "leave --format away, or choose the columns of one table with --select",
                ));
            }
        }
        if self.output == Path::new("-") || takes_as_it_comes(&self.output) {
            return Ok(());
        }
        Err(error::Error::usage(
            "stdout or a pipe for --follow",
            self.output.display().to_string(),
            "a file gets its name when it is whole: leave -o away and write > FILE",
        ))
    }

    fn stream(&self) -> error::Result<Stream<'static>> {
        match &*self.output {
            path if path == Path::new("-") => {
                widen_pipe();
                Ok(shown(io::stdout()))
            }
            path if takes_as_it_comes(path) => {
                let file = OpenOptions::new().write(true).open(path);
                Ok(shown(file.map_err(error::Error::output)?))
            }
            path => Stream::create(path),
        }
    }

    /// Writes what is selected, on one thread for each sink.
    fn decode<S: Sink>(
        &self,
        words: Words,
        sinks: &mut [S],
        out: &mut impl Output<S::Piece>,
        lost: impl FnMut(&error::Error) + Send,
    ) -> anyhow::Result<Summary> {
        let selection = self.capture.selection();
        if self.follow {
            let tail = Tail::open(one_of(&self.capture.paths)?)?;
            let audience = Audience::welcome()?;
            let entries = Wanted { entries: selection.of(tail), audience: &audience };
            let rest = Wanted::rest;
            return Ok(decode::follow(entries, &mut sinks[0], out, self.strict, lost, rest)?);
        }
        let capture = self.capture.open(words)?;
        let entries = selection.of(capture.entries());
        Ok(decode::decode(entries, sinks, out, self.strict, lost)?)
    }

    /// Writes what is selected, as these sinks do, and says what was lost.
    fn write<S: Sink>(
        &self,
        words: Words,
        sink: impl Fn(Resolver) -> S,
        mut out: impl Output<S::Piece>,
    ) -> anyhow::Result<Outcome> {
        let threads = if self.follow { NonZero::new(1) } else { self.threads };
        let threads = threads.or_else(|| thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZero::get).min(decode::THREADS);
        let resolver = self.style.resolver()?;
        let mut sinks: Vec<_> = (0..threads).map(|_| sink(resolver.clone())).collect();
        let selection = self.capture.selection();
        let mut losses = Losses::new(words);
        let lost = |error: &error::Error| losses.tell(error);
        let summary = match &self.condition {
            None => {
                let summary = self.decode(words, &mut sinks, &mut out, lost)?;
                // The process is about to end, and all plans and descriptors with it.
                mem::forget(sinks);
                summary
            }
            Some(condition) => {
                let mut sinks: Vec<_> = sinks
                    .into_iter()
                    .map(|sink| {
                        let lines = Ndjson::new(resolver.clone(), self.style.style());
                        Filtered::new(condition.clone(), lines, sink)
                    })
                    .collect();
                self.decode(words, &mut sinks, &mut out, lost)?
            }
        };
        losses.tell_rest();
        if !summary.drift.is_empty() {
            words.say(described(&summary.drift));
        }
        let Summary { read, decoded, undecodable, unjudged, damaged, .. } = summary;
        let frames = decoded + undecodable + unjudged;
        for label in resolver.opaque() {
            words.say(format_args!(
                "nobody knows what the payload of {label} is, so it is bytes; --payload {label}=PACKAGE.MESSAGE \
                 says it, with --proto if the message is yours"
            ));
        }
        if read > 0 {
            warn_of_unheard(&resolver, words);
            // Only --where leaves out what was read.
            if frames == 0 {
                select::warn_that_none_holds(words);
            }
        } else {
            select::warn_if_none(&selection, frames, words);
        }
        if undecodable + unjudged + damaged == 0 {
            return Ok(Outcome::Done);
        }
        let unjudged = match unjudged {
            0 => String::new(),
            count => format!(", {count} that --where failed on"),
        };
        words.say(format_args!(
            "{} decoded, {undecodable} could not be{unjudged}, {}",
            counted(decoded, "frame"),
            counted(damaged, "damaged place")
        ));
        Ok(Outcome::Lossy)
    }
}

/// The entries of a capture that is being recorded, as long as somebody wants them.
struct Wanted<'a> {
    entries: Selected<Tail>,
    audience: &'a Audience,
}

impl Iterator for Wanted<'_> {
    type Item = error::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.audience.has_gone() { None } else { self.entries.next() }
    }
}

impl Wanted<'_> {
    fn rest(&self) -> ControlFlow<()> {
        if self.entries.is_over() || self.entries.inner().is_over() {
            return ControlFlow::Break(());
        }
        self.audience.wait()
    }
}

/// A stream that goes there.
fn shown(out: impl Write + IsTerminal + Send + 'static) -> Stream<'static> {
    if out.is_terminal() { Stream::new(Shown::on(out)) } else { Stream::new(out) }
}

/// Whoever wants one file would find a folder of that name.
fn names_a_table(path: &Path) -> bool {
    let is_named = path.extension().is_some_and(|name| name.eq_ignore_ascii_case("csv"));
    is_named && !path.is_dir()
}

/// Whether it is there to be written to and keeps nothing: a pipe, /dev/null, a terminal.
#[cfg(unix)]
fn takes_as_it_comes(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    path.metadata().is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_fifo() || kind.is_char_device()
    })
}

/// Only Unix has files that are none.
#[cfg(not(unix))]
fn takes_as_it_comes(_: &Path) -> bool {
    false
}

/// A terminal, which is shown what it would obey, as JSON's escapes. To anything else goes what was decoded.
struct Shown<W> {
    out: W,
    /// The beginning of a character whose rest is still to come.
    begun: Vec<u8>,
}

impl<W: Write> Shown<W> {
    const fn on(out: W) -> Self {
        Self { out, begun: Vec::new() }
    }

    fn show(&mut self, data: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(data);
        self.out.write_all(plain::unobeyed(&text, plain::json_escape).as_bytes())
    }
}

impl<W: Write> Write for Shown<W> {
    /// Takes text in pieces, which may be cut anywhere.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut text = std::mem::take(&mut self.begun);
        text.extend_from_slice(data);
        self.begun = text.split_off(text.len() - begun_at_the_end(&text));
        self.show(&text)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let begun = std::mem::take(&mut self.begun);
        self.show(&begun)?;
        self.out.flush()
    }
}

/// How many bytes at the end are the beginning of a character.
fn begun_at_the_end(text: &[u8]) -> usize {
    let is_begun = |count: &usize| {
        let end = &text[text.len() - count..];
        str::from_utf8(end)
            .is_err_and(|error| (error.valid_up_to(), error.error_len()) == (0, None))
    };
    // No character has more than four bytes.
    (1..=text.len().min(3)).rev().find(is_begun).unwrap_or(0)
}

/// A pipe holds 64 KiB unless it is asked for more, and both ends then wait for each other most of the
/// time. Where stdout is no pipe, or the system has no room, nothing happens.
#[cfg(target_os = "linux")]
fn widen_pipe() {
    const SIZE: usize = 1024 * 1024;

    let _ = rustix::pipe::fcntl_setpipe_size(io::stdout(), SIZE);
}

/// Only Linux can.
#[cfg(not(target_os = "linux"))]
const fn widen_pipe() {}

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

pub(super) fn payload(text: &str) -> Result<(String, String), error::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_cut_is_shown_whole() {
        let text = "a\u{e9}\u{20ac}\u{1f600}\u{1b}\u{202e}z";
        let shown = |pieces: &[&[u8]]| {
            let mut shown = Shown::on(Vec::new());
            for piece in pieces {
                shown.write_all(piece).unwrap();
            }
            shown.flush().unwrap();
            String::from_utf8(shown.out).unwrap()
        };
        let expected = "a\u{e9}\u{20ac}\u{1f600}\\u001b\\u202ez";
        for at in 0..=text.len() {
            let (before, behind) = text.as_bytes().split_at(at);
            assert_eq!(shown(&[before, behind]), expected, "{at}");
        }
        let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(shown(&bytes), expected);
        // Nothing is kept back that will never be whole.
        assert_eq!(shown(&[b"a\xe2\x82", b"b\xff", b"\xf0\x9f"]), "a\u{fffd}b\u{fffd}\u{fffd}");
    }
}
