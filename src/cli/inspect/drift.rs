//! `centralcap inspect --drift`.

use centralcap::inspect::drift;

use super::{Args, look};
use crate::cli::{self, Outcome, Words, losses::Losses, select};

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let capture = args.select.open(words)?;
    let (selection, resolver) = (args.select.selection(), args.style.resolver()?);
    let mut losses = Losses::new(words);
    let drift = drift::drift(&capture, selection, &resolver, |error| losses.tell(error))?;
    let page = if args.json { drift.json() } else { drift.text(look(words)) };
    cli::print(&page)?;
    select::warn_if_none(&args.select.selection(), drift.frames, words);
    let outcome = losses.tell_rest();
    Ok(if drift.undecodable > 0 { Outcome::Lossy } else { outcome })
}
