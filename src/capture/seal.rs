//! From hot to sealed: read, compress, sync, rename, and only then delete.
//!
//! At every moment either the hot segment or the sealed one is whole on the disk. When both are
//! there, the rename was the last thing that happened, and the sealed one stands.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use mcap::{McapError, records::MessageHeader};

use super::{
    Compression, HOT_SUFFIX, PastDamage, SealedFile, hot,
    past::past_damage,
    reader::{End, Records},
    record::Record,
    unfinished,
};
use crate::{
    error::{Error, Kind, Result},
    files::{folder_of, sync_folder_of},
};

/// What became of a hot segment.
#[derive(Debug)]
pub struct Sealed {
    /// The sealed segment; None if there was nothing in the hot one.
    pub path: Option<PathBuf>,
    /// Frames and session events in it.
    pub entries: u64,
    /// The hot segment's size in bytes.
    pub hot_size: u64,
    /// The sealed segment's size in bytes.
    pub sealed_size: u64,
    /// What was wrong with the hot segment. If it was only a record cut off at the end, everything
    /// before that was sealed. Otherwise what checkpoints prove to be whole was sealed, and the hot
    /// file is kept, as `NAME.mcap.damaged` where it can be renamed. It may also be that the sealed segment was there already
    /// and is itself damaged: then the hot one stays as it is.
    pub damage: Option<Error>,
    /// The hot file, where it was not deleted.
    pub kept: Option<PathBuf>,
    /// An earlier run had left it.
    pub is_left_over: bool,
}

impl Sealed {
    /// One that an earlier run has left, and that could not be sealed.
    pub(crate) fn unsealed(path: PathBuf) -> Self {
        let damage = Some(Kind::NotSealed { path: path.clone() }.into());
        let kept = Some(path);
        Self { damage, kept, is_left_over: true, ..Self::nothing(0) }
    }

    const fn nothing(hot_size: u64) -> Self {
        let (path, damage, kept) = (None, None, None);
        Self { path, entries: 0, hot_size, sealed_size: 0, damage, kept, is_left_over: false }
    }
}

/// A hot segment that an earlier run has left.
#[derive(Clone, Debug)]
pub struct LeftOver {
    /// The hot segment.
    pub path: PathBuf,
    /// The name that it will have.
    pub sealed_path: PathBuf,
}

/// What became of the hot segments that an earlier run has left.
#[derive(Debug, Default)]
pub struct LeftOvers {
    /// Those that were sealed.
    pub sealed: Vec<Sealed>,
    /// Those that could not be, for want of room perhaps, and why. They are as they were.
    pub unsealed: Vec<(LeftOver, Error)>,
}

/// Finds every hot segment in `folder` that no living recorder owns, oldest name first. What a sealing left
/// half-done is swept away.
pub fn left_overs(folder: &Path) -> Result<Vec<LeftOver>> {
    unfinished::sweep(folder);
    let listing = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut found = Vec::new();
    for item in listing {
        let path = item.map_err(Error::io("read", folder))?.path();
        let is_owned = || File::open(&path).is_ok_and(|file| hot::is_owned(&file));
        if path.to_string_lossy().ends_with(HOT_SUFFIX) && path.is_file() && !is_owned() {
            found.push(LeftOver { sealed_path: hot::sealed_path(&path), path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Seals those.
pub fn seal_left_overs(folder: &Path, compression: Compression) -> Result<LeftOvers> {
    let mut left = LeftOvers::default();
    for left_over in left_overs(folder)? {
        match seal(&left_over.path, &left_over.sealed_path, compression) {
            Ok(sealed) => left.sealed.push(Sealed { is_left_over: true, ..sealed }),
            Err(error) if error.is_in_use() => {}
            Err(error) => left.unsealed.push((left_over, error)),
        }
    }
    Ok(left)
}

/// Seals what an earlier run left behind under this very name, if it did. What a sealing left half-done is swept
/// away.
pub fn sealed_left_over(sealed_path: &Path, compression: Compression) -> Result<Option<Sealed>> {
    unfinished::sweep(folder_of(sealed_path));
    let hot = hot::hot_path(sealed_path);
    hot.exists().then(|| seal(&hot, sealed_path, compression)).transpose()
}

/// Seals one hot segment that nobody writes any more.
pub fn seal(hot: &Path, sealed_path: &Path, compression: Compression) -> Result<Sealed> {
    seal_unless(hot, sealed_path, compression, &|| false)
}

/// The same, unless somebody wants to be elsewhere by now: the error leaves the hot segment as it was.
pub(crate) fn seal_unless(
    hot: &Path,
    sealed_path: &Path,
    compression: Compression,
    is_unwanted: &dyn Fn() -> bool,
) -> Result<Sealed> {
    let locked = File::open(hot).map_err(Error::io("open", hot))?;
    match locked.try_lock() {
        Ok(()) => seal_locked(hot, sealed_path, &locked, u64::MAX, compression, is_unwanted),
        Err(TryLockError::WouldBlock) => Err(Kind::InUse { path: hot.to_owned() }.into()),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", hot)(error)),
    }
}

/// The same for whoever has the hot segment's lock already, and keeps it. What is behind the byte `end`
/// does not count.
pub(super) fn seal_locked(
    hot: &Path,
    sealed_path: &Path,
    locked: &File,
    end: u64,
    compression: Compression,
    is_unwanted: &dyn Fn() -> bool,
) -> Result<Sealed> {
    let hot_size = locked.metadata().map_err(Error::io("look at", hot))?.len();
    let mut sealed = Sealed::nothing(hot_size);

    if sealed_path.exists() {
        // An earlier run was killed between the rename and the deletion, or somebody gave another
        // file the name that was ours.
        match same_entries(hot, sealed_path) {
            Ok(entries) => {
                remove(hot)?;
                sealed.entries = entries;
                sealed.path = Some(sealed_path.to_owned());
                sealed.sealed_size =
                    fs::metadata(sealed_path).map_err(Error::io("look at", sealed_path))?.len();
            }
            Err(error) if error.is_io() => return Err(error),
            Err(_) if is_made_of_damaged(hot, sealed_path) => {
                sealed.kept = Some(set_aside(hot, sealed_path));
            }
            Err(error) => {
                sealed.damage = Some(error);
                sealed.kept = Some(hot.to_owned());
            }
        }
        return Ok(sealed);
    }
    let mut copied = copy(hot, sealed_path, end, compression, is_unwanted)?;
    sealed.damage = copied.damage.take();
    // A torn last record is what a kill leaves, and no frame is in it. Anything else may still hold
    // frames behind the damage, so that file stays for salvage.
    let broken = sealed.damage.is_some() && copied.end != Some(End::Torn);
    if broken {
        // Where it shows need not be where it is: an entry since the last checkpoint may be another
        // than was received, and in a sealed segment it would pass for it.
        copied = copy(hot, sealed_path, copied.proven_until.min(end), compression, is_unwanted)?;
        copied.target.metadata(&PastDamage::of_one_place().record())?;
    }
    if copied.anything {
        sealed.entries = copied.entries;
        sealed.sealed_size = copied.target.finish()?;
        sealed.path = Some(sealed_path.to_owned());
    }
    if broken {
        sealed.kept = Some(set_aside(hot, sealed_path));
    } else {
        remove(hot)?;
    }
    Ok(sealed)
}

/// Proves that a sealed segment is whole and holds what the hot one holds, and says how many messages
/// that is. The hot one is deleted for it, so nothing is taken on trust.
fn same_entries(hot: &Path, sealed_path: &Path) -> Result<u64> {
    let mut sealed = Records::open(sealed_path)?;
    let mut hot = Records::of_left_over(hot)?;
    let mut same = 0;
    loop {
        match (next_message(&mut hot), next_message(&mut sealed)) {
            (Some(Ok(hot)), Some(Ok(sealed))) if hot == sealed => same += 1,
            (None, None) => return Ok(same),
            // What is torn in the hot one was never sealed.
            (Some(Err(_)), None) if hot.end() == Some(End::Torn) => return Ok(same),
            (Some(Err(error)), None) | (_, Some(Err(error))) => return Err(error),
            _ => return Err(Kind::OutputExists { path: sealed_path.to_owned() }.into()),
        }
    }
}

/// Whether the sealed segment is what could be proven of the hot one, which could not be set aside then. It is whole
/// and remembers that, and all that is in it is in the hot one, too, in this order.
fn is_made_of_damaged(hot: &Path, sealed_path: &Path) -> bool {
    let (Ok(mut hot), Ok(mut sealed)) = (Records::of_left_over(hot), Records::open(sealed_path))
    else {
        return false;
    };
    let is_in_hot = |sealed: Result<_>| {
        let Ok(sealed) = sealed else { return false };
        let mut others = std::iter::from_fn(|| next_message(&mut hot));
        others.any(|hot| hot.is_ok_and(|hot| hot == sealed))
    };
    !past_damage(sealed_path).is_empty()
        && std::iter::from_fn(|| next_message(&mut sealed)).all(is_in_hot)
}

/// Gives a hot segment a name under which nobody seals it. Where it cannot get that it keeps its own, and what is
/// sealed stands all the same.
fn set_aside(hot: &Path, sealed_path: &Path) -> PathBuf {
    let aside = hot::set_aside_path(sealed_path);
    let kept = if fs::rename(hot, &aside).is_ok() { aside } else { hot.to_owned() };
    sync_folder_of(hot).ok();
    kept
}

fn next_message(records: &mut Records) -> Option<Result<(MessageHeader, Bytes)>> {
    loop {
        match records.next()? {
            Ok(Record::Message { header, data }) => return Some(Ok((header, data))),
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// What is known of a hot segment when its records were copied.
struct Copied {
    target: SealedFile,
    anything: bool,
    entries: u64,
    end: Option<End>,
    proven_until: u64,
    damage: Option<Error>,
}

/// Copies the records before byte `until`, or before the damage.
fn copy(
    hot: &Path,
    sealed_path: &Path,
    until: u64,
    compression: Compression,
    is_unwanted: &dyn Fn() -> bool,
) -> Result<Copied> {
    let mut records = Records::of_left_over(hot)?;
    let mut target = SealedFile::bare(sealed_path, compression)?;
    let (mut anything, mut entries, mut damage) = (false, 0, None);
    let mut declared = BTreeSet::new();
    while records.place() < until
        && let Some(record) = records.next()
        // What is no entry may have been skipped on the way to it.
        && records.place() <= until
    {
        if is_unwanted() {
            return Err(Kind::NotSealed { path: hot.to_owned() }.into());
        }
        let copied = record.and_then(|record| {
            // What is sealed passes for whole: nothing gets in that depends on what is not proven.
            match &record {
                _ if records.is_distrusted() => return Ok(false),
                Record::Channel(channel) => _ = declared.insert(channel.id),
                Record::Message { header, .. } if !declared.contains(&header.channel_id) => {
                    return Ok(false);
                }
                _ => {}
            }
            let is_entry = matches!(record, Record::Message { .. });
            match copy_record(record, &mut target) {
                Ok(()) => Ok(is_entry),
                Err(McapError::Io(source)) => Err(Error::io("write", sealed_path)(source)),
                // A channel that contradicts an earlier one, or a message of none.
                Err(error) => Err(records.damaged(error.to_string())),
            }
        });
        match copied {
            Ok(is_entry) => {
                anything = true;
                entries += u64::from(is_entry);
            }
            Err(error) if error.is_damage() || error.is_not_a_capture() => {
                damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    let (end, proven_until) = (records.end(), records.proven_until());
    Ok(Copied { target, anything, entries, end, proven_until, damage })
}

fn copy_record(record: Record, target: &mut SealedFile) -> Result<(), McapError> {
    let records = target.writer().records();
    match record {
        Record::Schema { id, name, encoding, data } => {
            records.add_schema_with_id(id, &name, &encoding, &data)?;
        }
        Record::Channel(channel) => {
            records.add_channel_with_id(
                channel.id,
                channel.schema_id,
                &channel.topic,
                &channel.message_encoding,
                &channel.metadata,
            )?;
        }
        Record::Message { header, data } => records.write_to_known_channel(&header, &data)?,
        Record::Metadata(metadata) => records.write_metadata(&metadata)?,
    }
    Ok(())
}

/// Deletes what was sealed, if nobody has done that meanwhile. A power cut may undo it, which costs nothing: the sealed
/// segment stands.
fn remove(hot: &Path) -> Result<()> {
    match fs::remove_file(hot) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("delete", hot)(error)),
        _ => {
            sync_folder_of(hot).ok();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{
        capture::{About, HotSegment},
        entry::{Entry, SessionEvent, Subscription, Timestamp, What},
    };

    /// A hot segment that nobody writes any more, with nine entries, and the name that it will have.
    fn left_in(folder: &Path) -> (PathBuf, PathBuf) {
        let path = folder.join("a.mcap");
        let (started, host) = (Timestamp::from_nanos(1), String::new());
        let about = About { started, host, options: std::collections::BTreeMap::new() };
        let mut segment = HotSegment::create(&path, &about, &[]).unwrap();
        let subscription = Subscription::to_audit("campus");
        let what = What::Event(SessionEvent::default());
        let entry = Entry { subscription, received: started, what };
        (0..9).for_each(|_| segment.append(&entry).unwrap());
        segment.commit().unwrap();
        (segment.path().to_owned(), path)
    }

    #[cfg(unix)]
    #[test]
    fn what_somebody_deletes_while_it_is_sealed_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let (hot, path) = left_in(folder.path());
        let delete = || {
            fs::remove_file(&hot).ok();
            false
        };
        let sealed = seal_unless(&hot, &path, Compression::default(), &delete).unwrap();
        assert_eq!((sealed.entries, sealed.path), (9, Some(path)));
    }

    #[test]
    fn a_sealing_that_nobody_wants_any_more_leaves_all_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (hot, path) = left_in(folder.path());
        let before = fs::read(&hot).unwrap();
        let asked = Cell::new(0);
        let is_unwanted = || asked.replace(asked.get() + 1) == 5;
        let error = seal_unless(&hot, &path, Compression::default(), &is_unwanted).unwrap_err();
        assert!(error.to_string().starts_with("cannot seal"), "{error}");
        assert_eq!(fs::read(&hot).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(seal(&hot, &path, Compression::default()).unwrap().entries, 9);
    }
}
