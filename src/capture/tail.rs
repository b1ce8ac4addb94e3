//! A capture that is being recorded, read while it grows.
//!
//! A hot segment is kept open, so all that was written to it is read, also when it is sealed meanwhile, and
//! thereby gets another name and is deleted. A segment that was never seen hot is read when it is sealed. So
//! each entry comes once. Nothing is locked, nothing waits, and nothing of the recorder is touched: whoever
//! reads asks again and again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    HOT_SUFFIX, PROFILE, RECORD_HEADER_SIZE, RECORD_LIMIT, SEALED_SUFFIX,
    entries::{Channel, SegmentEntries, Shared},
    hot::{self, CHECKPOINT, Checkpoint},
    record::{Parsed, Record, foreign, is_of_hot, parse, record_header},
    stranger,
};
use crate::{
    entry::Entry,
    error::{Error, Kind, Result},
    files::is_named,
};

/// How much is read at once.
const READ_SIZE: usize = 256 * 1024;

/// The entries of a capture as they come.
pub struct Tail {
    place: Place,
    /// What is being written, by the name that it will have.
    growing: BTreeMap<PathBuf, Growing>,
    /// What has been read to its end, likewise.
    done: BTreeSet<PathBuf>,
    /// Segments up to this one are done, too, and have been deleted since.
    gone: Option<PathBuf>,
    shared: Shared,
    /// What is to be read in this round; None between two.
    round: Option<VecDeque<Step>>,
    reading: Option<Reading>,
}

/// Where segments come from.
enum Place {
    /// There is one, which has this name when it is sealed.
    File(PathBuf),
    Folder(PathBuf),
}

/// A segment in which there may be something new.
struct Step {
    /// The name that it has when it is sealed.
    sealed: PathBuf,
    is_hot: bool,
    is_sealed: bool,
}

enum Reading {
    Sealed(PathBuf, Box<SegmentEntries>),
    Hot {
        sealed: PathBuf,
        /// Nothing more is written to it.
        is_over: bool,
        /// Another file has its name by now.
        is_replaced: bool,
    },
}

impl Tail {
    /// Follows a folder, or one file: by the name that it has, or will have when it is sealed. Nothing need be
    /// in a folder yet.
    pub fn open(path: &Path) -> Result<Self> {
        let is_hot_name = path.to_string_lossy().ends_with(HOT_SUFFIX);
        let sealed = if is_hot_name { hot::sealed_path(path) } else { path.to_owned() };
        let place = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Place::Folder(path.to_owned()),
            Ok(_) => Place::File(sealed),
            Err(_) if hot::hot_path(&sealed).exists() || sealed.exists() => Place::File(sealed),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        Ok(Self {
            place,
            growing: BTreeMap::new(),
            done: BTreeSet::new(),
            gone: None,
            shared: Shared::default(),
            round: None,
            reading: None,
        })
    }

    /// Nothing more will come: there was one segment, and it has been read to its end.
    pub fn is_over(&self) -> bool {
        match &self.place {
            Place::File(sealed) => self.done.contains(sealed),
            Place::Folder(_) => false,
        }
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        loop {
            match &mut self.reading {
                Some(Reading::Sealed(sealed, entries)) => {
                    if let Some(entry) = entries.next() {
                        return entry.map(Some);
                    }
                    self.done.insert(std::mem::take(sealed));
                    if let Some(Reading::Sealed(_, entries)) = self.reading.take() {
                        self.shared = entries.into_shared();
                    }
                }
                Some(Reading::Hot { sealed, is_over, is_replaced }) => {
                    let read = self.growing.get_mut(sealed).map(|of| of.next(&mut self.shared));
                    match read.transpose() {
                        Ok(Some(Some(entry))) => return Ok(Some(entry)),
                        Ok(_) if *is_replaced => {
                            let old = self.growing.remove(sealed);
                            self.reading = None;
                            if let Some(old) = old {
                                let reason = "another file has taken its place, and is read from its beginning";
                                return Err(old.damaged(reason.to_owned()));
                            }
                        }
                        Ok(_) => {
                            if *is_over {
                                self.growing.remove(sealed);
                                self.done.insert(std::mem::take(sealed));
                            }
                            self.reading = None;
                        }
                        Err(error) => {
                            // Nothing behind it can be told from something else.
                            self.growing.remove(sealed);
                            self.done.insert(std::mem::take(sealed));
                            self.reading = None;
                            return Err(error);
                        }
                    }
                }
                None => match self.round.as_mut().map(VecDeque::pop_front) {
                    Some(Some(step)) => self.reading = self.begin(step)?,
                    Some(None) => {
                        self.round = None;
                        return Ok(None);
                    }
                    None => self.round = Some(self.look()?),
                },
            }
        }
    }

    /// Where there may be something new, in the order of the names.
    fn look(&mut self) -> Result<VecDeque<Step>> {
        // What is written is looked for before it is read: all that came before it is there then.
        let mut found = BTreeMap::new();
        match &self.place {
            Place::File(sealed) => {
                let hot = hot::hot_path(sealed).exists();
                found.insert(sealed.clone(), (hot, sealed.exists()));
            }
            Place::Folder(folder) => {
                list(folder, &mut found, |_| true)?;
                // One that was sealed meanwhile may have been passed over under both names. By now it has the
                // other one, and has to come before all that were begun after it.
                if let Some(last) = found.keys().next_back().cloned() {
                    list(folder, &mut found, |sealed| *sealed <= last)?;
                }
                self.forget_before(found.keys().next());
            }
        }
        for sealed in self.growing.keys() {
            // It may have been renamed while the folder was listed.
            let is_there = || hot::hot_path(sealed).exists();
            found.entry(sealed.clone()).or_insert((false, false)).0 |= is_there();
        }
        let is_known = |sealed: &PathBuf| {
            self.done.contains(sealed) || self.gone.as_ref().is_some_and(|gone| sealed <= gone)
        };
        let steps = found.into_iter().filter(|(sealed, _)| !is_known(sealed));
        Ok(steps.map(|(sealed, (is_hot, is_sealed))| Step { sealed, is_hot, is_sealed }).collect())
    }

    /// Names of segments rise, so what was before the first one never comes back.
    fn forget_before(&mut self, first: Option<&PathBuf>) {
        let Some(first) = first else { return };
        let left = self.done.split_off(first);
        if let Some(last) = std::mem::replace(&mut self.done, left).pop_last() {
            self.gone = self.gone.take().max(Some(last));
        }
    }

    fn begin(&mut self, step: Step) -> Result<Option<Reading>> {
        let Step { sealed, is_hot, is_sealed } = step;
        if let Some(growing) = self.growing.get_mut(&sealed) {
            let is_replaced = is_hot && growing.is_replaced();
            if let Err(error) = growing.is_cut() {
                self.growing.remove(&sealed);
                self.done.insert(sealed);
                return Err(error);
            }
            return Ok(Some(Reading::Hot { sealed, is_over: !is_hot, is_replaced }));
        }
        if is_hot
            && !is_sealed
            && let Some(growing) = Growing::open(&hot::hot_path(&sealed))?
        {
            self.growing.insert(sealed.clone(), growing);
            return Ok(Some(Reading::Hot { sealed, is_over: false, is_replaced: false }));
        }
        // If it was hot when it was found, it is sealed by now, and comes before all that were begun later.
        match SegmentEntries::open(&sealed) {
            Ok(entries) => {
                let entries = entries.sharing(std::mem::take(&mut self.shared));
                Ok(Some(Reading::Sealed(sealed, Box::new(entries))))
            }
            // Deleted since it was found, or not ours to read: once is enough.
            Err(error) => {
                self.done.insert(sealed.clone());
                if sealed.exists() { Err(error) } else { Ok(None) }
            }
        }
    }
}

/// Adds the segments in a folder that are wanted, by the name that they have when they are sealed: whether they
/// are hot, and whether they are sealed.
fn list(
    folder: &Path,
    found: &mut BTreeMap<PathBuf, (bool, bool)>,
    wanted: impl Fn(&PathBuf) -> bool,
) -> Result<()> {
    for item in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = item.map_err(Error::io("read", folder))?.path();
        let name = path.to_string_lossy();
        let is_hot = name.ends_with(HOT_SUFFIX);
        let is_sealed = !is_hot && name.ends_with(SEALED_SUFFIX);
        let sealed = if is_hot { hot::sealed_path(&path) } else { path.clone() };
        if (is_hot || is_sealed) && wanted(&sealed) {
            let (hot, done) = found.entry(sealed).or_default();
            (*hot, *done) = (*hot || is_hot, *done || is_sealed);
        }
    }
    Ok(())
}

/// None: nothing more is there now. More may come, unless it [is over](Tail::is_over). Errors that are
/// [damage](Error::is_damage), or a file that is no capture, are not the end.
impl Iterator for Tail {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.step().transpose()
    }
}

/// A hot segment.
struct Growing {
    path: PathBuf,
    file: File,
    /// What was read of it; up to `at` it was taken.
    buffer: Vec<u8>,
    at: usize,
    /// Where in the file the buffer begins.
    start: u64,
    /// Of all that was taken.
    checksum: crc32fast::Hasher,
    messages: u64,
    /// The magic has come by, and the header.
    has_magic: bool,
    has_header: bool,
    schemas: BTreeMap<u16, (String, Bytes)>,
    channels: BTreeMap<u16, Channel>,
}

impl Growing {
    /// None if it is not there.
    fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::io("open", path))?,
        };
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            buffer: Vec::new(),
            at: 0,
            start: 0,
            checksum: crc32fast::Hasher::new(),
            messages: 0,
            has_magic: false,
            has_header: false,
            schemas: BTreeMap::new(),
            channels: BTreeMap::new(),
        }))
    }

    /// Where the next record begins.
    fn place(&self) -> u64 {
        self.start + self.at as u64
    }

    fn damaged(&self, reason: String) -> Error {
        Kind::damaged(&self.path, self.place(), reason).into()
    }

    fn is_replaced(&self) -> bool {
        is_named(&self.file, &self.path).is_ok_and(|named| !named)
    }

    /// The error is that bytes are gone that were there before.
    fn is_cut(&self) -> Result<()> {
        let size = self.file.metadata().map_err(Error::io("look at", &self.path))?.len();
        let read = self.start + self.buffer.len() as u64;
        if size < read {
            return Err(
                self.damaged(format!("{read} bytes of it were there, now there are {size}"))
            );
        }
        Ok(())
    }

    /// The next entry, if all of it is there.
    fn next(&mut self, shared: &mut Shared) -> Result<Option<Entry>> {
        if !self.has_magic {
            let size = mcap::MAGIC.len();
            if !self.has(size)? {
                return Ok(None);
            }
            if self.buffer[..size] != *mcap::MAGIC {
                let (path, found) = (self.path.clone(), stranger(&self.path).to_owned());
                return Err(Kind::NotACapture { path, found }.into());
            }
            self.take(size);
            self.has_magic = true;
        }
        loop {
            if !self.has(RECORD_HEADER_SIZE)? {
                return Ok(None);
            }
            let header = record_header(&self.buffer[self.at..]);
            let Some((opcode, length)) = header else { return Ok(None) };
            if !is_of_hot(opcode) || length > RECORD_LIMIT as u64 {
                let reason =
                    format!("opcode {opcode:#04x} with {length} bytes is none of a recorder's");
                return Err(self.damaged(reason));
            }
            let whole = RECORD_HEADER_SIZE + length as usize;
            if !self.has(whole)? {
                return Ok(None);
            }
            let start = self.at + RECORD_HEADER_SIZE;
            let data = std::mem::take(&mut self.buffer);
            let record = self.record(opcode, &data[start..start + length as usize], shared);
            self.buffer = data;
            let record = record?;
            self.take(whole);
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Whether so many bytes are there that were not taken.
    fn has(&mut self, wanted: usize) -> Result<bool> {
        while self.buffer.len() - self.at < wanted {
            self.buffer.drain(..self.at);
            (self.start, self.at) = (self.start + self.at as u64, 0);
            let mut more = (&self.file).take(READ_SIZE as u64);
            let read = more.read_to_end(&mut self.buffer);
            if read.map_err(Error::io("read", &self.path))? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) {
        self.checksum.update(&self.buffer[self.at..self.at + count]);
        self.at += count;
    }

    fn record(&mut self, opcode: u8, data: &[u8], shared: &mut Shared) -> Result<Option<Entry>> {
        if opcode == CHECKPOINT {
            return self.check(data).map(|()| None);
        }
        let parsed = parse(opcode, data, Bytes::copy_from_slice);
        match parsed.map_err(|reason| self.damaged(reason))? {
            Some(Parsed::Header(header)) if header.profile == PROFILE => self.has_header = true,
            Some(Parsed::Header(header)) => {
                let found = foreign(&header.profile);
                return Err(Kind::NotACapture { path: self.path.clone(), found }.into());
            }
            _ if !self.has_header => {
                return Err(self.damaged(format!("opcode {opcode:#04x} stands before the header")));
            }
            Some(Parsed::Record(Record::Schema { id, name, data, .. })) => {
                self.schemas.entry(id).or_insert((name, data));
            }
            Some(Parsed::Record(Record::Channel(channel))) => {
                let schema = self.schemas.get(&channel.schema_id);
                let schema = schema.map(|(name, data)| (name.as_str(), data));
                let new = Channel::new(&channel.topic, &channel.metadata, schema);
                self.channels.entry(channel.id).or_insert_with(|| shared.of(new));
            }
            Some(Parsed::Record(Record::Message { header, data })) => {
                self.messages += 1;
                let id = header.channel_id;
                let Some(channel) = self.channels.get(&id) else {
                    return Err(self.damaged(format!("nobody knows whose channel {id} is")));
                };
                let entry = channel.entry(&header, data);
                return entry.map(Some).map_err(|reason| self.damaged(reason));
            }
            Some(Parsed::Record(Record::Metadata(_))) | None => {}
        }
        Ok(None)
    }

    /// Holds a checkpoint against what was read: where the file was written over, it does not hold.
    fn check(&self, data: &[u8]) -> Result<()> {
        let there = Checkpoint {
            offset: self.place(),
            entries: self.messages,
            crc: self.checksum.clone().finalize(),
        };
        if Checkpoint::from_bytes(data) == Some(there) {
            return Ok(());
        }
        Err(self.damaged("the checksum over all before does not hold".to_owned()))
    }
}
