//! waiting for inspect
use super::{Outcome, Words};
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_args: Args, _words: Words) -> anyhow::Result<Outcome> { Ok(Outcome::Done) }
