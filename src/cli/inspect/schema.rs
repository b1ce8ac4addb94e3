//! `centralcap inspect --schema`.

use std::io::{self, Write};

use anyhow::Context;
use centralcap::inspect::schema;

use super::Args;
use crate::cli::{Outcome, Words, losses::Losses};

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let capture = args.select.open(words)?;
    let mut losses = Losses::new(words);
    let files = schema::files(&capture, &args.select.selection(), |error| losses.tell(error))?;
    let pages: Vec<_> = files.iter().map(schema::SchemaFile::page).collect();
    io::stdout()
        .lock()
        .write_all(pages.join("\n").as_bytes())
        .context("cannot write the output")?;
    Ok(losses.tell_rest())
}
