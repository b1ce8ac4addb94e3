//! `centralcap inspect --html`.

use std::path::Path;

use anyhow::Context;
use bytesize::ByteSize;
use centralcap::{
    error::{Error, counted},
    inspect::{self, ReportFile, drift},
};

use super::Args;
use crate::cli::{Outcome, Words, select, signal};

pub(super) fn run(args: &Args, path: &Path, words: Words) -> anyhow::Result<Outcome> {
    if path == Path::new("-") {
        return Err(Error::usage("a file", "-", "name the report: --html report.html").into());
    }
    let capture = args.select.open(words)?;
    let (selection, resolver) = (args.select.selection(), args.style.resolver()?);
    signal::leave_nothing_of(path).context("cannot wait for signals")?;
    // What cannot be written is better known now than at the end.
    let file = ReportFile::create(path)?;
    let profile = inspect::report(&capture, selection.clone())?;
    // What is damaged stands in the profile.
    let drift = drift::drift(&capture, selection, &resolver, |_| {})?;
    let page = profile.html(Some(&drift));
    file.finish(&page)?;
    let size = ByteSize::b(page.len() as u64).display().iec();
    words.say(format_args!("a report of {size}: {}", path.display()));
    select::warn_if_none(&args.select.selection(), profile.totals.frames, words);
    if let Some(losses) = profile.losses() {
        words.warn(losses);
    }
    if drift.undecodable > 0 {
        let undecodable = counted(drift.undecodable, "frame");
        words.warn(format_args!("{undecodable} that cannot be decoded, which the report names"));
    }
    let is_lossy = profile.losses().is_some() || drift.undecodable > 0;
    Ok(if is_lossy { Outcome::Lossy } else { Outcome::Done })
}
