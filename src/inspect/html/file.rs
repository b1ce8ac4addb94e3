//! A file that gets its name when all of it is there, and never that of another one.

use std::{fs::File, io::Write, path::Path};

use crate::{
    capture::unfinished::Unfinished,
    error::{Error, Result},
};

/// Where a report goes. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct ReportFile {
    file: File,
    name: Unfinished,
}

impl ReportFile {
    /// Begins a file that will be named `path`. What is there already is never written over.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, name) = Unfinished::create(path)?;
        Ok(Self { file, name })
    }

    /// Writes all of it, brings it to the disk and gives it its name.
    pub fn finish(mut self, page: &str) -> Result<()> {
        self.file.write_all(page.as_bytes()).map_err(Error::io("write", self.name.path()))?;
        self.name.finish_on_disk(&self.file)
    }
}
