//! Captures: what is written comes back, and what does not check out is never taken for whole. What each
//! flipped bit may cost is in `damage.rs`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::{
        About, Capture, Compression, HotSegment, SealedFile, Unpacked, seal, seal_left_overs,
    },
    entry::{
        Entry, Subscription,
        envelope::MsgProto,
        session_event::{Closed, Connected, Continued, Event},
    },
    error::Error,
    inspect, protocol,
    schema::FrameTypes,
    select::Selection,
};
use prost::Message;
use support::capture::{Entries, START, message, subscription};
use tempfile::TempDir;

/// One of everything: three subscriptions, both location payloads, session events, a topic that
/// nobody knows, a frame without a byte, one that is no protobuf.
fn everything() -> Vec<Entry> {
    let mut entries = Entries::new();
    let monitoring = subscription("acme/monitoring", "monitoring");
    let location = subscription("acme/location", "location");
    let unknown = subscription("other/brand-new", "brand-new");
    let ms = Duration::from_millis;
    let at_position = Bytes::from_static(b"\x12\x08location\x1a\x05\x0d\0\0\x80\x3f");
    let out_of_zone = Bytes::from_static(b"\x12\x08location\x1a\x02\x08\x01");
    let timed = MsgProto {
        subject: "monitoring".to_owned(),
        timestamp: i64::try_from(START.as_nanos() / 1000).unwrap(),
        ..MsgProto::default()
    };

    entries.event(&monitoring);
    entries.event(&location);
    entries.frame(ms(1), &monitoring, message("monitoring", 1, 100));
    entries.frame(ms(2), &location, at_position);
    entries.frame(ms(3), &location, out_of_zone);
    entries.frame(ms(3), &unknown, message("brand-new", 2, 5000));
    entries.frame(ms(4), &monitoring, timed.encode_to_vec().into());
    entries.frame(ms(5), &unknown, Bytes::new());
    entries.frame(ms(2), &monitoring, Bytes::from_static(b"\xff\xff no protobuf"));
    entries.event(&unknown);
    entries.made
}

/// Small on disk: plain envelopes only, which embed a short schema.
fn few() -> Vec<Entry> {
    let mut entries = Entries::new();
    let unknown = subscription("a", "new");
    for number in 0..8 {
        entries.frame(Duration::from_millis(number), &unknown, message("new", number as u32, 40));
    }
    entries.made
}

fn about() -> About {
    let options = BTreeMap::from([("seed".to_owned(), "7".to_owned())]);
    About { started: START, host: "recorder".to_owned(), options }
}

/// A segment with these entries that is still open.
fn recording(sealed_path: &Path, entries: &[Entry]) -> HotSegment {
    let mut segment = HotSegment::create(sealed_path, &about(), &[]).unwrap();
    for entry in entries {
        segment.append(entry).unwrap();
        segment.commit().unwrap();
    }
    segment
}

/// A sealed capture with these entries.
fn sealed(path: &Path, entries: &[Entry]) {
    let mut file = SealedFile::create(path, &about(), &[]).unwrap();
    for entry in entries {
        file.append(entry).unwrap();
    }
    file.finish().unwrap();
}

/// All that a capture gives, and the first of what is wrong with it.
fn read(path: &Path) -> (Vec<Entry>, Option<Error>) {
    let (found, errors) = read_all(path);
    (found, errors.into_iter().next())
}

/// All that a capture gives, and all that is wrong with it. Only the first may be something else than damage.
fn read_all(path: &Path) -> (Vec<Entry>, Vec<Error>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for entry in Capture::open(&[path]).unwrap().entries() {
        match entry {
            Ok(entry) => found.push(entry),
            Err(error) => errors.push(error),
        }
    }
    assert!(errors.iter().skip(1).all(Error::is_damage), "{errors:#?}");
    (found, errors)
}

/// The same of a capture that is whole.
fn whole(path: &Path) -> Vec<Entry> {
    let (entries, error) = read(path);
    assert!(error.is_none(), "{}", error.unwrap());
    entries
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let items = fs::read_dir(folder).unwrap();
    items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
}

fn set_of<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// A new folder, and `a.mcap` and `a.open.mcap` in it. In memory where there is such a place: these
/// tests sync thousands of files.
fn place() -> (TempDir, PathBuf, PathBuf) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
    let (sealed, hot) = (folder.path().join("a.mcap"), folder.path().join("a.open.mcap"));
    (folder, sealed, hot)
}

#[test]
fn what_is_recorded_is_read_back_in_order_before_and_after_sealing() {
    let (folder, path, hot) = place();
    let entries = everything();
    let segment = recording(&path, &entries);
    assert_eq!(segment.path(), hot);
    assert_eq!(whole(&hot), entries);

    let sealed = segment.seal(Compression::default()).unwrap();

    assert_eq!(names_in(folder.path()), set_of(["a.mcap"]));
    assert_eq!(sealed.path.as_deref(), Some(&*path));
    assert_eq!(sealed.entries, entries.len() as u64);
    assert_eq!(sealed.sealed_size, fs::metadata(&path).unwrap().len());
    assert!(sealed.damage.is_none());
    assert_eq!(whole(&path), entries);
}

#[test]
fn readers_that_share_have_each_chunk_in_memory_once() {
    let (_folder, path, _) = place();
    let mut entries = Entries::new();
    entries.made = everything();
    // Of a chunk in which there is hardly a frame, nothing but these is kept.
    for number in 0..200 {
        entries.frame(Duration::ZERO, &subscription("a", "new"), message("new", number, 2000));
    }
    let entries = entries.made;
    sealed(&path, &entries);
    let read = |unpacked: Option<&Arc<Unpacked>>| -> Vec<Entry> {
        let all = Capture::open(&[&path]).unwrap().entries();
        match unpacked {
            Some(unpacked) => all.sharing(unpacked).map(Result::unwrap).collect(),
            None => all.map(Result::unwrap).collect(),
        }
    };
    let places = |entries: &[Entry]| -> Vec<_> {
        let frames = entries.iter().filter_map(Entry::frame);
        frames.filter(|frame| !frame.data.is_empty()).map(|frame| frame.data.as_ptr()).collect()
    };
    let unpacked = Arc::default();
    let other = Capture::open(&[&path]).unwrap().entries().sharing(&unpacked);
    let (first, second, apart) = (read(Some(&unpacked)), read(Some(&unpacked)), read(None));
    assert!(first == entries && second == entries && apart == entries);
    assert_eq!(places(&first), places(&second));
    assert_ne!(places(&first), places(&apart));

    // Who is alone keeps nothing for others.
    drop(other);
    let (first, second) = (read(Some(&unpacked)), read(Some(&unpacked)));
    assert!(first == entries && second == entries);
    assert_ne!(places(&first), places(&second));
}

#[test]
fn channels_are_the_same_from_the_records_and_from_the_summary() {
    let (_folder, path, hot) = place();
    let segment = recording(&path, &everything());
    let from_records = Capture::open(&[&hot]).unwrap().channels().unwrap();
    segment.seal(Compression::default()).unwrap();
    let from_summary = Capture::open(&[&path]).unwrap().channels().unwrap();

    assert_eq!(from_records, from_summary);
    let labels: Vec<_> = from_summary
        .iter()
        .map(|(who, kind)| (&*who.name, kind.as_ref().map_or("session", |kind| &kind.label)))
        .collect();
    assert_eq!(
        labels,
        [
            ("acme/location", "session"),
            ("acme/location", "location"),
            ("acme/location", "location.geofence"),
            ("acme/monitoring", "session"),
            ("acme/monitoring", "monitoring"),
            ("other/brand-new", "session"),
            ("other/brand-new", "brand-new"),
        ]
    );
}

/// The contract with every other reader of MCAP.
#[test]
fn a_sealed_capture_is_mcap_as_documented() {
    let (_folder, path, _) = place();
    let entries = everything();
    let types = FrameTypes::of(protocol::by_name("classic"));
    let monitoring = types.all().find(|kind| kind.label == "monitoring").unwrap();
    let mut segment = HotSegment::create(&path, &about(), &[monitoring]).unwrap();
    for entry in &entries {
        segment.append(entry).unwrap();
    }
    segment.seal(Compression::default()).unwrap();
    let bytes = fs::read(&path).unwrap();

    let mut topics = BTreeSet::new();
    for (found, entry) in mcap::MessageStream::new(&bytes).unwrap().zip(&entries) {
        let found = found.unwrap();
        let (channel, schema) = (&found.channel, found.channel.schema.as_ref().unwrap());
        topics.insert(channel.topic.clone());
        assert_eq!(channel.message_encoding, "protobuf");
        assert_eq!(schema.encoding, "protobuf");
        assert_eq!(found.log_time, entry.received.as_nanos());
        let who = &entry.subscription;
        for (name, value) in [
            ("protocol", &who.protocol),
            ("subscription", &who.name),
            ("topic", &who.topic),
            ("host", &who.host),
        ] {
            assert_eq!(channel.metadata.get(name), Some(value), "{name}");
        }
        let payload = channel.metadata.get("payload").map(String::as_str);
        if let Some(frame) = entry.frame() {
            assert_eq!(channel.topic, format!("/{}/{}", who.name, frame.kind.label));
            assert_eq!(found.data, &frame.data[..]);
            assert_eq!(found.sequence, frame.sequence);
            assert_eq!(found.publish_time, frame.sent.unwrap_or(entry.received).as_nanos());
            assert_eq!(schema.name, "StreamMessage.MsgProto");
            assert_eq!(schema.data, &frame.kind.descriptors[..]);
            assert_eq!(payload, frame.kind.payload.as_deref());
        } else {
            assert_eq!(channel.topic, format!("/{}/session", who.name));
            assert_eq!((found.sequence, found.publish_time), (0, found.log_time));
            assert_eq!(schema.name, "centralcap.SessionEvent");
            assert_eq!(payload, Some("centralcap.SessionEvent"));
        }
    }
    assert!(topics.contains("/acme/location/location.geofence"), "{topics:?}");
    assert!(entries.iter().filter_map(Entry::frame).any(|frame| frame.sent.is_some()));

    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let statistics = summary.stats.unwrap();
    assert_eq!(statistics.message_count, entries.len() as u64);
    assert!(summary.chunk_indexes.iter().all(|chunk| chunk.compression == "zstd"));
    assert!(summary.chunk_indexes.iter().all(|chunk| chunk.message_index_length > 0));
    let [index] = &summary.metadata_indexes[..] else { panic!("one metadata record") };
    let said = mcap::read::metadata(&bytes, index).unwrap();
    assert_eq!(said.name, "centralcap");
    let said: Vec<_> = said.metadata.iter().map(|(name, value)| (&**name, &**value)).collect();
    let digest = said[2].1;
    assert_eq!(
        said,
        [
            ("host", "recorder"),
            ("option.seed", "7"),
            ("sha256.Monitoring.MonitoringInformation", digest),
            ("started", &START.to_string()),
            ("version", env!("CARGO_PKG_VERSION")),
        ]
    );
    assert_eq!(digest.len(), 64);
}

/// The size of a checkpoint's record.
const CHECKPOINT: usize = 9 + 20;

/// Where the records of an unchunked file end, and which of them are messages.
fn records(bytes: &[u8]) -> Vec<(usize, bool)> {
    const MESSAGE: u8 = 5;
    let mut at = mcap::MAGIC.len();
    let mut found = Vec::new();
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap());
        let is_message = bytes[at] == MESSAGE;
        at += 9 + usize::try_from(length).unwrap();
        found.push((at, is_message));
    }
    found
}

/// A hot segment as a kill leaves it, with a checkpoint in the middle and one at the end.
fn left_over(entries: &[Entry]) -> Vec<u8> {
    let (_folder, path, hot) = place();
    let (first, second) = entries.split_at(entries.len() / 2);
    let mut segment = recording(&path, first);
    segment.checkpoint().unwrap();
    for entry in second {
        segment.append(entry).unwrap();
    }
    segment.checkpoint().unwrap();
    drop(segment);
    fs::read(hot).unwrap()
}

/// Killed at any moment: every frame that is whole is there, and nothing else.
#[test]
fn a_hot_segment_cut_anywhere_gives_its_whole_entries() {
    let entries = few();
    let bytes = left_over(&entries);
    let ends = records(&bytes);
    assert!(bytes.len() < 4000, "{} bytes", bytes.len());
    for cut in 0..=bytes.len() {
        let (folder, path, hot) = place();
        fs::write(&hot, &bytes[..cut]).unwrap();
        let whole_entries = ends.iter().filter(|(end, message)| *message && *end <= cut).count();
        let at_boundary = cut == 0 || cut == 8 || ends.iter().any(|(end, _)| *end == cut);

        let (found, error) = read(&hot);
        assert_eq!(found, entries[..whole_entries], "cut at {cut}");
        assert_eq!(error.is_none(), at_boundary, "cut at {cut}: {error:?}");
        if let Some(error) = error {
            assert!(error.is_damage(), "cut at {cut}: {error}");
            assert!(error.to_string().contains("a.open.mcap"), "{error}");
        }

        // With its header it is worth a capture, even one without entries. With less it goes: it
        // must not stand in the way of the next recording.
        let [sealed] = &seal_left_overs(folder.path(), Compression::default()).unwrap().sealed[..]
        else {
            panic!("one segment")
        };
        assert_eq!(sealed.entries, whole_entries as u64, "cut at {cut}");
        assert_eq!(sealed.damage.is_none(), at_boundary, "cut at {cut}");
        if sealed.path.is_some() {
            assert_eq!(names_in(folder.path()), set_of(["a.mcap"]), "cut at {cut}");
            assert_eq!(whole(&path), entries[..whole_entries], "cut at {cut}");
        } else {
            assert_eq!(whole_entries, 0, "cut at {cut}");
            assert_eq!(names_in(folder.path()), set_of([]), "cut at {cut}");
        }
    }
}

#[test]
fn a_sealed_capture_cut_anywhere_is_never_taken_for_whole() {
    let (_folder, path, _) = place();
    let entries = few();
    sealed(&path, &entries);
    let bytes = fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let (found, error) = read(&path);
        let error = error.unwrap_or_else(|| panic!("cut at {cut} and no error"));
        assert!(error.is_damage() || error.is_not_a_capture(), "cut at {cut}: {error}");
        assert!(error.to_string().contains("a.mcap"), "{error}");
        assert!(entries.starts_with(&found), "cut at {cut}");
        // Only the summary and what points at it may be missing for the list of channels.
        assert_channels(&path, &entries, &format!("cut at {cut}"));
    }
}

/// The list of channels is right, shorter, or an error.
fn assert_channels(path: &Path, entries: &[Entry], case: &str) {
    let Ok(channels) = Capture::open(&[path]).unwrap().channels() else { return };
    for (subscription, kind) in channels {
        let has = |entry: &Entry| {
            entry.subscription == subscription
                && entry.frame().map(|frame| &frame.kind) == kind.as_ref()
        };
        assert!(entries.iter().any(has), "{case}: {subscription:?} {kind:?}");
    }
}

/// Calls `check` with a file in which one bit is another, for each of its bits.
fn with_each_bit_flipped(path: &Path, bytes: &[u8], mut check: impl FnMut(&str)) {
    let mut flipped = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, &flipped).unwrap();
        check(&format!("bit {} of byte {} ({:#04x})", bit % 8, bit / 8, bytes[bit / 8]));
        flipped[bit / 8] = bytes[bit / 8];
    }
}

#[test]
fn no_flipped_bit_in_a_sealed_capture_goes_unnoticed() {
    let (_folder, path, _) = place();
    let entries = few();
    sealed(&path, &entries);
    let bytes = fs::read(&path).unwrap();
    let mut silent = Vec::new();
    with_each_bit_flipped(&path, &bytes, |case| {
        let (found, error) = read(&path);
        match error {
            None => {
                assert_eq!(found, entries, "{case}");
                silent.push(case.to_owned());
            }
            Some(error) => {
                assert!(error.is_damage() || error.is_not_a_capture(), "{case}: {error}");
                // There is one chunk.
                assert!(found.is_empty() || found == entries, "{case}: {found:#?}");
            }
        }
        assert_channels(&path, &entries, case);
    });
    assert!(silent.is_empty(), "{} of {}: {silent:#?}", silent.len(), bytes.len() * 8);
}

#[test]
fn a_segment_that_is_there_in_both_states_is_read_once() {
    let (folder, path, hot) = place();
    let entries = everything();
    drop(recording(&path, &entries));
    let kept = fs::read(&hot).unwrap();
    seal_left_overs(folder.path(), Compression::default()).unwrap();
    fs::write(&hot, kept).unwrap();

    assert_eq!(whole(folder.path()), entries);
    assert_eq!(Capture::open(&[folder.path()]).unwrap().segments().len(), 1);

    // Sealing ends what the kill interrupted.
    let [sealed] = &seal_left_overs(folder.path(), Compression::default()).unwrap().sealed[..]
    else {
        panic!("one segment")
    };
    assert_eq!(sealed.path.as_deref(), Some(&*path));
    assert_eq!(names_in(folder.path()), set_of(["a.mcap"]));
    assert_eq!(whole(folder.path()), entries);
}

#[test]
fn a_hot_segment_stays_as_long_as_the_sealed_one_beside_it_is_damaged() {
    let (folder, path, hot) = place();
    let entries = few();
    sealed(&path, &entries);
    fs::write(&hot, left_over(&entries)).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();

    let [sealed] = &seal_left_overs(folder.path(), Compression::default()).unwrap().sealed[..]
    else {
        panic!("one segment")
    };

    assert!(sealed.damage.as_ref().unwrap().to_string().contains("a.mcap"), "{sealed:?}");
    assert_eq!(names_in(folder.path()), set_of(["a.mcap", "a.open.mcap"]));
    assert_eq!(whole(&hot), entries);
}

#[test]
fn a_segment_with_a_live_owner_is_read_and_left_alone() {
    let (folder, path, hot) = place();
    let entries = everything();
    let mut segment = recording(&path, &entries[..4]);
    let is_being_recorded =
        || Capture::open(&[folder.path()]).unwrap().segments()[0].is_being_recorded();

    assert!(is_being_recorded());
    assert!(seal_left_overs(folder.path(), Compression::default()).unwrap().sealed.is_empty());
    assert!(seal(&hot, &path, Compression::default()).unwrap_err().is_in_use());
    assert_eq!(whole(folder.path()), entries[..4]);

    // Readers hold up nobody, and see what comes in the meantime.
    for entry in &entries[4..] {
        segment.append(entry).unwrap();
    }
    assert_eq!(whole(folder.path()), entries[..4], "not committed yet");
    segment.commit().unwrap();
    assert_eq!(whole(folder.path()), entries);
    drop(segment);
    assert!(!is_being_recorded());
    assert_eq!(seal_left_overs(folder.path(), Compression::default()).unwrap().sealed.len(), 1);
    assert_eq!(whole(folder.path()), entries);
}

/// A live recorder's last write may be on its way while the file is read.
#[test]
fn a_record_half_written_by_a_live_owner_is_no_damage() {
    let (_folder, path, hot) = place();
    let entries = few();
    let segment = recording(&path, &entries);
    let bytes = fs::read(&hot).unwrap();
    fs::OpenOptions::new().write(true).open(&hot).unwrap().set_len(bytes.len() as u64 - 1).unwrap();
    assert_eq!(whole(&hot), entries[..entries.len() - 1]);
    drop(segment);
    let (found, error) = read(&hot);
    assert_eq!(found, entries[..entries.len() - 1]);
    assert!(error.unwrap().is_damage());
}

#[test]
fn a_segment_is_sealed_while_a_slow_disk_still_syncs_it() {
    let (_folder, path, _) = place();
    let entries = few();
    let mut segment = recording(&path, &entries);
    let being_synced = segment.checkpoint().unwrap();
    segment.seal(Compression::default()).unwrap();
    drop(being_synced);
    assert_eq!(whole(&path), entries);
}

#[cfg(unix)]
#[test]
fn a_file_to_which_several_paths_lead_is_read_once() {
    let (folder, path, _) = place();
    let entries = few();
    recording(&path, &entries).seal(Compression::default()).unwrap();
    let link = folder.path().join("link.mcap");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for paths in [[folder.path(), &path], [&link, &path], [&path, &folder.path().join("./a.mcap")]]
    {
        let capture = Capture::open(&paths).unwrap();
        let found: Vec<_> = capture.entries().map(Result::unwrap).collect();
        assert_eq!(found, entries, "{paths:?}");
        assert!(!capture.repeated().is_empty(), "{paths:?}");
    }
    // A folder with a link to one of its own, perhaps to the latest.
    let capture = Capture::open(&[folder.path()]).unwrap();
    assert_eq!((capture.segments().len(), capture.repeated()), (1, &[link][..]));
}

#[cfg(unix)]
#[test]
fn a_segment_that_somebody_deletes_or_moves_while_it_is_recorded_is_written_anew() {
    let entries = few();
    let (first, second) = entries.split_at(entries.len() / 2);
    for is_seen in [true, false] {
        for moved in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let folder = place.path().join("capture");
            fs::create_dir(&folder).unwrap();
            let path = folder.join("a.mcap");
            let mut segment = recording(&path, first);
            assert!(segment.has_name());
            if moved {
                fs::rename(&folder, place.path().join("elsewhere")).unwrap();
            } else {
                fs::remove_dir_all(&folder).unwrap();
            }
            assert!(!segment.has_name());
            if is_seen {
                segment.restore().unwrap();
                assert!(segment.has_name() && !segment.is_proven());
                assert_eq!(read(segment.path()).0, first);
            }
            for entry in second {
                segment.append(entry).unwrap();
            }
            segment.commit().unwrap();
            let sealed = segment.seal(Compression::default()).unwrap();
            assert!(sealed.damage.is_none(), "{sealed:?}");
            assert_eq!(whole(&path), entries);
        }
    }
}

#[test]
fn whoever_has_taken_the_name_of_a_segment_is_set_aside() {
    let entries = few();
    let (folder, path, hot) = place();
    let segment = recording(&path, &entries);
    fs::remove_file(&hot).unwrap();
    fs::write(&hot, "something else").unwrap();
    let sealed = segment.seal(Compression::default()).unwrap();
    assert!(sealed.damage.is_none() && !hot.exists(), "{sealed:?}");
    assert_eq!(whole(&path), entries);
    let aside = format!("{}.damaged", path.file_name().unwrap().to_str().unwrap());
    assert_eq!(fs::read(folder.path().join(aside)).unwrap(), b"something else");
}

#[test]
fn a_segment_dropped_without_sealing_holds_what_was_committed() {
    let (_folder, path, hot) = place();
    let entries = everything();
    let mut segment = recording(&path, &entries[..3]);
    let size = segment.size();
    segment.append(&entries[3]).unwrap();
    drop(segment);
    assert_eq!(fs::metadata(&hot).unwrap().len(), size);
    assert_eq!(whole(&hot), entries[..3]);
}

#[test]
fn nothing_is_written_over() {
    for name in ["a.mcap", "a.open.mcap"] {
        let (folder, path, _) = place();
        fs::write(folder.path().join(name), "something dear").unwrap();
        let error = HotSegment::create(&path, &about(), &[]).err().unwrap();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hint().unwrap().contains("nothing was overwritten"));
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"something dear");
        assert_eq!(names_in(folder.path()).len(), 1);
    }
    let (folder, path, _) = place();
    let mut file = SealedFile::create(&path, &about(), &[]).unwrap();
    file.append(&few()[0]).unwrap();
    // Even if it appears at the last moment.
    fs::write(&path, "something dear").unwrap();
    let error = file.finish().unwrap_err();
    assert!(error.to_string().contains("a.mcap"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"something dear");
    assert_eq!(names_in(folder.path()), set_of(["a.mcap"]));
    assert!(SealedFile::create(&path, &about(), &[]).is_err());
}

#[test]
fn a_sealed_capture_never_has_the_name_of_a_hot_one() {
    let (folder, _, hot) = place();
    for error in [
        HotSegment::create(&hot, &about(), &[]).err().unwrap(),
        SealedFile::create(&hot, &about(), &[]).err().unwrap(),
    ] {
        assert!(error.is_usage() && error.hint().is_some(), "{error}");
    }
    assert_eq!(names_in(folder.path()), set_of([]));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let (folder, _, _) = place();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let below = file.join("a.mcap");
    for error in [
        HotSegment::create(&below, &about(), &[]).err().unwrap(),
        SealedFile::create(&below, &about(), &[]).err().unwrap(),
    ] {
        assert!(error.to_string().contains("a-file"), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[test]
fn what_is_no_capture_is_refused() {
    let (folder, path, hot) = place();
    let mut foreign =
        mcap::WriteOptions::new().profile("ros2").create(fs::File::create(&path).unwrap()).unwrap();
    foreign.finish().unwrap();
    let foreign = fs::read(&path).unwrap();
    let text = b"key,value\nthis is some other,file\n";
    for content in [&foreign[..], text, b"tiny", b""] {
        fs::write(&path, content).unwrap();
        let (found, error) = read(&path);
        let error = error.unwrap();
        assert!(found.is_empty() && error.is_not_a_capture(), "{error}");
        assert!(error.hint().is_some());
    }
    fs::remove_file(&path).unwrap();
    let error = Capture::open(&[folder.path()]).unwrap_err();
    assert!(error.to_string().contains("found none in"), "{error}");

    // Under the name of a left-over it stops no recording, and is nobody's to delete.
    fs::write(&hot, text).unwrap();
    let [sealed] = &seal_left_overs(folder.path(), Compression::default()).unwrap().sealed[..]
    else {
        panic!("one segment")
    };
    assert!(sealed.damage.as_ref().unwrap().is_not_a_capture());
    assert_eq!(names_in(folder.path()), set_of(["a.mcap.damaged"]));
}

/// Two segments of one recording, the first one damaged.
/// A recorder deletes what has to go while others read.
#[test]
fn a_segment_that_is_gone_costs_nothing_of_the_next() {
    let (folder, _, _) = place();
    let entries = few();
    let paths = ["a.mcap", "b.mcap", "c.mcap"].map(|name| folder.path().join(name));
    for path in &paths {
        sealed(path, &entries);
    }
    let capture = Capture::open(&[folder.path()]).unwrap();
    let named = Capture::open(&paths).unwrap();
    fs::remove_file(&paths[1]).unwrap();

    let (found, errors): (Vec<_>, Vec<_>) = capture.entries().partition(Result::is_ok);
    assert_eq!(found.len(), 2 * entries.len());
    let [Err(error)] = &errors[..] else { panic!("{errors:?}") };
    let said = error.to_string();
    assert!(error.is_damage() && said.contains("b.mcap") && said.contains("not there"), "{said}");
    assert!(capture.channels().unwrap() == Capture::open(&paths[..1]).unwrap().channels().unwrap());
    let verdict = inspect::verify(&capture).unwrap();
    assert_eq!((verdict.whole, verdict.segments.len()), (false, 2));

    // Who names a file wants that one.
    assert!(named.entries().any(|entry| entry.is_err_and(|error| error.is_io())));
    assert!(named.channels().is_err());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", &paths[1]).unwrap();
        let (_, errors) = read_all(folder.path());
        assert!(errors.len() == 1 && errors[0].is_damage(), "{errors:?}");
    }
}

#[test]
fn damage_in_one_segment_costs_nothing_of_the_next() {
    let (folder, path, _) = place();
    let entries = few();
    sealed(&path, &entries);
    sealed(&folder.path().join("b.mcap"), &entries);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let found: Vec<_> = Capture::open(&[folder.path()]).unwrap().entries().collect();
    let damaged = found.iter().position(Result::is_err).unwrap();
    let rest: Vec<_> = found.into_iter().skip(damaged).filter_map(Result::ok).collect();
    assert_eq!(rest, entries);
}

/// Where a chunk is in its file, and which of the frames are in it.
type Chunk = (Range<usize>, Range<usize>);

/// Frames that fill several chunks.
fn several_chunks(path: &Path) -> (Vec<Entry>, Vec<Chunk>) {
    let mut entries = Entries::new();
    let unknown = subscription("a", "new");
    for number in 0..80 {
        let data = message("new", number, 50_000);
        entries.frame(Duration::from_millis(number.into()), &unknown, data);
    }
    let entries = entries.made;
    sealed(path, &entries);
    let bytes = fs::read(path).unwrap();
    let chunks = mcap::Summary::read(&bytes).unwrap().unwrap().chunk_indexes;
    let mut at = 0;
    let chunks = chunks.iter().map(|chunk| {
        let start = usize::try_from(chunk.chunk_start_offset).unwrap();
        let last = chunk.message_end_time;
        let of_chunk = entries[at..].iter().take_while(|entry| entry.received.as_nanos() <= last);
        let frames = at..at + of_chunk.count();
        at = frames.end;
        (start..start + usize::try_from(chunk.chunk_length).unwrap(), frames)
    });
    let chunks: Vec<_> = chunks.collect();
    assert!(chunks.len() >= 4 && at == entries.len(), "{chunks:?}");
    (entries, chunks)
}

#[test]
fn damage_to_a_chunk_costs_that_chunk_only_and_says_so() {
    let (_folder, path, _) = place();
    let (entries, chunks) = several_chunks(&path);
    let bytes = fs::read(&path).unwrap();
    for (number, (chunk, frames)) in chunks.iter().enumerate() {
        let mut rest = entries.clone();
        rest.drain(frames.clone());
        let lost = format!("{} to {} ({})", frames.start + 1, frames.end, frames.len());
        // Its opcode, its length and what its header says, up to the compressed content.
        let content = chunk.start + 9 + 44;
        let places = (chunk.start..content).chain((content..chunk.end).step_by(101));
        for (place, bit) in places.flat_map(|place| [0, 3, 7].map(|bit| (place, bit))) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            fs::write(&path, &damaged).unwrap();
            let case = format!("chunk {number}, bit {bit} of byte {}", place - chunk.start);
            let (found, errors) = read_all(&path);
            let told: Vec<_> = errors.iter().map(Error::to_string).collect();
            assert!(!told.is_empty(), "{case}");
            if found == entries {
                // What nobody needs: the times, and a length that is a little too large.
                assert!((1..9 + 16).contains(&(place - chunk.start)), "{case}: {told:#?}");
                continue;
            }
            assert!(found == rest, "{case}: {} frames of {}; {told:#?}", found.len(), rest.len());
            let late = told[0].contains(&format!("; {} messages did not come by", frames.len()));
            let at_once = told[0].contains(&format!("at byte {}", chunk.start))
                && told[1..].iter().any(|told| {
                    let of_last = format!("after {}, if", frames.start);
                    told.contains(&lost) || (number + 1 == chunks.len() && told.contains(&of_last))
                });
            assert!(late || at_once, "{case}: {told:#?}");
        }
    }
}

#[test]
fn damage_in_several_places_costs_what_is_there() {
    let (_folder, path, _) = place();
    let (entries, chunks) = several_chunks(&path);
    let mut bytes = fs::read(&path).unwrap();
    // The beginning, two chunks, and the end.
    bytes[3] ^= 1;
    for (chunk, _) in [&chunks[0], &chunks[2]] {
        bytes[chunk.start + 60..chunk.start + 70].fill(0);
    }
    let end = bytes.len() - 40;
    bytes.truncate(end);
    fs::write(&path, &bytes).unwrap();
    let (found, errors) = read_all(&path);
    // Nobody has said who the channels are but the first chunk and the summary, and both are gone.
    assert!(found.is_empty() && errors[0].is_not_a_capture(), "{errors:#?}");

    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (found, errors) = read_all(&path);
    assert!(found.is_empty() && errors.len() > 2, "{errors:#?}");

    let mut bytes = fs::read(&path).unwrap();
    sealed(&path.with_file_name("b.mcap"), &entries);
    let whole = fs::read(path.with_file_name("b.mcap")).unwrap();
    let (first, _) = &chunks[0];
    bytes[first.clone()].copy_from_slice(&whole[first.clone()]);
    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut rest = entries.clone();
    rest.drain(chunks[2].1.clone());
    // Its end, which would say that it is ours, is gone as well.
    assert!(read(&path).1.unwrap().is_not_a_capture());
    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(read(&path).0 == rest);
    bytes.extend_from_slice(&whole[end..]);
    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (found, errors) = read_all(&path);
    assert!(found == rest && errors[0].is_damage(), "{errors:#?}");
}

#[test]
fn a_damaged_piece_of_a_hot_segment_costs_itself_only() {
    let (_folder, path, hot) = place();
    let entries = {
        let mut entries = Entries::new();
        let unknown = subscription("a", "new");
        for number in 0..40 {
            let data = message("new", number, 200);
            entries.frame(Duration::from_millis(number.into()), &unknown, data);
        }
        entries.made
    };
    let mut segment = HotSegment::create(&path, &about(), &[]).unwrap();
    let mut ends = Vec::new();
    for entries in entries.chunks(10) {
        for entry in entries {
            segment.append(entry).unwrap();
        }
        segment.checkpoint().unwrap();
        ends.push(usize::try_from(segment.size()).unwrap());
    }
    drop(segment);
    let bytes = fs::read(&hot).unwrap();
    for piece in 1..ends.len() {
        let mut rest = entries.clone();
        rest.drain(piece * 10..(piece + 1) * 10);
        // Not the checkpoint behind it: that one proves what is before it.
        for place in (ends[piece - 1]..ends[piece] - CHECKPOINT).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            fs::write(&hot, &damaged).unwrap();
            let (found, errors) = read_all(&hot);
            assert!(found == rest, "byte {place}: {} frames; {errors:#?}", found.len());
            let told = errors.iter().map(Error::to_string).collect::<Vec<_>>().join("; ");
            assert!(told.contains("does not hold over 10 messages"), "byte {place}: {told}");
            let (first, last) = (piece * 10 + 1, (piece + 1) * 10);
            let lost = format!("frames {first} to {last} (10)");
            let of_last = format!("the frames after {}, if there were any", piece * 10);
            assert!(told.contains(&lost) || told.contains(&of_last), "byte {place}: {told}");
        }
    }
}

/// What is told of a hot segment of such pieces when one of them is damaged.
fn told_of_pieces(pieces: &[Entries], damaged: usize) -> Vec<String> {
    let (_folder, path, hot) = place();
    let mut segment = HotSegment::create(&path, &about(), &[]).unwrap();
    let mut ends = Vec::new();
    for piece in pieces {
        for entry in &piece.made {
            segment.append(entry).unwrap();
        }
        segment.checkpoint().unwrap();
        ends.push(usize::try_from(segment.size()).unwrap());
    }
    drop(segment);
    let mut bytes = fs::read(&hot).unwrap();
    bytes[ends[damaged] - CHECKPOINT - 1] ^= 1;
    fs::write(&hot, bytes).unwrap();
    let (_, errors) = read_all(&hot);
    let told = errors.iter().map(Error::to_string);
    told.filter(|told| told.starts_with("lost of ")).collect()
}

#[test]
fn what_damage_has_cost_is_told_by_all_that_says_where_the_counter_is() {
    let closed = |last_sequence| Event::Closed(Closed { last_sequence, ..Closed::default() });
    let connected = || Event::Connected(Connected::default());
    let [a, b] = ["a", "b"].map(|name| subscription(name, "audit"));
    let piece = |of: &Arc<Subscription>, frames: Range<u32>, events: Vec<Event>| {
        let mut entries = Entries::new();
        for number in frames {
            entries.numbered(Duration::ZERO, of, number, message("audit", number, 20));
        }
        for event in events {
            entries.happened(Duration::ZERO, of, 1, event);
        }
        entries
    };

    // It is closed behind the damage: nothing is unknown.
    let pieces = [
        piece(&a, 1..4, vec![]),
        piece(&a, 4..9, vec![]),
        piece(&a, Range::default(), vec![closed(8)]),
        piece(&b, 1..3, vec![]),
    ];
    assert_eq!(told_of_pieces(&pieces, 1), ["lost of a (audit): frames 4 to 8 (5)"]);
    // It was closed before the damage, where all of another connection may have been.
    let expected = ["lost of a (audit): the first frames of a connection, if there were any"];
    assert_eq!(told_of_pieces(&pieces, 3), expected);

    // Another connection was there before the damage, and its frames behind it count on from the first one or not.
    for next in [3, 7] {
        let pieces = [
            piece(&a, 1..6, vec![closed(5), connected()]),
            piece(&a, 1..next, vec![]),
            piece(&a, next..10, vec![]),
        ];
        let expected = format!("lost of a (audit): frames 1 to {0} ({0})", next - 1);
        assert_eq!(told_of_pieces(&pieces, 1), [expected]);
    }
}

/// What is told of a folder of sealed segments when the chunk of one of them is damaged. Each is of the recording
/// that was started so many seconds after the start.
fn told_of_segments(segments: &[(u64, &Entries)], damaged: usize) -> Vec<String> {
    let (folder, _, _) = place();
    for (number, (started, entries)) in segments.iter().enumerate() {
        let path = folder.path().join(format!("{number}.mcap"));
        entries.write_of_run(&path, Duration::from_secs(*started));
        if number == damaged {
            let mut bytes = fs::read(&path).unwrap();
            let name = bytes.windows(4).position(|bytes| bytes == b"zstd").unwrap();
            bytes[name + 4 + 8 + 20] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let (_, errors) = read_all(folder.path());
    let told = errors.iter().map(Error::to_string);
    told.filter(|told| told.starts_with("lost of ")).collect()
}

#[test]
fn what_damage_has_cost_is_counted_from_the_segments_before_it() {
    let continued = |last_sequence| Event::Continued(Continued { since_ns: 1, last_sequence });
    let connected = || Event::Connected(Connected::default());
    let closed = |last_sequence| Event::Closed(Closed { last_sequence, ..Closed::default() });
    let [a, b] = ["a", "b"].map(|name| subscription(name, "audit"));
    let add = |entries: &mut Entries, of: &Arc<Subscription>, first: Event, frames: Range<u32>| {
        entries.happened(Duration::ZERO, of, 1, first);
        for number in frames {
            entries.numbered(Duration::ZERO, of, number, message("audit", number, 20));
        }
    };
    let segment = |first, frames| {
        let mut entries = Entries::new();
        add(&mut entries, &a, first, frames);
        entries
    };
    let begins = segment(connected(), 1..21);
    let goes_on = segment(continued(20), 21..41);
    let ends = segment(continued(40), 41..61);
    let lost = |frames: &str| vec![format!("lost of a (audit): {frames}")];

    let segments = [(0, &begins), (0, &goes_on), (0, &ends)];
    assert_eq!(told_of_segments(&segments, 0), lost("frames 1 to 20 (20)"));
    assert_eq!(told_of_segments(&segments, 1), lost("frames 21 to 40 (20)"));
    assert_eq!(told_of_segments(&segments, 2), lost("the frames after 40, if there were any"));

    // Whoever is silent in what is damaged was there before.
    let mut both = segment(connected(), 1..21);
    add(&mut both, &b, connected(), 1..6);
    let mut told = lost("frames 21 to 40 (20)");
    told.push("lost of b (audit): the frames after 5, if there were any".to_owned());
    assert_eq!(told_of_segments(&[(0, &both), (0, &goes_on), (0, &ends)], 1), told);

    // Nobody has counted on from the recording before, or from a connection that was closed.
    let restarted = segment(connected(), 1..41);
    let segments = [(0, &begins), (1, &restarted), (1, &ends)];
    assert_eq!(told_of_segments(&segments, 1), lost("frames 1 to 40 (40)"));
    let mut closes = segment(connected(), 1..21);
    closes.happened(Duration::ZERO, &a, 1, closed(20));
    let segments = [(0, &closes), (0, &restarted), (0, &ends)];
    assert_eq!(told_of_segments(&segments, 1), lost("frames 1 to 40 (40)"));
}

/// However much comes between two syncs, there is a checkpoint behind each 256 KiB, and what is damaged costs no
/// more than that.
#[test]
fn much_that_comes_between_two_syncs_is_proven_piece_by_piece() {
    const PIECE: usize = 256 * 1024;

    let (_folder, path, hot) = place();
    let mut entries = Entries::new();
    let monitoring = subscription("a", "monitoring");
    for number in 0..1000 {
        let data = message("monitoring", number, 1000);
        entries.frame(Duration::from_millis(number.into()), &monitoring, data);
    }
    let entries = entries.made;
    let mut segment = HotSegment::create(&path, &about(), &[]).unwrap();
    let (mut committed, mut proven) = (0, 0);
    let mut ends = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        segment.append(entry).unwrap();
        if number % 40 == 39 {
            segment.commit().unwrap();
            let size = usize::try_from(segment.size()).unwrap();
            if fs::read(&hot).unwrap()[size - CHECKPOINT..][0] == 0x81 {
                ends.push((size, number + 1));
                assert!((PIECE..PIECE + 50_000).contains(&(size - proven)), "{proven} to {size}");
                proven = size;
            }
            assert!(size - proven < PIECE, "{proven} to {size}");
            committed = number + 1;
        }
    }
    assert!(ends.len() >= 3, "{ends:?}");
    // Nobody has asked for one of them, so nobody has synced anything.
    assert!(!segment.is_proven());
    drop(segment);
    assert_eq!(read(&hot).0, entries[..committed]);

    let mut bytes = fs::read(&hot).unwrap();
    let [(first, begin), (second, end), ..] = ends[..] else { panic!("{ends:?}") };
    bytes[first.midpoint(second)] ^= 1;
    fs::write(&hot, bytes).unwrap();
    let (found, errors) = read_all(&hot);
    assert_eq!(found, [&entries[..begin], &entries[end..committed]].concat());
    assert!(errors.iter().all(Error::is_damage) && !errors.is_empty(), "{errors:#?}");
}

/// As `cat a.mcap b.mcap` makes it: channels have other numbers in the second.
#[test]
fn what_follows_behind_the_end_is_nobody_elses() {
    let (folder, path, _) = place();
    let (entries, other) = (few(), folder.path().join("other.mcap"));
    sealed(&path, &entries);
    sealed(&other, &everything());
    let two = [fs::read(&path).unwrap(), fs::read(&other).unwrap()].concat();
    fs::write(&path, two).unwrap();
    let (found, errors) = read_all(&path);
    assert_eq!(found, entries);
    let [error] = &errors[..] else { panic!("{errors:#?}") };
    assert!(error.is_damage() && error.to_string().contains("more follows"), "{error}");
}

/// A hot segment whose fifth entry is damaged.
fn leave_damaged(path: &Path, hot: &Path, entries: &[Entry]) {
    let mut segment = HotSegment::create(path, &about(), &[]).unwrap();
    let mut ends = Vec::new();
    for entry in entries {
        segment.append(entry).unwrap();
        segment.checkpoint().unwrap();
        ends.push(usize::try_from(segment.size()).unwrap());
    }
    drop(segment);
    let mut bytes = fs::read(hot).unwrap();
    bytes[ends[3] + 20] ^= 1;
    fs::write(hot, bytes).unwrap();
}

#[test]
fn what_could_not_be_set_aside_is_so_when_it_can() {
    let (folder, path, hot) = place();
    leave_damaged(&path, &hot, &few());
    let seal = || seal_left_overs(folder.path(), Compression::default()).unwrap().sealed.remove(0);
    let kept = seal().kept.unwrap();
    let (before, stands) = (fs::read(&kept).unwrap(), fs::read(&path).unwrap());
    // As if it could not have got that name.
    fs::rename(&kept, &hot).unwrap();
    let sealed = seal();
    assert!(sealed.damage.is_none() && !hot.exists(), "{sealed:?}");
    assert_eq!(sealed.kept.as_deref(), Some(&*kept));
    assert_eq!((fs::read(&kept).unwrap(), fs::read(&path).unwrap()), (before, stands));
}

#[test]
fn what_could_not_be_sealed_is_not_forgotten_in_its_folder() {
    let (folder, path, hot) = place();
    let entries = few();
    leave_damaged(&path, &hot, &entries);
    let rest = [&entries[..4], &entries[5..]].concat();
    assert_eq!(read_all(&hot).0, rest);

    seal_left_overs(folder.path(), Compression::default()).unwrap();
    let kept = folder.path().join("a.mcap.damaged");
    // By its own name it is what it was, and in its folder it is not read twice.
    let (found, errors) = read_all(&kept);
    assert!(found == rest && !errors.is_empty(), "{errors:#?}");
    // Nor does its folder take it away from whoever names it.
    let both = Capture::open(&[folder.path(), &kept]).unwrap();
    let named = both.segments().iter().filter(|segment| segment.path == kept);
    assert_eq!(named.map(|segment| segment.set_aside).collect::<Vec<_>>(), [true, false]);
    let (found, errors) = read_all(folder.path());
    assert_eq!(found, whole(&path));
    let told: Vec<_> = errors.iter().map(Error::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("a.mcap.damaged"), "{told:#?}");
    let capture = Capture::open(&[folder.path()]).unwrap();
    let profile = inspect::inspect(&capture, Selection::default()).unwrap();
    let losses = profile.losses().unwrap();
    assert_eq!((losses.damaged_segments, losses.past_damaged_places), (1, 1));
    assert!(!inspect::verify(&capture).unwrap().whole);
    // Nor without it.
    fs::remove_file(&kept).unwrap();
    // Nothing sealed gets such a name: it would be read as what it is not.
    let refused = SealedFile::create(&kept, &about(), &[]).err().unwrap();
    assert!(refused.is_usage() && !kept.exists(), "{refused}");
    let capture = Capture::open(&[folder.path()]).unwrap();
    let verdict = inspect::verify(&capture).unwrap();
    assert!(verdict.whole && !verdict.is_good());
}

/// A limit on the size of files is a full disk that needs no root. 1 is 512 bytes or 1 KiB, as the
/// shell has it.
#[cfg(unix)]
#[test]
fn a_full_disk_is_reported_and_no_half_file_is_left() {
    let (folder, path, _) = place();
    let command = env!("CARGO_BIN_EXE_centralcap");
    let script = format!("ulimit -f 1; exec {command} synth --output {}", path.display());
    let output = assert_cmd::Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{:?}: {said}", output.status);
    assert!(said.contains("error: cannot write") && said.contains("a.mcap"), "{said}");
    assert!(said.contains("hint: raise the limit"), "{said}");
    assert_eq!(names_in(folder.path()), set_of([]));
}

/// The same while recording. The limit is for a process, so the test calls itself in another one.
#[cfg(unix)]
#[test]
fn after_a_failed_write_the_segment_is_whole_and_takes_no_more() {
    const PLACE: &str = "CENTRALCAP_TEST_PLACE";
    const NAME: &str = "after_a_failed_write_the_segment_is_whole_and_takes_no_more";

    let Some(place_given) = std::env::var_os(PLACE) else {
        let (folder, _, _) = place();
        let test = std::env::current_exe().unwrap();
        let limited = format!("trap '' XFSZ; ulimit -f 8; exec {} --exact {NAME}", test.display());
        assert_cmd::Command::new("sh")
            .args(["-c", &limited])
            .env(PLACE, folder.path())
            .assert()
            .success();
        assert_eq!(names_in(folder.path()), set_of(["a.mcap"]));
        return;
    };
    let folder = Path::new(&place_given);
    let (path, hot) = (folder.join("a.mcap"), folder.join("a.open.mcap"));
    let mut made = Entries::new();
    let unknown = subscription("a", "new");
    for number in 0..100 {
        made.frame(Duration::ZERO, &unknown, message("new", number, 500));
    }
    let mut segment = recording(&path, &[]);
    let mut kept = 0;
    let error = loop {
        segment.append(&made.made[kept]).unwrap();
        match segment.commit() {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("a.open.mcap"), "{error}");
    assert!(error.hint().is_some());
    assert!(kept > 4);
    assert!(segment.append(&made.made[0]).is_err() && segment.commit().is_err());
    assert!(segment.checkpoint().is_err());
    assert_eq!(whole(&hot), made.made[..kept]);
    let sealed = segment.seal(Compression::default()).unwrap();
    assert!(sealed.damage.is_none());
    assert_eq!(whole(&path), made.made[..kept]);

    // One that not even the first entries found room in is as good as none.
    let mut segment = recording(&folder.join("b.mcap"), &[]);
    made.made.iter().for_each(|entry| segment.append(entry).unwrap());
    assert!(!segment.is_empty() && segment.commit().is_err() && segment.is_empty());
    segment.discard().unwrap();
}
