//! What the writing thread does with what it is handed.
//!
//! A file that a write or a sync has failed on, or that somebody else has written to, is never written to
//! again. If the user did not ask to stop then, a new segment is begun as soon as that works; what was lost
//! until then is counted, and told in the new one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Batch, Message, Shared, SyncWhen, limit::Amount, name::Name, sync::Syncer};
use crate::{
    entry::{Entry, Timestamp},
    error::{Error, Kind, Result},
    record::{
        Notice,
        clock::Watch,
        outage::{Connections, Outage},
        ring::Leaving,
        segments::{OnFull, Segments},
    },
};

/// How often it is tried to begin the next segment, while the last one takes more all the same.
const BEGIN_EVERY: Duration = Duration::from_secs(5);

/// Where the writing thread sits.
pub(super) struct Desk {
    pub(super) segments: Segments,
    watch: Watch,
    pub(super) shared: Shared,
    /// Frames that were kept, or are about to be.
    taken: Amount,
    syncer: Syncer,
    synced: Instant,
    /// When the next segment could not be begun that it was time for; the last one is written to as before.
    not_begun: Option<Instant>,
    name: Name,
    connections: Connections,
    /// What has to go, as soon as the ledger has it.
    leaving: Vec<Leaving>,
    outage: Option<Outage>,
    /// The connections that were up when it began.
    continued: Option<Vec<Entry>>,
    /// When something was last written.
    written: Timestamp,
}

impl Desk {
    pub(super) fn new(segments: Segments, shared: Shared) -> Self {
        let mut watch = Watch::new(Arc::clone(&shared.clock));
        let (written, _) = watch.look();
        Self {
            segments,
            watch,
            taken: Amount::default(),
            shared,
            syncer: Syncer::start(),
            synced: Instant::now(),
            not_begun: None,
            name: Name::new(),
            connections: Connections::default(),
            leaving: Vec::new(),
            outage: None,
            continued: None,
            written,
        }
    }

    /// Writes all that is there. An error is the end of the recording.
    pub(super) fn take(&mut self, messages: &mut Vec<Message>) -> Result<()> {
        let mut split = false;
        let mut batches = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Batch(batch) => batches.push(self.limited(batch)),
                Message::Tick => {}
                Message::Split => split = true,
            }
        }
        if self.syncer.has_failed() && self.outage.is_none() {
            // Nobody knows what of it is there.
            self.fail_since(self.written, Error::io_on("sync", self.segments.path()))?;
        }
        if let Err(error) = self.write(&batches) {
            self.fail(error)?;
        }
        if self.outage.is_some() {
            self.try_again(&batches);
        }
        self.answer(batches);
        if self.taken.reaches(self.shared.limit) {
            self.shared.stop.send_replace(true);
        }
        if self.outage.is_none()
            && let Ok(segment) = self.segments.segment()
            && let Err(error) = self.name.look_after(segment, &self.shared.notify)
        {
            self.fail(error)?;
        }
        if self.outage.is_none()
            && let Err(error) = self.sync().and_then(|()| self.split(split))
        {
            self.fail(error)?;
        }
        self.note_exports()?;
        let leaving = self.segments.leaving();
        self.let_go(leaving)
    }

    /// The user asked for so much and gets no more.
    fn limited(&mut self, mut batch: Batch) -> Batch {
        batch.entries.retain(|entry| {
            let Some(frame) = entry.frame() else { return true };
            let wanted = !self.taken.reaches(self.shared.limit);
            if wanted {
                self.taken.add(frame);
            } else {
                batch.left_out += 1;
            }
            wanted
        });
        batch
    }

    fn write(&mut self, batches: &[Batch]) -> Result<()> {
        if self.outage.is_some() || batches.is_empty() {
            return Ok(());
        }
        self.put(batches.iter().flat_map(|batch| &batch.entries))?;
        self.written = self.now();
        Ok(())
    }

    /// Writes entries, all or none of them, and makes them as safe as the user wants it.
    fn put<'e>(&mut self, entries: impl Iterator<Item = &'e Entry>) -> Result<()> {
        let mark = self.segments.segment()?.mark();
        self.segments.write(entries)?;
        if self.shared.sync == SyncWhen::Each
            && let Err(error) = self.prove()
        {
            // It is not safe there, so it goes into the next segment.
            self.segments.segment()?.forget_since(mark);
            return Err(error);
        }
        Ok(())
    }

    fn prove(&mut self) -> Result<()> {
        let unsynced = self.segments.segment()?.checkpoint()?;
        unsynced.sync().map_err(|_| Error::io_on("sync", self.segments.path()))
    }

    /// Now, by the wall clock. What the desk remembers goes by that clock, too; that it was set is for
    /// the subscriptions to tell.
    fn now(&mut self) -> Timestamp {
        let (now, step) = self.watch.look();
        if let Some(step) = step {
            self.written = step.by_new_clock(self.written);
            self.segments.clock_stepped(now);
            if let Some(outage) = &mut self.outage {
                outage.clock_stepped(step);
            }
        }
        now
    }

    /// A write has failed. All that was received before is there.
    fn fail(&mut self, error: Error) -> Result<()> {
        let now = self.now();
        self.fail_since(now, error)
    }

    /// A write or a sync has failed: the segment is closed, and what follows is up to the user.
    fn fail_since(&mut self, since: Timestamp, error: Error) -> Result<()> {
        if self.shared.on_full == OnFull::Stop || !self.segments.has_room_for_more() {
            return Err(error);
        }
        (self.shared.notify)(Notice::Trouble { error: &error });
        self.syncer = Syncer::start();
        self.not_begun = None;
        self.segments.give_up();
        self.continued = Some(self.connections.continued(self.written));
        let now = Instant::now();
        self.outage = Some(Outage::new(since, &error, now));
        self.shared.board.set_outage(Some(now));
        Ok(())
    }

    /// Begins a new segment if it is time to try, and writes down what was lost.
    fn try_again(&mut self, batches: &[Batch]) {
        let now = self.now();
        let Some(mut outage) = self.outage.take() else { return };
        if outage.is_time(Instant::now()) {
            // In the order in which it happened: what was up then may be down by now.
            let continued = self.continued.take().unwrap_or_default();
            let written = loop {
                let ledger = outage.ledger(now);
                let before = continued.iter().chain(&ledger);
                let entries = before.chain(batches.iter().flat_map(|batch| &batch.entries));
                let tried = self.segments.begin(now).and_then(|()| self.put(entries));
                let Err(error) = tried else { break Ok(ledger) };
                self.segments.give_up();
                // Where room is not what is missing, deleting is no help and costs the only copy.
                let makes_room = self.shared.on_full == OnFull::DropOldest && error.is_full();
                let deleted = if makes_room { self.segments.delete_oldest() } else { Vec::new() };
                if deleted.is_empty() {
                    break Err(error);
                }
                for entry in deleted.iter().flat_map(|gone| gone.told(now, &self.connections)) {
                    outage.lose(entry, &self.connections);
                }
            };
            match written {
                Ok(ledger) => {
                    self.shared.board.count_all(&ledger);
                    (self.shared.notify)(Notice::WritingAgain { lost: outage.frames() });
                    self.shared.board.set_outage(None);
                    self.written = now;
                    return;
                }
                Err(error) => {
                    self.continued = Some(continued);
                    outage.failed_again(&error, Instant::now());
                }
            }
        }
        for entry in batches.iter().flat_map(|batch| &batch.entries) {
            self.connections.see(entry);
            // The limit counts what is kept.
            if let Some(frame) = entry.frame() {
                self.taken.take_back(frame);
            }
            outage.lose(entry.clone(), &self.connections);
        }
        self.outage = Some(outage);
    }

    /// Lets the subscriptions read on.
    fn answer(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            if self.outage.is_none() {
                self.connections.see_all(&batch.entries);
                self.shared.board.count(&batch.entries);
            }
            // Nobody may wait for it any more; it is safe all the same.
            let _ = batch.safe.send(batch.left_out);
            if self.outage.is_some() {
                continue;
            }
            self.shared.exports.hand_over(&batch.entries);
            if let Some(kept) = &mut self.shared.kept {
                kept(batch.entries);
            }
        }
    }

    /// Writes down what exporters have dropped, if there is something to be told.
    fn note_exports(&mut self) -> Result<()> {
        if self.outage.is_some() {
            return Ok(());
        }
        let now = self.now();
        let entries = self.shared.exports.ledger(now, &self.connections);
        self.tell(entries)
    }

    /// Writes down what has to go, and only then lets it be deleted. What cannot be told stays until it can, unless
    /// deleting may be what makes room to write again: it is told then.
    fn let_go(&mut self, leaving: Vec<Leaving>) -> Result<()> {
        self.leaving.extend(leaving);
        let is_kept = self.outage.as_ref().is_some_and(|outage| !outage.is_full());
        if self.leaving.is_empty() || is_kept {
            return Ok(());
        }
        let leaving = std::mem::take(&mut self.leaving);
        let told = self.told(&leaving);
        self.tell(told)?;
        self.segments.delete(leaving);
        Ok(())
    }

    /// What the ledger says of what has to go.
    fn told(&mut self, leaving: &[Leaving]) -> Vec<Entry> {
        let now = self.now();
        leaving.iter().flat_map(|leaving| leaving.told(now, &self.connections)).collect()
    }

    /// Writes down something that is no subscription's own, now or when writing is possible again.
    fn tell(&mut self, entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.outage.is_none()
            && let Err(error) = self.put(entries.iter())
        {
            self.fail(error)?;
        }
        if let Some(outage) = &mut self.outage {
            for entry in entries {
                outage.lose(entry, &self.connections);
            }
        }
        Ok(())
    }

    /// Exporters get a few seconds for what they still have. What they drop is the last thing that is
    /// written, if anything can be.
    pub(super) fn end_exports(&mut self, can_write: bool) {
        self.shared.exports.drain();
        let now = self.now();
        let entries = self.shared.exports.rest_of_ledger(now, &self.connections);
        if can_write && !entries.is_empty() {
            self.write_last(&entries);
        }
        self.shared.exports.join();
    }

    /// What has to go when all is sealed but the last segment is told in that one. What cannot be told stays:
    /// nobody is left to tell it later.
    pub(super) fn settle(&mut self) {
        if self.segments.path().is_none() {
            return;
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.extend(self.segments.last_leaving());
        let told = self.told(&leaving);
        if !told.is_empty() && self.write_last(&told) {
            self.segments.delete(leaving);
        }
    }

    /// Writes something at the end of it all, where no other segment follows. False if that is not possible.
    fn write_last(&mut self, entries: &[Entry]) -> bool {
        let Err(error) = self.put(entries.iter()) else { return true };
        (self.shared.notify)(Notice::Trouble { error: &error });
        self.segments.give_up();
        false
    }

    /// Begins the next segment if it is time, or if `asked` to. Where that fails, nothing is lost: the last one is
    /// written to as before, and it is tried again.
    fn split(&mut self, asked: bool) -> Result<()> {
        let now = self.now();
        if !self.segments.is_over(now, asked)
            || self.not_begun.is_some_and(|tried| tried.elapsed() < BEGIN_EVERY)
        {
            return Ok(());
        }
        // It may have to wait before it is sealed.
        let ended = self.segments.segment()?.checkpoint()?;
        if self.shared.sync != SyncWhen::Never {
            self.syncer.sync(ended);
        }
        let was_tried = self.not_begun.take().is_some();
        if let Err(error) = self.segments.begin(now) {
            self.not_begun = Some(Instant::now());
            if !was_tried {
                (self.shared.notify)(Notice::Trouble { error: &error });
            }
            return Ok(());
        }
        self.put(self.connections.continued(now).iter())
    }

    fn sync(&mut self) -> Result<()> {
        let every = match self.shared.sync {
            SyncWhen::Each => return Ok(()),
            SyncWhen::Every(time) => time,
            // Checkpoints are cheap, and tell what is whole.
            SyncWhen::Never => Duration::from_secs(1),
        };
        // What a slow disk has still to begin with is all that it will have for now.
        if self.synced.elapsed() < every || self.syncer.is_behind() {
            return Ok(());
        }
        self.synced = Instant::now();
        let segment = self.segments.segment()?;
        if segment.is_proven() {
            return Ok(());
        }
        let unsynced = segment.checkpoint()?;
        if self.shared.sync != SyncWhen::Never {
            self.syncer.sync(unsynced);
        }
        Ok(())
    }

    /// Nothing more will come. What could not be told yet is tried once more.
    pub(super) fn close(&mut self) -> Option<Error> {
        if self.outage.is_some() {
            if let Some(outage) = &mut self.outage {
                outage.hurry();
            }
            self.try_again(&[]);
        }
        let outage = self.outage.as_ref()?;
        Some(
            Kind::NothingWritten { frames: outage.frames(), reason: outage.reason().to_owned() }
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io,
        path::{Path, PathBuf},
        time::UNIX_EPOCH,
    };

    use tokio::sync::{oneshot, watch};

    use super::*;
    use crate::{
        capture::{About, Capture, SealedFile},
        entry::{
            SessionEvent, Subscription, What,
            session_event::{Connected, Event},
        },
        protocol::PROTOCOLS,
        record::{
            Board, Clock, Keep, Notify, SystemClock,
            export::Exports,
            keeper::Limit,
            sealer::Care,
            segments::{Place, Split},
        },
        schema::FrameTypes,
    };

    /// A desk that writes into the folder.
    fn desk(folder: &Path, sync: SyncWhen) -> Desk {
        desk_that_keeps(folder, sync, Keep::default())
    }

    fn desk_that_keeps(folder: &Path, sync: SyncWhen, keep: Keep) -> Desk {
        let notify: Notify = Arc::new(|_| {});
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let about = About {
            started: Timestamp::now(),
            host: String::new(),
            options: std::collections::BTreeMap::new(),
        };
        let care = Care { keep, clock: Arc::clone(&clock), ..Care::with(Arc::clone(&notify)) };
        let place = Place::Folder(folder.to_owned());
        let segments = Segments::start(place, about, Vec::new(), Split::default(), care).unwrap();
        let board = Arc::new(Board::new(folder.to_owned(), segments.sealing()));
        let exports = Exports::start(Vec::new(), &board, &notify).unwrap();
        let (stop, on_full) = (watch::channel(false).0, OnFull::Wait);
        let (limit, kept) = (Limit::default(), None);
        let shared = Shared { board, stop, limit, kept, exports, sync, on_full, notify, clock };
        Desk::new(segments, shared)
    }

    /// It was connected at that time.
    fn connected(received: Timestamp) -> Entry {
        let subscription = Subscription::to_audit("campus");
        let event = Some(Event::Connected(Connected::default()));
        let what = What::Event(SessionEvent { connection: 1, event });
        Entry { subscription, received, what }
    }

    /// Entries on their way, for which nobody waits.
    fn batch(entries: Vec<Entry>) -> Batch {
        Batch { entries, left_out: 0, safe: oneshot::channel().0 }
    }

    #[test]
    fn an_outage_begins_with_what_was_lost_and_not_with_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = desk(folder.path(), SyncWhen::Never);
        let mut types = FrameTypes::of(PROTOCOLS[0]);
        let frame = types.frame("audit", 1, bytes::Bytes::from_static(b"lost"));
        let came = desk.now();
        let lost = Entry { what: What::Frame(frame), ..connected(came) };
        // The feed was quiet for an hour before.
        desk.written = came.before(Duration::from_secs(3600));
        desk.fail(Error::io_on("write", None)).unwrap();
        // The folder is gone: nothing can be begun there.
        drop(folder);
        let lost = desk.limited(batch(vec![lost]));
        desk.try_again(&[lost]);
        assert_eq!(desk.taken, Amount::default());
        let told = desk.outage.as_ref().unwrap().ledger(came.after(Duration::from_secs(9)));
        let gap = told.iter().find_map(|entry| match &entry.what {
            What::Event(SessionEvent { event: Some(Event::Gap(gap)), .. }) => Some(*gap),
            _ => None,
        });
        assert_eq!(gap.unwrap().from_ns, came.as_nanos());
    }

    #[test]
    fn as_long_as_the_next_segment_cannot_be_begun_the_last_one_takes_more() {
        let place = tempfile::tempdir().unwrap();
        let (folder, away) = (place.path().join("capture"), place.path().join("away"));
        std::fs::create_dir(&folder).unwrap();
        let mut desk = desk(&folder, SyncWhen::Never);
        let write = |desk: &mut Desk| {
            let mut messages = vec![Message::Batch(batch(vec![connected(Timestamp::now())]))];
            desk.take(&mut messages).unwrap();
        };
        write(&mut desk);
        let first = desk.segments.path().unwrap().to_owned();
        std::fs::rename(&folder, &away).unwrap();
        desk.take(&mut vec![Message::Split]).unwrap();
        assert!(desk.outage.is_none() && desk.segments.path() == Some(&*first));
        write(&mut desk);
        std::fs::rename(&away, &folder).unwrap();
        desk.not_begun = desk.not_begun.and_then(|tried| tried.checked_sub(BEGIN_EVERY));
        desk.take(&mut vec![Message::Split]).unwrap();
        assert!(desk.segments.path() != Some(&*first));
        write(&mut desk);
        let (sealed, failed) = desk.segments.finish();
        assert!(failed.is_none(), "{failed:?}");
        // The second one begins with a word on each connection.
        assert_eq!(sealed.iter().map(|sealed| sealed.entries).collect::<Vec<_>>(), [2, 3]);
    }

    /// A segment that an earlier recording has sealed.
    fn sealed_before(folder: &Path) -> PathBuf {
        let entry = connected(Timestamp::from_nanos(1));
        let path = folder.join("20260101T000000.000Z.mcap");
        let about = About {
            started: entry.received,
            host: String::new(),
            options: std::collections::BTreeMap::new(),
        };
        let mut sealed = SealedFile::create(&path, &about, &[]).unwrap();
        sealed.append(&entry).unwrap();
        sealed.finish().unwrap();
        path
    }

    /// Of how many deleted segments the ledger of these tells.
    fn deletions_told(paths: &[&PathBuf]) -> usize {
        let is_told = |entry: &Entry| {
            let What::Event(SessionEvent { event, .. }) = &entry.what else { return false };
            matches!(event, Some(Event::SegmentDeleted(_)))
        };
        let capture = Capture::open(paths).unwrap();
        capture.entries().map(Result::unwrap).filter(is_told).count()
    }

    #[test]
    fn what_has_to_go_at_the_end_stays_if_that_cannot_be_told() {
        for can_be_told in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let old = sealed_before(folder.path());
            let keep = Keep { size: Some(1), ..Keep::default() };
            let mut desk = desk_that_keeps(folder.path(), SyncWhen::Never, keep);
            desk.write(&[batch(vec![connected(Timestamp::now())])]).unwrap();
            if !can_be_told {
                // Nothing more is written to it, as after a write that failed.
                let segment = desk.segments.segment().unwrap();
                let mark = segment.mark();
                segment.forget_since(mark);
            }
            desk.settle();
            let (sealed, failed) = desk.segments.finish();
            assert!(failed.is_none() && sealed.len() == 1, "{failed:?} {sealed:?}");
            assert_eq!(old.exists(), !can_be_told);
            let told = deletions_told(&[sealed[0].path.as_ref().unwrap()]);
            assert_eq!(told, usize::from(can_be_told));
        }
    }

    #[test]
    fn what_has_to_go_in_an_outage_stays_until_it_can_be_told_unless_room_is_missing() {
        for is_full in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let old = sealed_before(folder.path());
            let file = File::options().write(true).open(&old).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
            let keep = Keep { age: Some(Duration::from_secs(3600)), ..Keep::default() };
            let mut desk = desk_that_keeps(folder.path(), SyncWhen::Never, keep);
            desk.write(&[batch(vec![connected(Timestamp::now())])]).unwrap();
            let kind = if is_full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            desk.fail(Error::io("write", &old)(kind.into())).unwrap();
            let leaving = desk.segments.last_leaving();
            desk.let_go(leaving).unwrap();
            // By then it is deleted, if it was to be.
            desk.segments.last_leaving();
            assert_eq!(old.exists(), !is_full);

            desk.try_again(&[]);
            assert!(desk.outage.is_none());
            desk.let_go(Vec::new()).unwrap();
            let (sealed, failed) = desk.segments.finish();
            assert!(failed.is_none() && !old.exists(), "{failed:?}");
            let paths: Vec<_> = sealed.iter().filter_map(|sealed| sealed.path.as_ref()).collect();
            assert_eq!(deletions_told(&paths), 1);
        }
    }

    #[test]
    fn all_that_is_written_is_on_the_disk_at_once_where_that_was_asked_for() {
        for sync in [SyncWhen::Each, SyncWhen::Never] {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = desk(folder.path(), sync);
            let entry = || vec![connected(Timestamp::now())];
            let is_proven = |desk: &mut Desk| {
                let segment = desk.segments.segment().unwrap();
                !segment.is_empty() && segment.is_proven()
            };
            let expected = sync == SyncWhen::Each;
            let batches = [batch(entry())];
            desk.write(&batches).unwrap();
            assert_eq!(is_proven(&mut desk), expected, "a batch");
            desk.answer(batches.into());
            desk.tell(entry()).unwrap();
            assert_eq!(is_proven(&mut desk), expected, "what is no subscription's own");
            desk.split(true).unwrap();
            assert_eq!(is_proven(&mut desk), expected, "what a segment begins with");
            desk.fail(Error::io_on("sync", None)).unwrap();
            desk.try_again(&[batch(entry())]);
            assert!(desk.outage.is_none());
            assert_eq!(is_proven(&mut desk), expected, "what is told after an outage");
        }
    }
}
