//! The room that a disk has left, and what has to find some there.

use std::{fs, io, path::Path};

use super::ring::sealed_in;
use crate::{
    capture::{HOT_SUFFIX, HotSegment},
    error::{Error, Result},
    files::folder_of,
};

/// The size of what is still hot in a folder.
pub(super) fn hot_size_in(folder: &Path) -> u64 {
    hot_sizes_in(folder).sum()
}

fn hot_sizes_in(folder: &Path) -> impl Iterator<Item = u64> {
    let is_hot = |item: &fs::DirEntry| item.file_name().to_string_lossy().ends_with(HOT_SUFFIX);
    let hot = fs::read_dir(folder).into_iter().flatten().flatten().filter(is_hot);
    hot.filter_map(|item| item.metadata().ok()).map(|metadata| metadata.len())
}

/// How much has to be free so that anything hot in a folder can be sealed. Nothing, if deleting all that is sealed
/// would not be enough for it.
pub(super) fn room_to_seal_in(folder: &Path) -> u64 {
    let largest = hot_sizes_in(folder).max().map_or(0, |size| size + 1);
    let sealed = sealed_in(folder).into_iter().filter_map(|path| path.metadata().ok());
    let sealed: u64 = sealed.map(|metadata| metadata.len()).sum();
    let most = free_space(folder).map_or(u64::MAX, |free| free.saturating_add(sealed));
    if most < largest { 0 } else { largest }
}

/// How many bytes the disk has left for us.
#[cfg(unix)]
pub(super) fn free_space(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Whether a hot segment is sure to find room for what is sealed of it.
pub(super) fn has_room_to_seal(hot: &Path) -> bool {
    let size = fs::metadata(hot).map_or(0, |metadata| metadata.len());
    let free = hot.parent().and_then(free_space);
    free.is_none_or(|free| free > size)
}

/// Gives a segment that has lost its name a file of that again. Not where there is too little room: trying fills
/// the disk, and what is recorded meanwhile is lost.
pub(super) fn restore(segment: &mut HotSegment) -> Result<()> {
    let (path, size) = (segment.path(), segment.size());
    if free_space(folder_of(path)).is_some_and(|free| free < size) {
        return Err(Error::io("write", path)(io::ErrorKind::StorageFull.into()));
    }
    segment.restore()
}
