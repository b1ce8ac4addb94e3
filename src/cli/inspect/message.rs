//! `centralcap inspect --message`.

use std::num::NonZero;

use centralcap::inspect::message::{self, Dissector, LINES};

use super::{Args, look};
use crate::cli::{self, Outcome, Words, losses::Losses};

/// How many times as many fields there are with --verbose.
const MORE: usize = 10;

pub(super) fn run(args: &Args, number: NonZero<u64>, words: Words) -> anyhow::Result<Outcome> {
    let capture = args.select.open(words)?;
    let lines = if words.verbose { MORE * LINES } else { LINES };
    let mut dissector = Dissector::new(args.style.resolver()?, args.style.style(), lines);
    let mut losses = Losses::new(words);
    let found =
        message::message(&capture, number.get(), &mut dissector, |error| losses.tell(error))?;
    let page = if args.json { found.json() } else { found.text(look(words)) };
    cli::print(&page)?;
    let outcome = losses.tell_rest();
    Ok(if found.fault.is_some() { Outcome::Lossy } else { outcome })
}
