//! A folder for one test, and what is in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// It goes with the test.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn names(&self) -> Vec<String> {
        names_in(self.folder.path())
    }
}

/// What is in a folder, in the order of the names.
pub fn names_in(folder: &Path) -> Vec<String> {
    let listing = fs::read_dir(folder).unwrap();
    let names = listing.map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
