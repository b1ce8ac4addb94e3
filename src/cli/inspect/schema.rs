//! `centralcap inspect --schema`.

use centralcap::{error::Error, inspect::schema, select::Selection};

use super::Args;
use crate::cli::{self, Outcome, Words, losses::Losses};

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let selection = args.select.selection();
    let but_topics = Selection { topics: Vec::new(), ..selection.clone() };
    if !but_topics.takes_all_frames() {
        return Err(Error::usage(
            "--topic and --subscription at most beside --schema",
            "another option that selects",
            "frames are not read for it: leave that option away",
        )
        .into());
    }
    let capture = args.select.open(words)?;
    let mut losses = Losses::new(words);
    let files = schema::files(&capture, &selection, |error| losses.tell(error))?;
    if files.is_empty() && !selection.takes_everything() {
        words.warn("no schema is selected; inspect shows which topics and subscriptions there are");
    }
    let pages: Vec<_> = files.iter().map(schema::SchemaFile::page).collect();
    cli::print(&pages.join("\n"))?;
    Ok(losses.tell_rest())
}
