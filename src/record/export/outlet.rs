//! Something that takes lines, as long as it works.

use std::{io, time::Duration};

use super::{Target, exec::Program, file::Lines, tcp::Peer};

/// A write is left alone for so long at the most, where the system lets us; then it is looked whether
/// there is time for another one.
pub(super) const SLICE: Duration = Duration::from_millis(250);

/// A file, a connection, or a running program. Once it has failed it is dropped, and another one is
/// opened.
pub(super) trait Outlet: Send {
    /// Whether it still works, as far as that can be seen without writing.
    fn check(&mut self) -> io::Result<()>;

    /// Takes some of the text, and says how much. An error for which [`is_not_yet`] holds means: nothing
    /// so far, and the same text again. The text begins with a line where this is the first write, or
    /// where the last one took all of a line.
    fn write(&mut self, text: &[u8]) -> io::Result<usize>;

    /// Nothing more comes.
    fn close(self: Box<Self>);
}

/// Opens what the target says.
pub(super) fn open(target: &Target, rotate_at: u64) -> io::Result<Box<dyn Outlet>> {
    Ok(match target {
        Target::File(path) => Box::new(Lines::open(path, rotate_at)?),
        Target::Tcp(address) => Box::new(Peer::connect(address)?),
        Target::Exec(command) => Box::new(Program::start(command)?),
    })
}

/// Nothing is wrong; it may go on any moment. A process that is stopped and continued meets the last of
/// these (signal(7)).
pub(super) fn is_not_yet(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
