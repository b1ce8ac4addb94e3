//! `centralcap inspect`.

use std::io::{self, IsTerminal, Write};

use centralcap::{
    capture::Capture,
    error::Error,
    inspect::{Look, Profile, inspect},
};

use super::{Outcome, Words, select};

/// Look into a capture: what is in it, from when, how much, and what is missing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: select::Args,

    /// Print one JSON document instead of a page.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, words: Words) -> anyhow::Result<Outcome> {
    let capture = Capture::open(&args.select.paths)?;
    let profile = inspect(&capture, args.select.selection())?;
    if args.json {
        io::stdout().lock().write_all(profile.json().as_bytes()).map_err(Error::output)?;
    } else {
        print(&profile, words)?;
    }
    Ok(match profile.losses() {
        Some(losses) => {
            words.warn(format_args!("this capture is not all there: {losses}"));
            Outcome::Lossy
        }
        None => Outcome::Done,
    })
}

/// The page for people, also at the end of the demo.
pub(super) fn print(profile: &Profile, words: Words) -> Result<(), Error> {
    let text = profile.text(look(words));
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::output)
}

fn look(words: Words) -> Look {
    // `Words` decided by stderr. Where that is the terminal and stdout is not, the page may be for a
    // file.
    let color = words.color && (io::stdout().is_terminal() || !words.live);
    Look { color, unicode: locale_is_utf8(), everything: words.verbose }
}

/// The first of them that is set decides (POSIX, "Internationalization Variables").
fn locale_is_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    // Windows has no locale variables, and terminals that show what there is.
    locale.map_or(cfg!(windows), |locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
