//! The options that select entries, the same for every command that reads a capture.

use std::{path::PathBuf, str::FromStr};

use centralcap::{
    capture::Capture,
    error::{Error, counted},
    select::{Find, Moment, Selection, glob},
    sink::filter::Condition,
};
use globset::GlobMatcher;

use super::Words;

/// What is read, and what of it.
#[derive(Debug, clap::Args)]
// The commands' own structs have the same name, and clap would make a group of each.
#[group(skip)]
pub(super) struct Args {
    /// Captures: .mcap files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,

    #[command(flatten)]
    of: SelectionArgs,
}

/// What is taken of what is read.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct SelectionArgs {
    /// Only this topic (may be given more than once, or several with commas between them).
    #[arg(long, value_name = "TOPIC", help_heading = "Selection", value_delimiter = ',')]
    topic: Vec<String>,

    /// Only subscriptions whose name matches (may be given more than once).
    #[arg(long, value_name = "GLOB", help_heading = "Selection", value_parser = glob)]
    subscription: Vec<GlobMatcher>,

    /// Only frames of this customer id (may be given more than once, or several with commas between them).
    #[arg(long, value_name = "ID", help_heading = "Selection", value_delimiter = ',')]
    customer: Vec<String>,

    /// Only frames that hold this text, in upper or lower case, or this MAC or IP address, in whatever
    /// form (may be given more than once: frames with any of them).
    #[arg(long, value_name = "TEXT", help_heading = "Selection", value_parser = str::parse::<Find>)]
    find: Vec<Find>,

    /// Nothing before: RFC 3339, or +10m from the first entry that is read.
    #[arg(long, value_name = "TIME", help_heading = "Selection", value_parser = str::parse::<Moment>)]
    from: Option<Moment>,

    /// Nothing from this moment on.
    #[arg(long, value_name = "TIME", help_heading = "Selection", value_parser = str::parse::<Moment>)]
    to: Option<Moment>,

    /// Leave out the first N frames.
    #[arg(long, value_name = "N", help_heading = "Selection", default_value_t = 0, value_parser = number::<u64>)]
    skip: u64,

    /// Take N frames at most.
    #[arg(long, value_name = "N", help_heading = "Selection", value_parser = number::<u64>)]
    limit: Option<u64>,
}

impl Args {
    /// The capture, none of which is read yet. Says so if a file is given twice: more was meant, perhaps.
    pub(super) fn open(&self, words: Words) -> Result<Capture, Error> {
        let capture = Capture::open(&self.paths)?;
        if let [first, more @ ..] = capture.repeated() {
            let more = match more.len() {
                0 => String::new(),
                count => format!(", and {}", counted(count as u64, "more file")),
            };
            words.warn(format_args!("given twice, and read once: {}{more}", first.display()));
        }
        Ok(capture)
    }

    pub(super) fn selection(&self) -> Selection {
        self.of.selection()
    }
}

impl SelectionArgs {
    pub(super) fn selection(&self) -> Selection {
        Selection {
            topics: self.topic.clone(),
            subscriptions: self.subscription.clone(),
            customers: self.customer.clone(),
            finds: self.find.clone(),
            from: self.from,
            to: self.to,
            skip: self.skip,
            limit: self.limit,
        }
    }
}

fn why_none(selection: &Selection) -> &'static str {
    let Selection { topics, subscriptions, customers, finds, from, to, skip: _, limit } = selection;
    let of_all =
        topics.is_empty() && subscriptions.is_empty() && customers.is_empty() && finds.is_empty();
    if *limit == Some(0) {
        ": --limit 0 takes none"
    } else if selection.is_over_before_it_begins() {
        ": --to is not after --from"
    } else if of_all && (from.is_some() || to.is_some()) {
        "; inspect shows from when to when there are any"
    } else if of_all {
        "; inspect shows how many there are"
    } else {
        "; inspect shows which topics and subscriptions there are"
    }
}

/// Says so if frames were to be selected and none was: a name may be misspelled.
pub(super) fn warn_if_none(selection: &Selection, frames: u64, words: Words) -> bool {
    let is_none = frames == 0 && !selection.takes_everything();
    if is_none {
        words.warn(format_args!("no frame is selected{}", why_none(selection)));
        for find in selection.finds.iter().filter(|find| find.is_nearly_an_address()) {
            words.warn(format_args!(
                "--find {find} is no MAC address, which has six or eight pairs of digits: it was searched as \
                 text"
            ));
        }
    }
    is_none
}

/// The same where a condition may have left out what is selected.
pub(super) fn warn_if_none_holds(
    selection: &Selection,
    condition: Option<&Condition>,
    frames: u64,
    words: Words,
) {
    if !warn_if_none(selection, frames, words) && frames == 0 && condition.is_some() {
        warn_that_none_holds(words);
    }
}

/// Says that the selection is not to blame.
pub(super) fn warn_that_none_holds(words: Words) {
    words.warn("no frame is selected: --where holds for none");
}

/// Parses an argument with the library's own words for what is wrong.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, Error> {
    centralcap::select::duration(text)
}

/// So many of something.
pub(super) fn number<N: FromStr>(text: &str) -> Result<N, Error> {
    number_of("a whole number", text)
}

/// The same where none of it makes no sense. N is a type that has no zero.
pub(super) fn count<N: FromStr>(text: &str) -> Result<N, Error> {
    number_of("a whole number of at least 1", text)
}

fn number_of<N: FromStr>(expected: &str, text: &str) -> Result<N, Error> {
    let hint = "write digits only, such as 1000; less than 2^64 can be counted";
    text.parse().map_err(|_| Error::usage(expected, format!("{text:?}"), hint))
}
