//! What `--follow` does between two looks at a capture that is being recorded.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use centralcap::error::{self, Error};

use super::signal;

/// How often it is looked for something new.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the last lines may take after a signal. Whoever does not read them keeps nobody from ending.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What is followed: one file or folder.
pub(super) fn one_of(paths: &[PathBuf]) -> error::Result<&Path> {
    match paths {
        [path] => Ok(path),
        paths => {
            let found = format!("{} paths", paths.len());
            Err(Error::usage("one file or folder to follow", found, "follow one of them"))
        }
    }
}

/// Whether anybody still wants more.
pub(super) struct Audience {
    stopped: Arc<AtomicBool>,
}

impl Audience {
    /// Listens for Ctrl-C and SIGTERM. Soon after one of them the process ends, whatever it does.
    pub(super) fn welcome() -> anyhow::Result<Self> {
        let stopped = signal::stopped_within(LAST_MOMENT).context("cannot wait for signals")?;
        Ok(Self { stopped })
    }

    /// Somebody has asked us to stop.
    pub(super) fn has_gone(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Returns when it is time to look again, or breaks if nobody wants more: whoever reads our output has
    /// gone, or asks us to stop.
    pub(super) fn wait(&self) -> ControlFlow<()> {
        thread::sleep(LOOK_EVERY);
        if self.has_gone() || nobody_reads() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
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
