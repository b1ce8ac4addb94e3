//! `centralcap inspect --verify`.

use centralcap::{error::Error, inspect};

use super::{Args, Outcome, Words, look};
use crate::cli;

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let selection = args.select.selection();
    if !selection.takes_all_frames() || !selection.subscriptions.is_empty() {
        return Err(Error::usage(
            "--verify without a selection",
            "an option that selects",
            "a capture is proven as a whole: leave the selection away",
        )
        .into());
    }
    let verdict = inspect::verify(&args.select.open(words)?)?;
    let page = if args.json { verdict.json() } else { verdict.text(look(words)) };
    cli::print(&page)?;
    Ok(if verdict.is_good() { Outcome::Done } else { Outcome::Lossy })
}
