//! `centralcap inspect --follow`.

use std::{
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::Context;
use centralcap::{error::Error, inspect};

use super::{Args, Outcome, Words, signal};

/// How often it is looked for something new.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// So much is written at once, where much is there.
const BLOCK: usize = 64 * 1024;

/// How long the last line may take after a signal. Whoever does not read it keeps nobody from ending.
const LAST_MOMENT: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    let [path] = &args.select.paths[..] else {
        let found = format!("{} paths", args.select.paths.len());
        return Err(
            Error::usage("one file or folder to follow", found, "follow one of them").into()
        );
    };
    // A stranger among others is told; alone it is what was asked for.
    let in_folder = path.is_dir();
    let mut frames = inspect::follow(path, args.select.selection())?;
    let stop = stop().context("cannot wait for signals")?;
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
                if stop.try_recv().is_ok() {
                    return Ok(outcome);
                }
            }
        }
        put(&mut text, &mut stdout)?;
        if frames.is_over() || nobody_reads() {
            return Ok(outcome);
        }
        match stop.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(outcome),
        }
    }
}

fn put(text: &mut String, stdout: &mut impl Write) -> anyhow::Result<()> {
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    text.clear();
    written.context("cannot write the output")
}

/// Says when Ctrl-C or SIGTERM has come.
fn stop() -> io::Result<mpsc::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let asked = {
        let _inside = runtime.enter();
        signal::stop()?
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        runtime.block_on(asked);
        // Nobody is there any more where it has ended by itself.
        let _ = sender.send(());
        thread::sleep(LAST_MOMENT);
        std::process::exit(0);
    });
    Ok(receiver)
}

/// Whoever read our output has gone: where nothing comes, no write finds out.
#[cfg(unix)]
fn nobody_reads() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

#[cfg(not(unix))]
const fn nobody_reads() -> bool {
    false
}
