//! `centralcap demo`.

use super::{Outcome, Words};

/// TODO: words of demo.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args, words: Words) -> anyhow::Result<Outcome> {
    words.say("nothing here yet");
    words.detail("");
    words.warn("");
    let _ = (words.live, Outcome::Lossy);
    Ok(Outcome::Done)
}
