//! `centralcap edit`.

use std::{num::NonZero, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use centralcap::{
    capture::Compression,
    edit::{
        self, Coverage, Covered, Options, Redacted, Redaction, Rename, SplitBy, Summary, Times,
    },
    entry::Timestamp,
    error::{self, Error, counted},
    redact::Policy,
    sink::filter::Condition,
};

use super::{
    Outcome, Words, begin_capture, begin_captures, decode::StyleArgs, losses::Losses, record,
    select,
};

/// Make one new capture of others: what is selected, merged in the order in which it was received.
///
/// Every PATH is an input. Each keeps its own order; of entries that were received at the same moment, those
/// of the input that is named first come first. Unless --redact or --restamp says otherwise, frames stay
/// bit for bit, session events and sequence numbers as they are. Of a damaged file all that is whole is
/// taken. Inputs are never changed,
/// and the output says in its metadata what was done.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    capture: select::Args,

    /// The new capture, or folder with --split-by; it must not exist yet.
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,

    /// Only frames for which this jq expression holds, of those that are selected; session events stay.
    #[arg(long = "where", value_name = "EXPR", help_heading = "Selection")]
    condition: Option<Condition>,

    /// Give a subscription another name (may be given more than once). Two of the same topic may get the
    /// same one.
    #[arg(long, value_name = "OLD=NEW")]
    rename: Vec<Rename>,

    /// Everything was received so much later, or earlier with a -: for a recorder whose clock was wrong.
    /// Frames stay bit for bit; with --redact the times in them move along.
    #[arg(long, value_name = "D", allow_hyphen_values = true, conflicts_with = "restamp")]
    shift: Option<Times>,

    /// The first entry was received at this moment (RFC 3339), all others as long after it as they were;
    /// the times in frames move with that, and nothing else in them changes.
    #[arg(long, value_name = "TIME", value_parser = centralcap::select::time)]
    restamp: Option<Timestamp>,

    /// Leave out frames of which the same was received at most so long before, as when two recorders took
    /// the same feed: the same bytes on a subscription of the same name, --rename included. The window is 10s;
    /// another one needs an =: --dedup=1m.
    #[arg(long, value_name = "WINDOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "10s", value_parser = select::duration)]
    dedup: Option<Duration>,

    /// Take N frames of each topic at most, spread evenly over all that are left; reads the inputs twice.
    #[arg(long, value_name = "N", value_parser = select::count::<NonZero<u64>>)]
    sample: Option<NonZero<u64>>,

    /// Take the fewest and smallest frames that still have, for each topic and payload type, every field,
    /// enum value, unknown field and length of a list (none, one, more) that all frames have, and the first
    /// session event of each kind; reads the inputs once more.
    #[arg(long)]
    minimise: bool,

    /// Make a folder with one capture for each topic, subscription or hour (of UTC).
    #[arg(long, value_name = "WHAT", value_parser = str::parse::<SplitBy>)]
    split_by: Option<SplitBy>,

    /// How much work compressing may be: a level of zstd, from 1, the quickest, to 19.
    #[arg(long, value_name = "N", default_value = "3", value_parser = record::level)]
    level: Compression,

    #[command(flatten)]
    style: StyleArgs,

    #[command(flatten)]
    redaction: RedactionArgs,
}

/// What stands in the place of names.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Redaction")]
struct RedactionArgs {
    /// Put pseudonyms in the place of names, addresses and places: the same for the same value, in every
    /// frame and field. What the bundled schema does not know is left out, frames of other topics whole.
    /// Before the output gets its name, all that was replaced is looked for in it. Reads the inputs twice.
    /// docs/redaction.md says what remains: the output is pseudonymous, not anonymous.
    #[arg(long)]
    redact: bool,

    /// Make pseudonyms with the key in this file, so that those of several captures agree; nobody but its
    /// owner may be allowed to read it. Without, a fresh key is made and thrown away.
    #[arg(long, value_name = "FILE", requires = "redact")]
    redact_key_file: Option<PathBuf>,

    /// Treat some fields otherwise, as this TOML file says: keep them, drop them, or take them for
    /// something else.
    #[arg(long, value_name = "FILE", requires = "redact")]
    redact_policy: Option<PathBuf>,

    /// Leave the first three bytes of MAC addresses, which say who made the device; not of those that a
    /// device made up for itself.
    #[arg(long, requires = "redact")]
    keep_oui: bool,
}

impl RedactionArgs {
    fn redaction(&self) -> error::Result<Option<Redaction>> {
        if !self.redact {
            return Ok(None);
        }
        let policy = self.redact_policy.as_deref().map(edit::policy_from).transpose()?;
        let key = match &self.redact_key_file {
            Some(path) => edit::key_from(path)?,
            None => edit::fresh_key()?,
        };
        let policy: Policy = policy.unwrap_or_default();
        Ok(Some(Redaction { key, policy, keep_oui: self.keep_oui }))
    }
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    if let Some(window) = args.dedup.and_then(|_| stray_window(&args.capture.paths)) {
        let hint = "the window stands behind an =, so that a PATH can follow --dedup";
        let (expected, found) = (format!("--dedup={window}"), format!("--dedup {window}"));
        return Err(Error::usage(expected, found, hint).into());
    }
    if args.split_by.is_some() {
        begin_captures(&args.output)?;
    } else {
        begin_capture(&args.output)?;
    }
    let options = Options {
        selection: args.capture.selection(),
        condition: args.condition,
        resolver: args.style.resolver()?,
        style: args.style.style(),
        renames: args.rename,
        times: args.shift.or(args.restamp.map(Times::Restamped)),
        window: args.dedup,
        sample: args.sample.map(NonZero::get),
        minimise: args.minimise,
        split: args.split_by,
        redaction: args.redaction.redaction()?,
        compression: args.level,
    };
    args.capture.open(words)?;
    let mut losses = Losses::new(words);
    let lost = |error: &Error| losses.tell(error);
    let summary = edit::edit(&args.capture.paths, &args.output, &options, lost)?;
    losses.tell_rest();
    let condition = options.condition.as_ref();
    select::warn_if_none_holds(&options.selection, condition, summary.frames, words);
    if let Some(coverage) = summary.coverage {
        words.say(covered(&coverage, summary.frames));
    }
    if options.split.is_some() && summary.frames + summary.events == 0 {
        words.say(format_args!("nothing to split, so there is no {}", args.output.display()));
        return Ok(if summary.is_lossy() { Outcome::Lossy } else { Outcome::Done });
    }
    words.say(format_args!(
        "{} and {}, {} in {} on disk: {}",
        counted(summary.frames, "frame"),
        counted(summary.events, "session event"),
        ByteSize::b(summary.bytes).display().iec(),
        ByteSize::b(summary.size).display().iec(),
        args.output.display()
    ));
    if let Some(Redacted { denied, counts }) = summary.redacted {
        words.say(format_args!(
            "redacted: {} replaced, of which none was found in what was written",
            counted(counts.originals, "value")
        ));
        if denied > 0 {
            let denied = counted(denied, "frame");
            words.say(format_args!("left out: {denied} whose payload the schema does not know"));
        }
        if counts.dropped > 0 {
            words.say(format_args!(
                "left out: {}, unknown to the schema or coordinates without a site",
                counted(counts.dropped, "field")
            ));
        }
    }
    if !summary.is_lossy() {
        return Ok(Outcome::Done);
    }
    let Summary { undecodable, unjudged, damaged, .. } = summary;
    if undecodable + unjudged > 0 {
        words.say(format_args!(
            "left out: {} that could not be decoded, {unjudged} that --where failed on",
            counted(undecodable, "frame")
        ));
    }
    if damaged > 0 {
        words.say(counted(damaged, "damaged place"));
    }
    Ok(Outcome::Lossy)
}

/// What was meant for the window of --dedup and is taken for a path.
fn stray_window(paths: &[PathBuf]) -> Option<&str> {
    let mut words = paths.iter().filter(|path| !path.exists()).filter_map(|path| path.to_str());
    words.find(|word| select::duration(word).is_ok())
}

/// What the frames cover that were taken, on one line.
fn covered(coverage: &Coverage, frames: u64) -> String {
    let parts = coverage.parts().into_iter();
    let parts = parts.filter(|(name, part)| *name != "broken" || part.seen > 0);
    let parts: Vec<_> = parts
        .map(|(name, Covered { covered, seen })| format!("{covered} of {seen} {name}"))
        .collect();
    let cut = if coverage.is_cut { "; there are more that were not told apart" } else { "" };
    format!("{frames} of {} frames cover {}{cut}", coverage.frames, parts.join(", "))
}
