//! The keys in use, and where renewed ones go.

use std::{path::PathBuf, sync::Mutex};

use crate::{
    accounts,
    error::{Error, Result},
    protocol::Key,
};

/// Where keys came from, and where a renewed one is written back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The vendor's input file.
    InputFile(PathBuf),
    /// A file with one key in it.
    KeyFile(PathBuf),
    /// Somewhere that cannot be written to, such as the environment: a renewed key lives until the
    /// recording ends.
    Memory,
}

impl KeySource {
    fn replace(&self, old: &Key, new: &Key) -> Result<bool> {
        match self {
            Self::InputFile(path) => accounts::replace_key(path, old, new),
            Self::KeyFile(path) => accounts::replace_only_key(path, old, new),
            Self::Memory => Ok(false),
        }
    }

    /// Deletes what a killed recorder may have left beside the file.
    pub(super) fn tidy(&self) -> Result<()> {
        match self {
            Self::InputFile(path) | Self::KeyFile(path) => accounts::remove_left_over(path),
            Self::Memory => Ok(()),
        }
    }
}

/// The keys of all subscriptions. Several may share one, and all learn of its successor.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    current: Mutex<Vec<Key>>,
}

impl Keys {
    pub(super) fn new(source: KeySource, keys: Vec<Key>) -> Self {
        Self { source, current: Mutex::new(keys) }
    }

    /// The key of the subscription at `index`.
    pub(super) fn of(&self, index: usize) -> Key {
        self.lock()[index].clone()
    }

    /// Puts a new key in the place of an old one. Tells whether it could be written back; it is in
    /// use either way.
    pub(super) fn replace(&self, old: &Key, new: &Key) -> (bool, Option<Error>) {
        // The lock is held over the writing, so that two renewals do not overwrite each other.
        let mut current = self.lock();
        current.iter_mut().filter(|key| *key == old).for_each(|key| key.clone_from(new));
        match self.source.replace(old, new) {
            Ok(written) => (written, None),
            Err(error) => (false, Some(error)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        // A panic elsewhere cannot have left a key half replaced.
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
