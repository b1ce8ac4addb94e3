//! What the standard library leaves out about files.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use crate::error::{Error, Result};

/// All of a text.
pub fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}

/// The folder that something is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename or a deletion in a folder survive a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, and does not need to.
    if cfg!(unix) { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
}

/// Makes temporary files, or folders, that the umask leaves to others as it does any: `tempfile`'s own are
/// their owner's alone.
pub fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// What all names of one file have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Known);

/// Device and inode.
#[cfg(unix)]
type Known = (u64, u64);

/// The name that no link has a part in. Hard links are not seen through.
#[cfg(not(unix))]
type Known = std::path::PathBuf;

impl Identity {
    /// Of what is there by that name.
    pub fn of(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        return Ok(Self::found(&fs::metadata(path)?));
        #[cfg(not(unix))]
        return Ok(Self(fs::canonicalize(path)?));
    }

    #[cfg(unix)]
    fn found(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self((metadata.dev(), metadata.ino()))
    }
}

/// Whether a name leads to a file that is open, or to another one by now, or to none. Where an open file can
/// be neither moved nor deleted, it does.
pub(crate) fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(Identity::found(&file.metadata()?) == Identity::of(path)?);
    #[cfg(not(unix))]
    return Ok(true);
}
