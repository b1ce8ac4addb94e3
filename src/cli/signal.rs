//! Ctrl-C and SIGTERM: the normal end of what runs until it is stopped, and the early end of what makes a
//! file. SIGHUP: a new segment, or the end of a replay. SIGXFSZ: not the end at all.

use std::{
    fs, io,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use centralcap::capture;

use tokio::sync::Notify;

use super::exit;

/// Completes at Ctrl-C or SIGTERM. They are caught from now on, not from the first poll.
#[cfg(unix)]
pub(super) fn stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes when the terminal is closed, too, unless it was started so that it outlives that (nohup). They are
/// caught from now on.
#[cfg(unix)]
pub(super) fn stop_or_hang_up() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let stopped = stop()?;
    let hang_up = if outlives_its_terminal() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        let hung_up = async {
            match hang_up {
                Some(mut hang_up) => drop(hang_up.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopped => {}
            () = hung_up => {}
        }
    })
}

/// Only Unix has that signal.
#[cfg(not(unix))]
pub(super) fn stop_or_hang_up() -> io::Result<impl Future<Output = ()>> {
    stop()
}

/// Whether SIGHUP is ignored, as nohup has it. To catch it would be the end of that. Where the system does not say, it
/// is left as it is.
#[cfg(unix)]
fn outlives_its_terminal() -> bool {
    // A bit for each signal, the lowest for the first; proc_pid_status(5).
    const SIGHUP_BIT: u64 = 1;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    ignored.is_none_or(|ignored| ignored & SIGHUP_BIT != 0)
}

/// Completes at Ctrl-C. It is caught from now on, not from the first poll.
#[cfg(not(unix))]
pub(super) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// At Ctrl-C or SIGTERM nothing is left of an output that has not got its name yet, and the process ends
/// as one that was interrupted.
pub(super) fn leave_nothing_of(output: &Path) -> io::Result<()> {
    let discard = capture::discard(output);
    // Not between the entries: reading may wait for a terminal or a pipe.
    when_stopped(move || {
        discard();
        process::exit(exit::INTERRUPTED.into());
    })
}

/// The same of a folder with all that is in it.
pub(super) fn leave_no_folder(folder: &Path) -> io::Result<()> {
    let folder = folder.to_owned();
    when_stopped(move || {
        let _ = fs::remove_dir_all(folder);
        process::exit(exit::INTERRUPTED.into());
    })
}

/// Set at Ctrl-C or SIGTERM, for whoever has something to give back before the end.
pub(super) fn stopped() -> io::Result<Arc<AtomicBool>> {
    stopped_and(|| {})
}

/// The same, and no later than after so long a time the process ends, whatever it does.
pub(super) fn stopped_within(time: Duration) -> io::Result<Arc<AtomicBool>> {
    stopped_and(move || {
        thread::sleep(time);
        process::exit(exit::DONE.into());
    })
}

fn stopped_and(then: impl FnOnce() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stopped);
    when_stopped(move || {
        set.store(true, Ordering::Relaxed);
        then();
    })?;
    Ok(stopped)
}

/// Waits for Ctrl-C or SIGTERM on a thread of its own.
fn when_stopped(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stop = {
        let _inside = runtime.enter();
        stop()?
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(stop);
        then();
    })?;
    Ok(())
}

/// Rings at each SIGHUP, for ever. It is caught from now on.
#[cfg(unix)]
pub(super) fn hang_up(bell: Arc<Notify>) -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        while hang_up.recv().await.is_some() {
            bell.notify_one();
        }
    })
}

/// Only Unix has that signal.
#[cfg(not(unix))]
pub(super) fn hang_up(_: Arc<Notify>) -> io::Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}

/// At the limit on a file's size (`ulimit -f`) the system kills a process that does not catch SIGXFSZ.
/// Once it is caught the write fails, is reported, and half-written files are cleaned up.
#[cfg(unix)]
pub(super) fn survive_file_size_limit() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    // On Linux (but for MIPS), macOS and the BSDs. The standard library has no name for it.
    const SIGXFSZ: i32 = 25;

    // Tokio never gives a signal back that it has caught, so nobody has to listen.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// Only Unix has such a limit.
#[cfg(not(unix))]
pub(super) fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}
