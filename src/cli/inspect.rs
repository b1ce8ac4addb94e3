//! `centralcap inspect`.

use std::{
    env,
    io::{self, Write},
    num::NonZero,
    path::PathBuf,
};

use centralcap::{
    capture::Capture,
    error::Error,
    inspect::{self, Look, Profile},
};

use super::{Outcome, Words, decode, select};

mod drift;
mod follow;
mod html;
mod message;
mod messages;
mod schema;
mod top;
mod tui;
mod verify;

/// The page of captures of this size and more is made of what their index says.
const QUICK_FROM: u64 = 256 * 1024 * 1024;

/// Look into a capture: files, span, rates, gaps, connections, damage, and frames over time.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: select::Args,

    /// Print one JSON document; docs/inspect-json.md says what is in it.
    #[arg(long)]
    json: bool,

    /// When each subscription was covered: a percentage, a table of all gaps with their causes, and a
    /// drawing.
    #[arg(long, group = "view")]
    gaps: bool,

    /// A line for each frame: its number, when it was received, whose it is, its type, its size, and who
    /// is named in it.
    #[arg(long, group = "view")]
    messages: bool,

    /// Take one frame apart: its bytes with their fields, the decoded frame, and what the schema does
    /// not know. Frames are counted from 1 over the whole capture, whatever is selected.
    #[arg(long, group = "view", value_name = "N", value_parser = number)]
    message: Option<NonZero<u64>>,

    /// The .proto text of the schema that the capture brings along.
    #[arg(long, group = "view", conflicts_with = "json")]
    schema: bool,

    /// Where frames and schema do not agree: unknown fields and enum numbers, missing required fields,
    /// frames of which nothing is known, and which payload would fit better.
    #[arg(long, group = "view")]
    drift: bool,

    /// What there is most of: the heaviest parts of payloads, and the devices with most frames and bytes.
    #[arg(long, group = "view")]
    top: bool,

    /// Prove the capture: every checksum, every index against what is there, the order of times, the
    /// sequence numbers, and what the ledger says. Exit code 3 if anything does not hold.
    #[arg(long, group = "view")]
    verify: bool,

    /// Show each frame of a file or folder that is being recorded as soon as it is written, a line each,
    /// those before it first. Ctrl-C ends it, and so does the end of a file that is sealed.
    #[arg(long, group = "view", conflicts_with = "json")]
    follow: bool,

    /// Write a report to this new file, a page for a browser that needs nothing else, to attach to a ticket:
    /// outages, frames and coverage over time, gaps, sizes, connections, damage, drift. Reads the capture twice.
    #[arg(long, value_name = "FILE", group = "view", conflicts_with = "json")]
    html: Option<PathBuf>,

    /// Browse it in the terminal, which it fills: a list of frames, and the bytes of one beside its fields.
    /// Filter, search, and go to a time; ? shows all keys.
    #[arg(long, group = "view", conflicts_with = "json")]
    tui: bool,

    #[command(flatten)]
    style: decode::StyleArgs,
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    if args.verify {
        return verify::run(&args, words);
    }
    if args.follow {
        return follow::run(&args, words);
    }
    if args.messages {
        return messages::run(&args, words);
    }
    if args.schema {
        return schema::run(&args, words);
    }
    if args.drift {
        return drift::run(&args, words);
    }
    if args.top {
        return top::run(&args, words);
    }
    if let Some(number) = args.message {
        return message::run(&args, number, words);
    }
    if args.tui {
        return tui::run(&args, words);
    }
    if let Some(path) = &args.html {
        return html::run(&args, path, words);
    }
    let capture = args.select.open(words)?;
    let selection = args.select.selection();
    let profile = if args.gaps {
        inspect::gaps(&capture, selection)?
    } else if let Some(profile) = quick(&args, &capture)? {
        profile
    } else {
        inspect::inspect(&capture, selection)?
    };
    super::print(&match () {
        () if args.json => profile.json(),
        () if args.gaps => profile.gaps_text(look(words)),
        () => profile.text(look(words)),
    })?;
    select::warn_if_none(&args.select.selection(), profile.totals.frames, words);
    match profile.losses() {
        None => Ok(Outcome::Done),
        Some(losses) => {
            if args.json {
                words.warn(losses);
            }
            Ok(Outcome::Lossy)
        }
    }
}

/// Who looks at the page of a capture that takes long to read does not want to wait for it.
fn quick(args: &Args, capture: &Capture) -> anyhow::Result<Option<Profile>> {
    let size: u64 = capture.segments().iter().map(|segment| segment.size).sum();
    let selection = args.select.selection();
    let is_all = selection.takes_all_frames() && selection.subscriptions.is_empty();
    let is_quick = size >= QUICK_FROM && is_all && !args.json;
    Ok(if is_quick { inspect::inspect_index(capture)? } else { None })
}

/// The page for people, also at the end of the demo.
pub(super) fn print(profile: &Profile, words: Words, out: &mut impl Write) -> anyhow::Result<()> {
    Ok(out.write_all(profile.text(look(words)).as_bytes()).map_err(Error::output)?)
}

fn look(words: Words) -> Look {
    let (unicode, width) = (is_unicode(), columns().unwrap_or(inspect::WIDTH));
    Look { color: words.color, unicode, width, everything: words.verbose }
}

/// How wide the terminal is, if stdout is one and says so.
#[cfg(unix)]
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

#[cfg(not(unix))]
fn columns() -> Option<usize> {
    None
}

/// A frame's number, as --messages shows it.
fn number(text: &str) -> Result<NonZero<u64>, Error> {
    text.parse().map_err(|_| {
        let hint = "the first frame of the capture is number 1; --messages shows the numbers";
        Error::usage("the number of a frame, counted from 1", format!("{text:?}"), hint)
    })
}

/// The locale says UTF-8, or nothing at all. The first of these that is set counts (POSIX).
fn is_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
