//! Waiting for something to come about.

use std::{
    thread,
    time::{Duration, Instant},
};

/// What takes longer will never come.
pub const AT_MOST: Duration = Duration::from_secs(60);

/// Waits until it holds. `words` says what else is known when it does not.
#[track_caller]
pub fn wait_for(what: &str, words: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + AT_MOST;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what} in {AT_MOST:?}:\n{}", words());
        thread::sleep(Duration::from_millis(5));
    }
}
