//! `centralcap inspect --verify`.

use std::io::{self, Write};

use anyhow::Context;
use centralcap::{error::Error, inspect};

use super::{Args, Outcome, Words, look};

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
    io::stdout().lock().write_all(page.as_bytes()).context("cannot write the output")?;
    Ok(if verdict.is_good() { Outcome::Done } else { Outcome::Lossy })
}
