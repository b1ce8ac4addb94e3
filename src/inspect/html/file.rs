//! A file that gets its name when all of it is there, and never that of another one.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    capture::{sync_folder_of, unfinished},
    error::{Error, Kind, Result},
};

/// Where a report goes. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct ReportFile {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
}

impl ReportFile {
    /// Begins a file that will be named `path`. What is there already is never written over.
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            return Err(Kind::OutputExists { path: path.to_owned() }.into());
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = unfinished::names();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(folder);
        let temporary = temporary.map_err(Error::io("create a file in", folder))?;
        // Says that somebody lives who will finish it.
        temporary.as_file().try_lock().ok();
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// Writes all of it, brings it to the disk and gives it its name.
    pub fn finish(mut self, page: &str) -> Result<()> {
        let path = self.path;
        self.temporary.write_all(page.as_bytes()).map_err(Error::io("write", &path))?;
        self.temporary.as_file().sync_all().map_err(Error::io("write", &path))?;
        self.temporary.persist_noclobber(&path).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => Kind::OutputExists { path: path.clone() }.into(),
            _ => Error::io("create", &path)(error.error),
        })?;
        sync_folder_of(&path).map_err(Error::io("write", &path))
    }
}
