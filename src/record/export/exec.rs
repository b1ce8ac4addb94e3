//! A program that reads lines from its standard input.
//!
//! What it prints goes to our stderr, both ways: that is where it says why it fails, and our stdout is
//! data of our own. On Unix it has a process group of its own, so that a Ctrl-C that ends the recording
//! lets it read to the end, and so that whatever it has started ends with it.

use std::{
    io::{self, Write},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::outlet::Outlet;

/// How long a program has to end when there is nothing more to read.
pub(super) const GOODBYE: Duration = Duration::from_secs(3);

/// How often it is looked then.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running program. Dropping it ends it.
pub(super) struct Program {
    child: Child,
    input: Option<ChildStdin>,
}

impl Program {
    /// Runs a command as a shell does. The key is not in its environment.
    pub(super) fn start(command: &str) -> io::Result<Self> {
        let mut child = shell(command)
            .stdin(Stdio::piped())
            .stdout(io::stderr())
            .stderr(Stdio::inherit())
            .env_remove("CENTRALCAP_KEY")
            .spawn()?;
        let input = child.stdin.take();
        let program = Self { child, input };
        if let Some(input) = &program.input {
            never_wait_for(input)?;
        }
        Ok(program)
    }

    /// Why it does not read any more.
    fn explained(&mut self, error: io::Error) -> io::Error {
        match self.child.try_wait() {
            Ok(Some(status)) => io::Error::other(format!("the command has ended: {status}")),
            _ if error.kind() == io::ErrorKind::BrokenPipe => {
                io::Error::other("the command has closed its standard input")
            }
            _ => error,
        }
    }
}

impl Outlet for Program {
    fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("the command has ended: {status}"))),
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let Some(input) = &mut self.input else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let written = wait_for_room(input).and_then(|()| input.write(text));
        written.map_err(|error| self.explained(error))
    }

    fn close(mut self: Box<Self>) {
        self.input = None;
        let end = Instant::now() + GOODBYE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that was waited for has left its number to others.
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(&mut self.child);
            let _ = self.child.wait();
        }
    }
}

#[cfg(unix)]
mod system {
    use std::os::unix::process::CommandExt;

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::{OFlags, fcntl_getfl, fcntl_setfl},
        process::{Pid, Signal, kill_process_group},
    };

    use super::{super::outlet::SLICE, Child, ChildStdin, Command, io};

    pub(in crate::record) fn shell(command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).process_group(0);
        shell
    }

    pub(super) fn never_wait_for(input: &ChildStdin) -> io::Result<()> {
        Ok(fcntl_setfl(input, fcntl_getfl(input)? | OFlags::NONBLOCK)?)
    }

    pub(super) fn wait_for_room(input: &ChildStdin) -> io::Result<()> {
        let nanos = i64::from(SLICE.subsec_nanos());
        let slice = Timespec { tv_sec: SLICE.as_secs().cast_signed(), tv_nsec: nanos };
        match poll(&mut [PollFd::new(input, PollFlags::OUT)], Some(&slice))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }

    pub(in crate::record) fn kill(child: &mut Child) {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
}

/// A write to a pipe waits for its reader, however long that takes.
#[cfg(not(unix))]
mod system {
    use super::{Child, ChildStdin, Command, io};

    pub(in crate::record) fn shell(command: &str) -> Command {
        let mut shell = Command::new("cmd");
        shell.arg("/C").arg(command);
        shell
    }

    pub(super) fn never_wait_for(_: &ChildStdin) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn wait_for_room(_: &ChildStdin) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::record) fn kill(child: &mut Child) {
        let _ = child.kill();
    }
}

pub(in crate::record) use system::{kill, shell};
use system::{never_wait_for, wait_for_room};
