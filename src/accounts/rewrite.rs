//! Putting a renewed key into the file it came from.
//!
//! At any moment, also when the process is killed, the file is the old or the new one, with the same
//! owner and mode. The new one is written beside it, readable by nobody else, and takes its name when
//! it is on the disk. Recorders take turns by a lock on the folder, which is there before and after;
//! whoever edits the file meanwhile knows of no lock, so it is looked at again before it is replaced.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{json_in, parse};
use crate::{
    error::{Error, Kind, Result},
    protocol::Key,
};

/// How long to wait for another recorder that writes into the same folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How often a file that changes while it is being rewritten is read anew.
const TRIES: usize = 10;

/// Replaces a key wherever the input file has it as the key of a subscription, and changes nothing
/// else. Returns whether the file has the new key now.
pub fn replace_key(path: &Path, old: &Key, new: &Key) -> Result<bool> {
    let mut has_new = false;
    rewrite(path, |text| {
        let accounts = parse(path, text)?;
        has_new = accounts.iter().any(|account| account.key == *old || account.key == *new);
        let places = places_of(text, old);
        Ok((!places.is_empty()).then(|| spliced(text, &places, &quoted(new))))
    })?;
    Ok(has_new)
}

/// The same for a file with one key and nothing else.
pub fn replace_only_key(path: &Path, old: &Key, new: &Key) -> Result<bool> {
    let mut has_new = false;
    rewrite(path, |text| {
        let found = Key::new(text);
        has_new = found.as_ref().is_some_and(|key| key == old || key == new);
        Ok((found.as_ref() == Some(old)).then(|| format!("{}\n", new.expose())))
    })?;
    Ok(has_new)
}

/// Deletes what a recorder left behind that was killed while it replaced a key.
pub fn remove_left_over(path: &Path) -> Result<()> {
    let path = fs::canonicalize(path).map_err(Error::io("find", path))?;
    let left_over = new_path(&path);
    if !left_over.exists() {
        return Ok(());
    }
    let _lock = lock_folder_of(&path)?;
    match fs::remove_file(&left_over) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("delete", &left_over)(error))
        }
        _ => Ok(()),
    }
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    /// Another file may have taken the name.
    number: u64,
}

impl Stamp {
    /// The state right now, of the file at the end of all links.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        fs::metadata(path).map(|found| Self::from(&found)).map_err(Error::io("look at", path))
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(found);
        #[cfg(not(unix))]
        let number = 0;
        Self { modified: found.modified().ok(), size: found.len(), number }
    }
}

/// Replaces a file by what `change` makes of its content; nothing happens if that is None.
fn rewrite(path: &Path, mut change: impl FnMut(&str) -> Result<Option<String>>) -> Result<()> {
    // Through a link, the file it points to is the one to replace.
    let path = fs::canonicalize(path).map_err(Error::io("find", path))?;
    let _lock = lock_folder_of(&path)?;
    for _ in 0..TRIES {
        let before = fs::metadata(&path).map_err(Error::io("look at", &path))?;
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let Some(content) = change(&text)? else { return Ok(()) };
        let mut new = NewFile::create(&path)?;
        new.fill(&content, &before).map_err(Error::io("write", &new.path))?;
        if Stamp::of(&path)? == Stamp::from(&before) {
            return new.replace(&path);
        }
    }
    Err(Kind::Busy { path }.into())
}

/// Is unlocked when it is dropped.
fn lock_folder_of(path: &Path) -> Result<Option<File>> {
    // Windows cannot open a folder as a file.
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let lock = File::open(folder).map_err(Error::io("open", folder))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            // Some network file systems lock no folders. What is left is the look before the rename.
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Kind::Busy { path: path.to_owned() }.into());
            }
        }
    }
}

/// Always the same name, so that there is at most one left-over, which the next rewrite removes.
fn new_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.centralcap-new"))
}

/// A file that will take the place of another one, or else be gone.
struct NewFile {
    file: File,
    path: PathBuf,
    replaced: bool,
}

impl NewFile {
    fn create(beside: &Path) -> Result<Self> {
        let path = new_path(beside);
        // If that fails, creating it will, too.
        let _ = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(Error::io("create", &path))?;
        Ok(Self { file, path, replaced: false })
    }

    fn fill(&mut self, content: &str, like: &Metadata) -> io::Result<()> {
        self.file.write_all(content.as_bytes())?;
        keep_owner(&self.file, like)?;
        // After the owner: before that it would be the wrong group that may read.
        self.file.set_permissions(like.permissions())?;
        self.file.sync_all()
    }

    fn replace(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).map_err(Error::io("replace", path))?;
        self.replaced = true;
        crate::files::sync_folder_of(path).map_err(Error::io("write", path))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.replaced {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn keep_owner(file: &File, like: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let is = file.metadata()?;
    if (is.uid(), is.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    fchown(file, Some(like.uid()), Some(like.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// The input file, with the keys as they are written.
#[derive(Deserialize)]
struct Written<'t> {
    #[serde(borrow)]
    customers: BTreeMap<Cow<'t, str>, WrittenKey<'t>>,
}

#[derive(Deserialize)]
struct WrittenKey<'t> {
    #[serde(borrow)]
    wsskey: &'t RawValue,
}

/// Where the JSON strings are that hold a key, in order.
fn places_of(text: &str, key: &Key) -> Vec<Range<usize>> {
    let Ok(written) = serde_json::from_str::<Written<'_>>(json_in(text)) else { return Vec::new() };
    let place = |WrittenKey { wsskey }: WrittenKey<'_>| {
        let found: String = serde_json::from_str(wsskey.get()).ok()?;
        // It was borrowed from the text, so its distance from the beginning is its place there.
        let start = wsskey.get().as_ptr().addr() - text.as_ptr().addr();
        (Key::new(&found)? == *key).then(|| start..start + wsskey.get().len())
    };
    let mut places: Vec<_> = written.customers.into_values().filter_map(place).collect();
    places.sort_by_key(|place| place.start);
    places
}

fn spliced(text: &str, places: &[Range<usize>], with: &str) -> String {
    let mut spliced = String::with_capacity(text.len());
    let mut copied = 0;
    for place in places {
        spliced.push_str(&text[copied..place.start]);
        spliced.push_str(with);
        copied = place.end;
    }
    spliced.push_str(&text[copied..]);
    spliced
}

fn quoted(key: &Key) -> String {
    serde_json::Value::from(key.expose()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    /// With all that a user may have put into it.
    const FULL: &str = r#"{
  "note": "synthetic-old-key", "ratio": 1.50e+3, "large": 123456789012345678901234567890,
  "customers": {
    "west":  {"wsskey": "synthetic-old-key", "topic": "audit", "color": [1, 2]},
    "escaped": { "comment" : "a \/ b",  "wsskey":"synthetic\u002dold-key" ,"topic":"audit"},
    "spaced": {"wsskey": " synthetic-old-key ", "topic": "audit"},
    "east": {"topic": "monitoring", "wsskey": "synthetic-other-key", "wsskey_was": "synthetic-old-key"}
  }
}
"#;

    #[test]
    fn a_renewed_key_changes_its_own_strings_and_not_a_byte_more() {
        let full = format!("\u{feff}{FULL}");
        let (_folder, path) = file(&full);
        assert!(replace_key(&path, &key("synthetic-old-key"), &key("synthetic-new-key")).unwrap());
        let expected = full
            .replace(r#""wsskey": "synthetic-old-key""#, r#""wsskey": "synthetic-new-key""#)
            .replace(r"synthetic\u002dold-key", "synthetic-new-key")
            .replace(r#"" synthetic-old-key ""#, r#""synthetic-new-key""#);
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_key_that_its_owner_has_replaced_meanwhile_stays() {
        let (_folder, path) = file(FULL);
        let (gone, new) = (key("synthetic-gone-key"), key("synthetic-new-key"));
        assert!(!replace_key(&path, &gone, &new).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), FULL);
        // Another recorder may have put it there.
        assert!(replace_key(&path, &gone, &key("synthetic-other-key")).unwrap());

        let (_folder, path) = file("synthetic-own-key\n");
        assert!(!replace_only_key(&path, &gone, &new).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "synthetic-own-key\n");
        assert!(replace_only_key(&path, &key("synthetic-own-key"), &new).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "synthetic-new-key\n");
        assert!(replace_only_key(&path, &gone, &new).unwrap());
    }

    #[test]
    fn what_is_written_while_it_is_rewritten_is_not_lost() {
        let (folder, path) = file("first");
        let mut seen = Vec::new();
        rewrite(&path, |text| {
            seen.push(text.to_owned());
            if seen.len() == 1 {
                // In place, and of the same size.
                fs::write(&path, "FIRST").unwrap();
            }
            if seen.len() == 2 {
                // As editors do it.
                let edited = folder.path().join("edited");
                fs::write(&edited, "third").unwrap();
                fs::rename(edited, &path).unwrap();
            }
            Ok(Some(format!("{text} changed")))
        })
        .unwrap();
        assert_eq!(seen, ["first", "FIRST", "third"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "third changed");

        let mut size = 0;
        let error = rewrite(&path, |_| {
            size += 1;
            fs::write(&path, "x".repeat(size)).unwrap();
            Ok(Some("never".to_owned()))
        });
        assert!(error.unwrap_err().to_string().contains("at work on it"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn many_recorders_of_one_file_do_not_undo_each_others_work() {
        const MANY: usize = 8;

        let entries: Vec<_> = (0..MANY)
            .map(|n| {
                format!("\"{n}\": {{\"wsskey\": \"synthetic-old-{n}\", \"topic\": \"audit\"}}")
            })
            .collect();
        let (_folder, path) = file(&format!("{{\"customers\": {{{}}}}}", entries.join(", ")));
        let before = fs::read_to_string(&path).unwrap();
        std::thread::scope(|scope| {
            for n in 0..MANY {
                let path = &path;
                scope.spawn(move || {
                    let (old, new) = (format!("synthetic-old-{n}"), format!("synthetic-new-{n}"));
                    assert!(replace_key(path, &key(&old), &key(&new)).unwrap());
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), before.replace("old", "new"));
    }

    #[test]
    fn what_a_killed_recorder_left_behind_goes() {
        let (folder, path) = file(FULL);
        let left_over = folder.path().join(".input.json.centralcap-new");
        fs::write(&left_over, "synthetic").unwrap();
        remove_left_over(&path).unwrap();
        remove_left_over(&path).unwrap();
        assert!(!left_over.exists());
        fs::write(&left_over, "synthetic").unwrap();
        assert!(replace_key(&path, &key("synthetic-old-key"), &key("synthetic-new-key")).unwrap());
        assert!(!left_over.exists());
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_owner_are_kept_also_through_a_link_and_nobody_reads_the_new_file_before() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

        let (folder, path) = file(FULL);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Only the superuser may give files away.
        let owner = match chown(&path, Some(12_345), Some(23_456)) {
            Ok(()) => (12_345, 23_456),
            Err(_) => fs::metadata(&path).map(|found| (found.uid(), found.gid())).unwrap(),
        };
        let link = folder.path().join("link.json");
        symlink(&path, &link).unwrap();
        assert!(replace_key(&link, &key("synthetic-old-key"), &key("synthetic-new-key")).unwrap());
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o640);
        assert_eq!((found.uid(), found.gid()), owner);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        let new = NewFile::create(&path).unwrap();
        assert_eq!(new.file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
