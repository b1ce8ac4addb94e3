//! `centralcap inspect --html`.

use std::path::Path;

use anyhow::Context;
use bytesize::ByteSize;
use centralcap::{
    capture::Capture,
    error::Error,
    inspect::{self, ReportFile},
    select::Selection,
};

use crate::cli::{Outcome, Words, signal};

pub(super) fn run(
    path: &Path,
    capture: &Capture,
    selection: Selection,
    words: Words,
) -> anyhow::Result<Outcome> {
    if path == Path::new("-") {
        return Err(Error::usage("a file", "-", "name the report: --html report.html").into());
    }
    signal::leave_nothing_of(path).context("cannot wait for signals")?;
    // What cannot be written is better known now than at the end.
    let file = ReportFile::create(path)?;
    let profile = inspect::report(capture, selection)?;
    let page = profile.html();
    file.finish(&page)?;
    let size = ByteSize::b(page.len() as u64).display().iec();
    words.say(format_args!("a report of {size}: {}", path.display()));
    match profile.losses() {
        None => Ok(Outcome::Done),
        Some(losses) => {
            words.warn(losses);
            Ok(Outcome::Lossy)
        }
    }
}
