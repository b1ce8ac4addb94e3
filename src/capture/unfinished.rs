//! What an output is called until it is whole.
//!
//! Whoever fails deletes it as it is dropped. Whoever is interrupted does so by [`discard`]; and what somebody
//! left who was killed is swept by the next recording in that folder.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io, mem,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard},
};

use tempfile::{TempDir, TempPath};

use crate::{
    error::{Error, Kind, Result},
    files::{self, folder_of, sync_folder_of},
    threads::locked,
};

const PREFIX: &str = ".centralcap-";
const SUFFIX: &str = ".part";

/// So many characters of a name are random.
const RANDOM: usize = 6;

/// How the names of this process's begin. Not by its id: containers that share a folder have the same.
static OWN_PREFIX: LazyLock<String> =
    LazyLock::new(|| format!("{PREFIX}{:016x}-", fastrand::u64(..)));

/// Held while something is begun or gets its name, and for ever by whoever discards: nothing comes after
/// that.
static DOOR: Mutex<()> = Mutex::new(());

/// To be held while something is begun that [`discard`] should find.
fn door() -> MutexGuard<'static, ()> {
    locked(&DOOR)
}

/// Makes what has the names of this process.
fn begin(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = files::temporary(mode);
    builder.prefix(OWN_PREFIX.as_str()).rand_bytes(RANDOM).suffix(SUFFIX);
    builder
}

/// The name of a file that is not whole yet. The file gets its own name when it is, and is deleted if that
/// never comes.
#[derive(Debug)]
pub(crate) struct Unfinished {
    temporary: TempPath,
    path: PathBuf,
}

impl Unfinished {
    /// Begins a file that will be named `path`. What is there already is never written over.
    pub(crate) fn create(path: &Path) -> Result<(File, Self)> {
        refuse_taken(path)?;
        let _door = door();
        let folder = folder_of(path);
        loop {
            let made = begin(0o666).tempfile_in(folder);
            let made = made.map_err(Error::io("create a file in", folder))?;
            let (file, temporary) = made.into_parts();
            // Says that somebody lives who will finish it. Where there are no locks, nobody sweeps either.
            let is_being_swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            // Whoever sweeps may have come before the lock.
            if !is_being_swept && temporary.exists() {
                return Ok((file, Self { temporary, path: path.to_owned() }));
            }
        }
    }

    /// The name that it will have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name.
    fn named(self) -> Result<()> {
        let path = self.path;
        self.temporary.persist_noclobber(&path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => Kind::OutputExists { path: path.clone() }.into(),
            _ => Error::io("create", &path)(error.error),
        })
    }

    /// Brings it to the disk, gives it its name, and brings that there, too.
    pub(crate) fn finish_on_disk(self, file: &File) -> Result<()> {
        self.finish_on_disk_if(file, |_| Ok(()))
    }

    /// The same if this finds nothing wrong with the file, which has another name until then.
    pub(crate) fn finish_on_disk_if(
        self,
        file: &File,
        check: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        file.sync_all().map_err(Error::io("write", &path))?;
        check(&self.temporary)?;
        let named = {
            let _door = door();
            self.named()
        };
        named?;
        sync_folder_of(&path).map_err(Error::io("write", &path))
    }
}

/// A folder that gets its name when all that is in it is whole, and is deleted if that never comes.
#[derive(Debug)]
pub(crate) struct UnfinishedFolder {
    temporary: TempDir,
    path: PathBuf,
    /// Says that somebody lives who will finish it. None where there are no locks on folders: nobody sweeps them
    /// there either.
    _lock: Option<File>,
}

impl UnfinishedFolder {
    /// Begins, inside of `folder`, one that will be named `path`.
    pub(crate) fn create_in(folder: &Path, path: &Path) -> Result<Self> {
        let _door = door();
        loop {
            let made = begin(0o777).tempdir_in(folder);
            let temporary = made.map_err(Error::io("create a folder in", folder))?;
            let lock = File::open(temporary.path()).ok();
            let is_held = |lock: &File| matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
            // Whoever sweeps may have come before the lock.
            if !lock.as_ref().is_some_and(is_held) && temporary.path().is_dir() {
                return Ok(Self { temporary, path: path.to_owned(), _lock: lock });
            }
        }
    }

    /// Where it is until then.
    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Begins a file in it, and the folders that lead there.
    pub(crate) fn file(&self, name: &Path) -> Result<File> {
        let _door = door();
        let path = self.path().join(name);
        create_folder(folder_of(&path))?;
        File::create_new(&path).map_err(Error::io("create", &path))
    }

    /// Brings files of it to the disk. To be done before they get their names.
    pub(crate) fn sync<'f>(
        &self,
        files: impl Iterator<Item = (&'f PathBuf, &'f File)>,
    ) -> Result<()> {
        let mut paths = Vec::new();
        for (name, file) in files {
            file.sync_all().map_err(Error::io("write", &self.path.join(name)))?;
            paths.push(self.path().join(name));
        }
        sync_names(paths)
    }

    /// Lets these files of it join those in the folder of that name, which is there. None is ever written over.
    pub(crate) fn join<'n>(self, names: impl Iterator<Item = &'n PathBuf>) -> Result<()> {
        let names: Vec<_> = names.collect();
        let door = door();
        for name in &names {
            let (now, path) = (self.path().join(name), self.path.join(name));
            create_folder(folder_of(&path))?;
            let temporary = TempPath::try_from_path(&now).map_err(Error::io("find", &now))?;
            Unfinished { temporary, path }.named()?;
        }
        drop(door);
        sync_names(names.into_iter().map(|name| self.path.join(name)))
    }

    /// Gives it its name, and makes the folders that lead there.
    pub(crate) fn finish(self) -> Result<()> {
        let _door = door();
        create_folder(folder_of(&self.path))?;
        // An empty folder of that name would give way to this one.
        refuse_taken(&self.path)?;
        fs::rename(self.temporary.path(), &self.path).map_err(Error::io("create", &self.path))?;
        // It has another name now: there is nothing to delete.
        drop(self.temporary.keep());
        sync_folder_of(&self.path).map_err(Error::io("write", &self.path))
    }
}

/// Makes a folder and those that lead there, and brings their names to the disk.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let made: Vec<_> = path.ancestors().take_while(is_new).collect();
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    made.into_iter().try_for_each(sync_folder_of).map_err(Error::io("write", path))
}

/// Brings the names of files to the disk.
fn sync_names(paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    let paths = paths.into_iter().map(|path| (folder_of(&path).to_owned(), path));
    let one_of_each: BTreeMap<_, _> = paths.collect();
    let sync = |path: &PathBuf| sync_folder_of(path).map_err(Error::io("write", path));
    one_of_each.values().try_for_each(sync)
}

/// Where something begins whose folders may not be there yet: in itself, if it is a folder that is there, or
/// in the one that leads there.
pub(crate) fn folder_towards(path: &Path) -> &Path {
    let mut folders = path.ancestors();
    folders.find(|folder| folder.is_dir()).unwrap_or(Path::new("."))
}

/// Fails if the name is taken. A link that leads nowhere takes one as well.
pub(crate) fn refuse_taken(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(Kind::OutputExists { path: path.to_owned() }.into()),
        Err(_) => Ok(()),
    }
}

/// What deletes all that this process has not finished of an output, for one that is about to end. All else
/// is somebody else's. It is to be asked for before the output is begun: later, other folders may be there.
pub fn discard(output: &Path) -> impl FnOnce() + Send + use<> {
    let folder = folder_towards(output).to_owned();
    move || {
        mem::forget(door());
        let is_own = |name: &str| name.starts_with(&*OWN_PREFIX) && name.ends_with(SUFFIX);
        each(&folder, is_own, |path| {
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.ok();
        });
    }
}

/// Deletes the files and folders that others left half-written in a folder who were killed meanwhile. All of it
/// is still where it came from.
pub(super) fn sweep(folder: &Path) {
    each(folder, is_name, |path| {
        // Whoever lives and will finish it has it locked. Whoever begins it now sees that it goes.
        let Ok(left) = File::open(path) else { return };
        if left.try_lock().is_ok() {
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.ok();
        }
    });
}

/// Whether one of us has given that name: nobody else's file is ever deleted.
fn is_name(name: &str) -> bool {
    let middle = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    middle.and_then(|middle| middle.split_once('-')).is_some_and(|(process, random)| {
        process.len() == 16
            && process.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
            && random.len() == RANDOM
            && random.bytes().all(|it| it.is_ascii_alphanumeric())
    })
}

fn each(folder: &Path, is_wanted: impl Fn(&str) -> bool, mut visit: impl FnMut(&Path)) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    for item in listing.flatten() {
        if item.file_name().to_str().is_some_and(&is_wanted) {
            visit(&item.path());
        }
    }
}
