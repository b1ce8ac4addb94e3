//! What an output is called until it is whole.
//!
//! Whoever fails deletes it as it is dropped. Whoever is interrupted calls [`discard`]; and what somebody
//! left who was killed is swept by the next recording in that folder.

use std::{fs, fs::File, path::Path, sync::LazyLock};

const PREFIX: &str = ".centralcap-";
const SUFFIX: &str = ".part";

/// How the names of this process's begin. Not by its id: containers that share a folder have the same.
static OWN_PREFIX: LazyLock<String> =
    LazyLock::new(|| format!("{PREFIX}{:016x}-", fastrand::u64(..)));

/// Gives names to what this process makes.
pub(crate) fn names() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(OWN_PREFIX.as_str()).suffix(SUFFIX);
    builder
}

/// Deletes what this process has not finished in a folder, for one that is about to end. All else is
/// somebody else's.
pub fn discard(folder: &Path) {
    each(folder, &OWN_PREFIX, |path| {
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.ok();
    });
}

/// Deletes the files that others left half-written in a folder who were killed meanwhile. All of it is
/// still where it came from.
pub(super) fn sweep(folder: &Path) {
    each(folder, PREFIX, |path| {
        // Whoever lives and will finish it has it locked.
        if File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(path).ok();
        }
    });
}

fn each(folder: &Path, prefix: &str, mut visit: impl FnMut(&Path)) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    for item in listing.flatten() {
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(SUFFIX) {
            visit(&item.path());
        }
    }
}
