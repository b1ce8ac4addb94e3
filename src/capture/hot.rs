//! The hot segment: what is recorded right now.
//!
//! [`HotSegment::commit`] hands everything that was appended to the kernel in one write. Killing the
//! process after that loses nothing. A power cut may lose what was not synced, and checkpoints prove what is
//! whole: every byte before one is covered by its checksum. One is written at each sync, and with each commit
//! before which much has come since the last one: what is damaged costs the piece between two of them.
//! After a failed write the segment refuses all further ones; what is in it stays.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    About, Compression, HOT_SUFFIX, SEALED_SUFFIX, SET_ASIDE_SUFFIX, Sealed, Writer, seal,
    stretch::read_at,
    unfinished::{create_folder, refuse_taken},
};
use crate::{
    entry::{Entry, FrameType},
    error::{Error, Kind, Result},
    files::{folder_of, is_named},
};

/// The opcode of the checkpoint record. Readers skip opcodes from 0x80 that they do not know.
pub(crate) const CHECKPOINT: u8 = 0x81;

/// A commit writes a checkpoint when so many bytes have come since the last one.
pub(super) const PIECE_SIZE: u64 = 256 * 1024;

/// How long somebody else may have the lock of a file that was just created, and how often it is tried again.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_AGAIN: Duration = Duration::from_millis(1);

/// A segment that is being recorded.
pub struct HotSegment {
    writer: Writer<Batch>,
    /// One for all who need it: where there are no more to be had, what is open goes on.
    file: Arc<File>,
    progress: Arc<Progress>,
    path: PathBuf,
    sealed_path: PathBuf,
    entries: u64,
    has_frames: bool,
    /// So many of them the kernel has.
    committed: u64,
    /// The entries before the checkpoint that was asked for last.
    proven: u64,
    /// What is behind this byte does not count.
    end: u64,
    /// Where its name is, which no power cut must forget. None: somebody was to sync that.
    folder: Option<File>,
    broken: bool,
}

/// What the kernel has of a hot segment and the disk perhaps has not.
pub struct Unsynced {
    file: Arc<File>,
    /// Where its name is, if nobody was to sync that yet.
    folder: Option<File>,
}

impl Unsynced {
    /// After that no power cut takes it. It may take its time.
    pub fn sync(self) -> io::Result<()> {
        self.file.sync_data()?;
        self.folder.map_or(Ok(()), |folder| folder.sync_all())
    }
}

/// A proof of what is whole: everything before `offset` has the checksum `crc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Where the checkpoint record itself begins.
    pub offset: u64,
    /// How many entries stand before it.
    pub entries: u64,
    /// CRC32 of all bytes before it.
    pub crc: u32,
}

impl Checkpoint {
    pub(super) const SIZE: usize = 20;

    pub(super) fn write_to(self, records: &mut Vec<u8>) {
        records.push(CHECKPOINT);
        records.extend((Self::SIZE as u64).to_le_bytes());
        records.extend(self.offset.to_le_bytes());
        records.extend(self.entries.to_le_bytes());
        records.extend(self.crc.to_le_bytes());
    }

    /// Later versions may append fields.
    pub(crate) fn from_bytes(data: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = data.first_chunk()?;
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (entries, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            entries: u64::from_le_bytes(*entries),
            crc: u32::from_le_bytes(*rest.first_chunk()?),
        })
    }
}

/// A moment in the life of a hot segment.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    size: u64,
    entries: u64,
}

impl HotSegment {
    /// Starts the segment that will be named `sealed_path` when it is sealed. Where that fails, as on a
    /// full disk, nothing of it stays.
    pub fn create(sealed_path: &Path, about: &About, types: &[&FrameType]) -> Result<Self> {
        refuse_hot_name(sealed_path)?;
        refuse_taken(sealed_path)?;
        let path = hot_path(sealed_path);
        let file = create_locked(&path)?;
        let begun = Self::begin(file, path.clone(), sealed_path, about, types);
        if begun.is_err() {
            std::fs::remove_file(path).ok();
        }
        begun
    }

    fn begin(
        file: File,
        path: PathBuf,
        sealed_path: &Path,
        about: &About,
        types: &[&FrameType],
    ) -> Result<Self> {
        let folder = folder_to_sync(&path)?;
        let (file, progress) = (Arc::new(file), Arc::new(Progress::default()));
        let batch = Batch {
            file: Arc::clone(&file),
            pending: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            proven_until: 0,
            progress: Arc::clone(&progress),
        };
        let mut writer = Writer::hot(batch, &path)?;
        writer.about(about, types)?;
        let sealed_path = sealed_path.to_owned();
        let (entries, committed, proven, end) = (0, 0, 0, u64::MAX);
        let broken = false;
        let mut segment = Self {
            writer,
            file,
            progress,
            path,
            sealed_path,
            entries,
            has_frames: false,
            committed,
            proven,
            end,
            folder,
            broken,
        };
        segment.commit()?;
        Ok(segment)
    }

    /// Where it is while it is hot.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it will be when it is sealed.
    pub fn sealed_path(&self) -> &Path {
        &self.sealed_path
    }

    /// No entry is in it yet.
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// A frame is in it, or was to be.
    pub const fn has_frames(&self) -> bool {
        self.has_frames
    }

    /// The checkpoint that was asked for last covers all entries.
    pub const fn is_proven(&self) -> bool {
        self.proven == self.entries
    }

    /// Takes one entry. It is safe only after the next [`commit`](Self::commit).
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.refuse_if_broken()?;
        self.entries += 1;
        self.has_frames |= entry.frame().is_some();
        let appended = self.writer.append(entry);
        self.break_if_failed(appended)
    }

    /// Hands all that was appended to the kernel, in one write.
    pub fn commit(&mut self) -> Result<()> {
        self.refuse_if_broken()?;
        self.progress.entries.store(self.entries, Ordering::Relaxed);
        let written = self.writer.flush();
        self.break_if_failed(written)?;
        self.committed = self.entries;
        Ok(())
    }

    /// Nothing more is written to it then, and what the kernel has not got is not in it.
    fn break_if_failed(&mut self, written: Result<()>) -> Result<()> {
        if written.is_err() {
            (self.entries, self.broken) = (self.committed, true);
            // What of it the kernel has taken all the same comes again in the next segment.
            self.end = self.end.min(self.size());
        }
        written
    }

    /// Commits, and writes down what is whole. What is returned is there to be synced, from wherever that
    /// may take its time.
    pub fn checkpoint(&mut self) -> Result<Unsynced> {
        self.progress.wanted.store(true, Ordering::Relaxed);
        self.commit()?;
        self.proven = self.entries;
        Ok(Unsynced { file: Arc::clone(&self.file), folder: self.folder.take() })
    }

    /// What is in it so far.
    pub fn mark(&self) -> Mark {
        Mark { size: self.size(), entries: self.entries }
    }

    /// Lets what came since then not count: it is written into another segment, as this one failed
    /// before it was safe. Nothing more is written to this one.
    pub fn forget_since(&mut self, mark: Mark) {
        self.end = mark.size;
        (self.entries, self.committed) = (mark.entries, mark.entries);
        self.broken = true;
        // For whoever else may come to seal it.
        self.cut_off().ok();
    }

    /// Takes what does not count out of the file.
    fn cut_off(&self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.end {
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    /// Whether its name still leads to it: somebody may have deleted it, or moved it away.
    pub fn has_name(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};

        match is_named(&self.file, &self.path) {
            Ok(is_named) => is_named,
            // Whatever else keeps us from looking.
            Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
        }
    }

    /// Whether the file is as long as what was written to it: somebody else may have cut it off, or written to it. What
    /// is written behind that proves nothing.
    pub fn is_untouched(&self) -> bool {
        // Whatever keeps us from looking.
        self.file.metadata().map_or(true, |metadata| metadata.len() == self.size())
    }

    /// Gives it a file of its name again with all that the kernel has of it. That takes as long as copying it. What
    /// somebody else has put there is set aside: it is not ours to delete.
    pub fn restore(&mut self) -> Result<()> {
        create_folder(folder_of(&self.path))?;
        if self.path.symlink_metadata().is_ok() {
            let aside = set_aside_path(&self.sealed_path);
            std::fs::rename(&self.path, aside).map_err(Error::io("move", &self.path))?;
        }
        let folder = folder_to_sync(&self.path)?;
        let file = create_locked(&self.path)?;
        let copied = self.copy_to(&file);
        if let Err(error) = copied {
            std::fs::remove_file(&self.path).ok();
            return Err(Error::io("write", &self.path)(error));
        }
        // Nothing of it is on the disk yet.
        (self.folder, self.proven) = (folder, u64::MAX);
        self.file = Arc::new(file);
        self.progress.restored(Arc::clone(&self.file));
        Ok(())
    }

    fn copy_to(&self, mut file: &File) -> io::Result<()> {
        let mut block = vec![0; PIECE_SIZE as usize];
        let (mut at, size) = (0, self.size());
        while at < size {
            let wanted = block.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
            let read = read_at(&self.file, at, &mut block[..wanted])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&block[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    /// How many bytes the kernel has of it.
    pub fn size(&self) -> u64 {
        self.progress.offset.load(Ordering::Relaxed)
    }

    /// Ends the segment and seals it. Whatever goes wrong, the hot file is still there, if it has its
    /// [name](Self::has_name) still.
    pub fn seal(mut self, compression: Compression) -> Result<Sealed> {
        if !self.has_name() {
            self.restore()?;
        }
        if self.broken {
            // Where that failed before: whoever else may come to seal it knows of no end.
            self.cut_off().ok();
        } else if !self.is_proven() {
            self.checkpoint()?;
        }
        // The lock is kept until the sealed segment stands: nobody else is to seal or delete it.
        let sealed = seal::seal_locked(
            &self.path,
            &self.sealed_path,
            &self.file,
            self.end,
            compression,
            &|| false,
        );
        // The lock is shared with the files that `checkpoint` gave away. Closing ours would leave it
        // held for as long as a slow disk syncs one of them.
        self.file.unlock().map_err(Error::io("unlock", &self.path))?;
        sealed
    }

    /// Deletes a segment that nothing is in. Where that fails, it may be tried again.
    pub fn discard(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("delete", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    fn refuse_if_broken(&self) -> Result<()> {
        if self.broken {
            let source = io::Error::other("an earlier write to it has failed");
            return Err(Error::io("write", &self.path)(source));
        }
        Ok(())
    }
}

/// What is to be synced for the sake of a name.
fn folder_to_sync(path: &Path) -> Result<Option<File>> {
    // Windows cannot open a folder as a file, and does not need to.
    let folder = cfg!(unix).then(|| File::open(folder_of(path)));
    folder.transpose().map_err(Error::io("open", folder_of(path)))
}

/// Creates a file that has no name yet, to be read and to be appended to, and takes its lock.
fn create_locked(path: &Path) -> Result<File> {
    let created = OpenOptions::new().create_new(true).read(true).append(true).open(path);
    let file = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Kind::OutputExists { path: path.to_owned() }.into(),
        _ => Error::io("create", path)(error),
    })?;
    lock(&file, path)?;
    Ok(file)
}

/// Takes the lock of a file that was just created.
fn lock(file: &File, path: &Path) -> Result<()> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            // Between the two calls another recorder may have taken it for an empty left-over and
            // deleted it; what is written to such a file is gone.
            Ok(()) if path.exists() => return Ok(()),
            // Who looks whether it is a left-over has it for a moment.
            Err(TryLockError::WouldBlock) if path.exists() && Instant::now() < until => {
                thread::sleep(LOCK_AGAIN);
            }
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(Kind::InUse { path: path.to_owned() }.into());
            }
            Err(TryLockError::Error(error)) => {
                // There are no locks here, and nobody has it.
                std::fs::remove_file(path).ok();
                return Err(Error::io("lock", path)(error));
            }
        }
    }
}

impl Drop for HotSegment {
    fn drop(&mut self) {
        // The `mcap` writer finishes the file when it is dropped. Nobody asked for that.
        self.progress.closed.store(true, Ordering::Relaxed);
        // Closing it is not enough: a process that is just being started has the file, too, until it runs. Where it
        // fails, there is no lock that anybody could hold.
        self.file.unlock().ok();
    }
}

/// Whether a file of that name is a hot segment, be it one that could not be sealed.
pub(super) fn is_hot(path: &Path) -> bool {
    path.to_string_lossy().ends_with(HOT_SUFFIX) || is_set_aside(path)
}

/// `NAME.mcap.damaged`, or the same with a number: a hot segment that could not be sealed as it was.
pub(super) fn is_set_aside(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let number = name.rsplit_once(SET_ASIDE_SUFFIX).map(|(_, number)| number);
    number.is_some_and(|number| {
        let digits = number.strip_prefix('-').unwrap_or("0");
        number.is_empty() || (!digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()))
    })
}

/// The name for a hot segment that cannot be sealed as it is: each may be the only copy.
pub(super) fn set_aside_path(sealed: &Path) -> PathBuf {
    let first = renamed(sealed, SEALED_SUFFIX, SET_ASIDE_SUFFIX);
    let numbered = (2_u32..).map(|number| {
        let mut name = first.clone().into_os_string();
        name.push(format!("-{number}"));
        name.into()
    });
    let mut names = std::iter::once(first.clone()).chain(numbered);
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or(first)
}

/// `NAME.mcap` while it is hot: `NAME.open.mcap`.
pub(super) fn hot_path(sealed: &Path) -> PathBuf {
    renamed(sealed, SEALED_SUFFIX, HOT_SUFFIX)
}

/// A sealed segment of such a name would be read as a hot one, and sealed again.
pub(super) fn refuse_hot_name(sealed: &Path) -> Result<()> {
    if is_hot(sealed) {
        return Err(Error::usage(
            format!("an output that ends in neither {HOT_SUFFIX} nor {SET_ASIDE_SUFFIX}"),
            sealed.display().to_string(),
            "NAME.open.mcap is what NAME.mcap is called while it is recorded, and NAME.mcap.damaged what it \
             is called when it cannot be sealed",
        ));
    }
    Ok(())
}

/// And back.
pub(super) fn sealed_path(hot: &Path) -> PathBuf {
    renamed(hot, HOT_SUFFIX, SEALED_SUFFIX)
}

/// Whether a live recorder, or whoever seals what it left, holds the lock of a hot segment. Asking
/// leaves nothing locked: a reader must not keep the file from being sealed.
pub(super) fn is_owned(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // It fails only where the lock did not work either.
            file.unlock().ok();
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}

fn renamed(path: &Path, from: &str, to: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{}{to}", name.strip_suffix(from).unwrap_or(&name)))
}

/// What the segment and its [`Batch`] have to tell each other.
#[derive(Default)]
struct Progress {
    /// How many bytes the kernel has.
    offset: AtomicU64,
    /// How many entries there are when those that wait are written.
    entries: AtomicU64,
    /// A checkpoint is to be written behind them, however few bytes they are.
    wanted: AtomicBool,
    /// Nothing is written any more: the segment was dropped, or a write has failed.
    closed: AtomicBool,
    /// What is to be written to from now on.
    restored: Mutex<Option<Arc<File>>>,
}

impl Progress {
    fn restored(&self, file: Arc<File>) {
        *self.restored.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    fn take_restored(&self) -> Option<Arc<File>> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Collects records and writes them to the file when it is flushed, and only then: a writer that is
/// dropped writes nothing behind anybody's back.
struct Batch {
    file: Arc<File>,
    pending: Vec<u8>,
    checksum: crc32fast::Hasher,
    /// Where the last checkpoint begins.
    proven_until: u64,
    progress: Arc<Progress>,
}

impl Batch {
    /// Writes a checkpoint behind what waits, if it is time.
    fn prove(&mut self) {
        let start = self.progress.offset.load(Ordering::Relaxed);
        self.checksum.update(&self.pending);
        let offset = start + self.pending.len() as u64;
        let wanted = self.progress.wanted.swap(false, Ordering::Relaxed);
        if wanted || offset - self.proven_until >= PIECE_SIZE {
            let entries = self.progress.entries.load(Ordering::Relaxed);
            let crc = self.checksum.clone().finalize();
            let records = self.pending.len();
            Checkpoint { offset, entries, crc }.write_to(&mut self.pending);
            self.checksum.update(&self.pending[records..]);
            self.proven_until = offset;
        }
    }
}

impl Write for Batch {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A burst of large messages must not keep its memory for ever.
        const KEPT: usize = 1024 * 1024;

        if self.progress.closed.load(Ordering::Relaxed) {
            return Err(io::Error::other("the segment is closed"));
        }
        if let Some(file) = self.progress.take_restored() {
            self.file = file;
        }
        self.prove();
        if let Err(error) = (&*self.file).write_all(&self.pending) {
            // Some of it may be there. None of it was promised, so the file ends where it was whole;
            // where even that fails, readers find a record cut off.
            self.progress.closed.store(true, Ordering::Relaxed);
            self.file.set_len(self.progress.offset.load(Ordering::Relaxed)).ok();
            return Err(error);
        }
        self.progress.offset.fetch_add(self.pending.len() as u64, Ordering::Relaxed);
        self.pending.clear();
        self.pending.shrink_to(KEPT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::entry::{SessionEvent, Subscription, Timestamp, What};

    #[test]
    fn whoever_only_looks_at_a_new_file_does_not_keep_it_from_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.open.mcap");
        let (file, looker) = (File::create_new(&path).unwrap(), File::open(&path).unwrap());
        looker.lock_shared().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(10 * LOCK_AGAIN);
                looker.unlock().unwrap();
            });
            lock(&file, &path).unwrap();
        });
        assert!(is_owned(&looker));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_set_aside_stays_in_its_folder_whatever_that_is_called() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(OsStr::from_bytes(b"no \xff text"));
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name);
        assert_eq!(set_aside_path(&path("a.mcap")), path("a.mcap.damaged"));
        fs::write(path("a.mcap.damaged"), "").unwrap();
        assert_eq!(set_aside_path(&path("a.mcap")), path("a.mcap.damaged-2"));
    }

    #[test]
    fn what_a_write_that_failed_has_left_is_not_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let (started, host) = (Timestamp::from_nanos(1), String::new());
        let about = About { started, host, options: BTreeMap::new() };
        let path = folder.path().join("a.mcap");
        let mut segment = HotSegment::create(&path, &about, &[]).unwrap();
        let subscription = Subscription::to_audit("campus");
        let what = What::Event(SessionEvent::default());
        let entry = Entry { subscription, received: started, what };
        segment.append(&entry).unwrap();
        segment.commit().unwrap();
        let before = fs::read(segment.path()).unwrap();
        segment.append(&entry).unwrap();
        segment.commit().unwrap();
        let record = fs::read(segment.path()).unwrap().split_off(before.len());

        // Neither can be written to such a one, nor can it be cut off.
        segment.progress.restored(Arc::new(File::open(segment.path()).unwrap()));
        segment.append(&entry).unwrap();
        assert!(segment.commit().is_err());
        OpenOptions::new().append(true).open(segment.path()).unwrap().write_all(&record).unwrap();
        let sealed = segment.seal(Compression::default()).unwrap();
        assert_eq!((sealed.entries, sealed.damage.is_some()), (2, false));
    }
}
