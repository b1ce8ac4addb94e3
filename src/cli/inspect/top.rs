//! `centralcap inspect --top`.

use centralcap::inspect::top::{self, SHOWN};

use super::{Args, look};
use crate::cli::{self, Outcome, Words, losses::Losses, select};

/// So many devices are shown with --verbose.
const MORE: usize = 1000;

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let capture = args.select.open(words)?;
    let (selection, resolver) = (args.select.selection(), args.style.resolver()?);
    let shown = if words.verbose { MORE } else { SHOWN };
    let mut losses = Losses::new(words);
    let top = top::top(&capture, selection, &resolver, shown, |error| losses.tell(error))?;
    let page = if args.json { top.json() } else { top.text(look(words)) };
    cli::print(&page)?;
    select::warn_if_none(&args.select.selection(), top.frames, words);
    Ok(losses.tell_rest())
}
