//! What threads need that work on the same, whatever that is.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

/// Waits for what others have, too. If one of them panicked, either it left that whole, or it is not used, as the
/// panic goes on when the threads are joined.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does this if its thread panics: others may be waiting for it.
pub(crate) struct OnPanic<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}
