//! `centralcap inspect --messages`.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use centralcap::{
    error::Error,
    inspect::{each_frame, messages::Summaries},
};

use super::Args;
use crate::cli::{Outcome, Words, losses::Losses, select};

/// So much is written at once.
const BLOCK: usize = 64 * 1024;

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let capture = args.select.open(words)?;
    let selection = args.select.selection();
    let finding = selection.clone();
    let mut summaries = Summaries::new(args.style.resolver()?);
    let mut losses = Losses::new(words);
    let mut stdout = io::stdout().lock();
    let mut text = String::new();
    let mut frames = 0;
    let shown = each_frame(
        &capture,
        selection,
        |error| losses.tell(error),
        |numbered| {
            frames += 1;
            let found = finding.position(&numbered.frame.data);
            let summary = summaries.of(numbered, found);
            if args.json {
                summary.write_json(&mut text);
            } else {
                summary.write_line(&mut text);
            }
            if text.len() >= BLOCK {
                stdout.write_all(text.as_bytes()).map_err(Error::output)?;
                text.clear();
            }
            Ok(ControlFlow::Continue(()))
        },
    );
    // What comes before an error has been seen.
    stdout.write_all(text.as_bytes()).map_err(Error::output)?;
    shown?;
    select::warn_if_none(&finding, frames, words);
    Ok(losses.tell_rest())
}
