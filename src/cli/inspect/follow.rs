//! `centralcap inspect --follow`.

use std::io::{self, Write};

use centralcap::{error::Error, inspect};

use super::{
    super::follow::{Audience, one_of},
    Args, Outcome, Words,
};

/// So much is written at once, where much is there.
const BLOCK: usize = 64 * 1024;

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let path = one_of(&args.select.paths)?;
    // A stranger among others is told; alone it is what was asked for.
    let in_folder = path.is_dir();
    let mut frames = inspect::follow(path, args.select.selection())?;
    let audience = Audience::welcome()?;
    let mut stdout = io::stdout().lock();
    let mut text = String::new();
    let mut outcome = Outcome::Done;
    loop {
        for next in frames.by_ref() {
            match next {
                Ok((number, entry)) => inspect::write_line(number, &entry, &mut text),
                Err(error) if error.is_damage() || (in_folder && error.is_not_a_capture()) => {
                    put(&mut text, &mut stdout)?;
                    words.warn(&error);
                    outcome = Outcome::Lossy;
                }
                Err(error) => {
                    put(&mut text, &mut stdout)?;
                    return Err(error.into());
                }
            }
            if text.len() >= BLOCK {
                put(&mut text, &mut stdout)?;
                if audience.has_gone() {
                    return Ok(outcome);
                }
            }
        }
        put(&mut text, &mut stdout)?;
        if frames.is_over() || audience.wait().is_break() {
            return Ok(outcome);
        }
    }
}

fn put(text: &mut String, stdout: &mut impl Write) -> anyhow::Result<()> {
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    text.clear();
    Ok(written.map_err(Error::output)?)
}
