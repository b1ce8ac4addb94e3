//! Rows of frames as CSV: a table for the frames of each type and one for each list of messages in them, or
//! the columns that were asked for.
//!
//! Every table has all columns that the schema gives it, whether a value ever comes or not. A row of a list
//! repeats the values of each message that the list is in, so that nothing has to be joined. Fields are
//! quoted as in RFC 4180; lines end in a line feed.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Output, Sink, envelope, select::Select, sent, stream::Stream, undecodable};
use crate::{
    by_address::ByAddress,
    capture::unfinished::{UnfinishedFolder, folder_towards, refuse_taken},
    codec::{
        columns::{Layout, RowRef, Rows},
        notes::{Drift, Notes},
        plan::{Plan, Style},
    },
    entry::{Entry, Frame, FrameType},
    error::{Error, Result},
    protocol,
    schema::{self, Resolver},
};

/// Turns frames into rows.
#[derive(Debug)]
pub struct Csv {
    resolver: Resolver,
    style: Style,
    select: Option<Select>,
    shapes: ByAddress<FrameType, Shape>,
    rows: Rows,
    notes: Notes,
    drift: Drift,
}

/// What becomes of the frames of one type.
#[derive(Debug)]
struct Shape {
    plan: Plan,
    layout: Layout,
    /// For each table of the layout, if its rows are shown.
    views: Vec<Option<View>>,
    payload: String,
}

/// How the rows of one table are shown.
#[derive(Debug)]
pub(super) struct View {
    pub(super) table: Arc<Table>,
    /// One for each column.
    pub(super) sources: Vec<Source>,
}

/// A table of the output.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Where it goes in a folder.
    path: PathBuf,
    columns: Vec<String>,
}

/// Where the values of a column come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Received,
    Time,
    Subscription,
    Topic,
    Type,
    Sequence,
    /// The place of the row in its list, or of one so many rows above it.
    Index {
        up: usize,
    },
    /// A cell of the row, or of one so many rows above it.
    Cell {
        up: usize,
        column: usize,
    },
    /// The type of the frame has no such thing.
    Nowhere,
}

/// Rows as CSV, by table, without the line that names the columns.
#[derive(Default)]
pub struct Piece {
    tables: BTreeMap<Arc<Table>, csv::Writer<Vec<u8>>>,
}

impl Csv {
    /// All tables, decoded with what `resolver` finds.
    pub fn tables(resolver: Resolver, style: Style) -> Self {
        Self {
            resolver,
            style,
            select: None,
            shapes: ByAddress::default(),
            rows: Rows::default(),
            notes: Notes::default(),
            drift: Drift::default(),
        }
    }

    /// The one table that was asked for.
    pub fn selected(resolver: Resolver, style: Style, select: Select) -> Self {
        Self { select: Some(select), ..Self::tables(resolver, style) }
    }
}

impl Shape {
    fn new(
        resolver: &Resolver,
        style: Style,
        select: Option<&Select>,
        entry: &Entry,
        frame: &Frame,
    ) -> Result<Self> {
        let protocol = protocol::by_name(&entry.subscription.protocol);
        let envelope = envelope(resolver, entry, frame)?;
        let plan = Plan::new(&envelope, style);
        let mut layout = Layout::of(&plan);
        let views = match select {
            Some(select) => select.views(&mut layout),
            None => {
                let field = envelope.get_field(protocol.envelope_message().1);
                let outer = field.as_ref().map_or("", |field| field.name());
                views(&layout, &frame.kind.label, outer)
            }
        };
        let payload = schema::payload_type(protocol, &envelope).unwrap_or(envelope);
        Ok(Self { plan, layout, views, payload: payload.full_name().to_owned() })
    }
}

impl Sink for Csv {
    type Piece = Piece;

    fn entry(&mut self, entry: &Entry, out: &mut Piece) -> Result<bool> {
        let Some(frame) = entry.frame() else { return Ok(false) };
        let shape = self.shapes.or_try_insert_with(&frame.kind, || {
            Shape::new(&self.resolver, self.style, self.select.as_ref(), entry, frame)
        })?;
        let Shape { plan, layout, views, payload } = &*shape;
        self.rows
            .fill(plan, layout, &frame.data, &mut self.notes)
            .map_err(|fault| undecodable(entry, frame, &fault))?;
        if !self.notes.list().is_empty() {
            self.drift.count(payload, &self.notes);
        }
        let head = Head {
            received: entry.received.to_string(),
            time: sent(entry, frame).map(|time| time.to_string()).unwrap_or_default(),
            subscription: &entry.subscription.name,
            topic: &entry.subscription.topic,
            payload,
            sequence: frame.sequence.to_string(),
        };
        for row in self.rows.iter() {
            if let Some(view) = &views[row.table()] {
                view.write(&head, row, out).map_err(|error| Error::output(error.into()))?;
            }
        }
        Ok(true)
    }

    fn take_drift(&mut self) -> Drift {
        std::mem::take(&mut self.drift)
    }
}

/// What all rows of a frame can show.
struct Head<'f> {
    received: String,
    time: String,
    subscription: &'f str,
    topic: &'f str,
    payload: &'f str,
    sequence: String,
}

impl View {
    fn write(&self, head: &Head<'_>, row: RowRef<'_>, out: &mut Piece) -> csv::Result<()> {
        let table = out.tables.entry(Arc::clone(&self.table));
        let out = table.or_insert_with(|| csv::Writer::from_writer(Vec::new()));
        let above = |up| (0..up).fold(row, |row, _| row.above());
        for source in &self.sources {
            match *source {
                Source::Received => out.write_field(&head.received),
                Source::Time => out.write_field(&head.time),
                Source::Subscription => out.write_field(head.subscription),
                Source::Topic => out.write_field(head.topic),
                Source::Type => out.write_field(head.payload),
                Source::Sequence => out.write_field(&head.sequence),
                Source::Index { up } => out.write_field(above(up).index().to_string()),
                Source::Cell { up, column } => {
                    out.write_field(above(up).cell(column).unwrap_or_default())
                }
                Source::Nowhere => out.write_field([]),
            }?;
        }
        out.write_record(None::<&[u8]>)
    }
}

/// The columns that every table begins with: together they say which frame it is.
const HEAD: [(&str, Source); 4] = [
    ("received", Source::Received),
    ("time", Source::Time),
    ("subscription", Source::Subscription),
    ("sequence", Source::Sequence),
];

/// Shows each table whole: the frame, the values of what the list is in, its place in the list, and
/// its own columns, all under the names by which a [`Select`] finds them. `label` names the frames' type, and `payload` is the field with all that matters.
fn views(layout: &Layout, label: &str, payload: &str) -> Vec<Option<View>> {
    let tables = layout.tables();
    let view = |at: usize| {
        let (mut columns, mut sources): (Vec<_>, Vec<_>) =
            HEAD.iter().map(|&(name, source)| (name.to_owned(), source)).unzip();
        let mut add = |name, source| {
            columns.push(name);
            sources.push(source);
        };
        let mut way = vec![at];
        while let Some(above) = way.last().and_then(|&at| tables[at].above) {
            way.push(above);
        }
        let mut list = String::new();
        for (up, &at) in way.iter().enumerate().rev() {
            if !list.is_empty() {
                add(list.clone(), Source::Index { up });
                list.push('.');
            }
            // The way from here to the next list.
            let below = up.checked_sub(1).map(|up| &tables[way[up]].path[tables[at].path.len()..]);
            let below = below.map(|names| names.join("."));
            for (column, its) in tables[at].columns.iter().enumerate() {
                let is_shown = match (&below, &its.owner) {
                    (None, _) => true,
                    (Some(below), Some(owner)) => below.starts_with(owner),
                    (Some(_), None) => false,
                };
                if is_shown {
                    add(format!("{list}{}", its.name), Source::Cell { up, column });
                }
            }
            if let Some(below) = below {
                list = format!("{list}{below}[]");
            }
        }
        let mut file = tables[at].path.join(".");
        if let Some(rest) = file.strip_prefix(payload).and_then(|rest| rest.strip_prefix('.')) {
            file = rest.to_owned();
        }
        let path = match &*file {
            "" => PathBuf::from(file_name(label)),
            file => Path::new(&file_stem(label)).join(file_name(file)),
        };
        Some(View { table: Arc::new(Table { path, columns }), sources })
    };
    (0..tables.len()).map(view).collect()
}

fn file_name(name: &str) -> String {
    file_stem(name) + ".csv"
}

/// Names come from a capture, which anybody may have made: none of them leads out of the folder.
fn file_stem(name: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let stem: String = name.chars().map(|c| if safe(c) { c } else { '_' }).collect();
    if stem.starts_with('.') { format!("_{stem}") } else { stem }
}

impl Table {
    /// The one table of a selection.
    pub(super) fn selected(columns: Vec<String>) -> Self {
        Self { path: PathBuf::new(), columns }
    }

    /// The line that names the columns.
    fn heading(&self) -> csv::Result<Vec<u8>> {
        let mut line = csv::Writer::from_writer(Vec::new());
        line.write_record(&self.columns)?;
        line.into_inner().map_err(|error| error.into_error().into())
    }
}

impl Piece {
    /// What there is of each table. The piece is empty then.
    fn take(&mut self) -> impl Iterator<Item = Result<(Arc<Table>, Vec<u8>)>> {
        std::mem::take(&mut self.tables).into_iter().map(|(table, lines)| {
            let lines = lines.into_inner().map_err(|error| Error::output(error.into_error()))?;
            Ok((table, lines))
        })
    }
}

/// A folder with a file for each table that has a row.
pub struct Folder {
    path: PathBuf,
    /// Where the tables are until all are whole. It is made with the first of them.
    unfinished: Option<UnfinishedFolder>,
    /// With their names.
    files: HashMap<Arc<Table>, (PathBuf, Stream<'static>)>,
}

impl Folder {
    /// A folder that is made, with those that lead to it, when all tables are whole. If it is there
    /// already, they join what is in it, and none is ever written over another file.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), unfinished: None, files: HashMap::new() }
    }

    /// Makes the table's file. Where segments disagree on the columns of a table, there are two.
    fn new_file(&mut self, table: &Table) -> Result<(PathBuf, Stream<'static>)> {
        let same = self.files.keys().filter(|known| known.path == table.path).count();
        let mut name = table.path.clone();
        if same > 0 {
            name.set_extension(format!("{}.csv", same + 1));
        }
        // Better now than when all of it is decoded.
        refuse_taken(&self.path.join(&name))?;
        let unfinished = match &self.unfinished {
            Some(unfinished) => unfinished,
            None => self.unfinished.insert(begin(&self.path)?),
        };
        let mut file = Stream::of_file(unfinished.file(&name)?);
        file.append(&table.heading().map_err(|error| Error::output(error.into()))?)?;
        Ok((name, file))
    }
}

fn begin(path: &Path) -> Result<UnfinishedFolder> {
    if !path.is_dir() {
        refuse_taken(path)?;
    }
    UnfinishedFolder::create_in(folder_towards(path), path)
}

impl Output<Piece> for Folder {
    fn write(&mut self, piece: &mut Piece) -> Result<()> {
        for lines in piece.take() {
            let (table, lines) = lines?;
            if !self.files.contains_key(&table) {
                let file = self.new_file(&table)?;
                self.files.insert(Arc::clone(&table), file);
            }
            if let Some((_, file)) = self.files.get_mut(&table) {
                file.append(&lines)?;
            }
        }
        Ok(())
    }

    fn forgo_name(&mut self) {
        self.unfinished = None;
    }

    fn finish(&mut self) -> Result<()> {
        let Some(unfinished) = self.unfinished.take() else { return Ok(()) };
        let files = self.files.values();
        unfinished.sync(files.filter_map(|(name, stream)| Some((name, stream.file()?))))?;
        if self.path.is_dir() {
            unfinished.join(self.files.values().map(|(name, _)| name))
        } else {
            unfinished.finish()
        }
    }
}

/// One stream for the one table that was asked for.
pub struct Lines<'w> {
    stream: Stream<'w>,
    heading: Option<Vec<u8>>,
}

impl<'w> Lines<'w> {
    /// The columns are named in the first line, also if there is no other.
    pub fn new(stream: Stream<'w>, select: &Select) -> Result<Self> {
        let heading = select.table().heading().map_err(|error| Error::output(error.into()))?;
        Ok(Self { stream, heading: Some(heading) })
    }
}

impl Output<Piece> for Lines<'_> {
    fn write(&mut self, piece: &mut Piece) -> Result<()> {
        if let Some(heading) = self.heading.take() {
            self.stream.append(&heading)?;
        }
        for lines in piece.take() {
            self.stream.append(&lines?.1)?;
        }
        Ok(())
    }

    fn forgo_name(&mut self) {
        self.stream.forgo_name();
    }

    fn finish(&mut self) -> Result<()> {
        self.write(&mut Piece::default())?;
        self.stream.end()
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
mod tests {
    use super::{super::stream::tests::never_on_disk, *};

    #[test]
    fn tables_that_are_not_on_the_disk_get_no_name() {
        let place = tempfile::tempdir().unwrap();
        for (name, is_there) in [("new", false), ("old", true)] {
            let path = place.path().join(name);
            if is_there {
                std::fs::create_dir(&path).unwrap();
            }
            let mut folder = Folder::new(&path);
            let tables = ["first", "second/third"]
                .map(|name| Arc::new(Table { path: name.into(), columns: vec!["a".to_owned()] }));
            for table in &tables {
                let file = folder.new_file(table).unwrap();
                folder.files.insert(Arc::clone(table), file);
            }
            let (_reader, file) = never_on_disk();
            folder.files.get_mut(&tables[1]).unwrap().1 = Stream::of_file(file);
            folder.finish().unwrap_err();
            assert_eq!(path.exists(), is_there);
            assert!(!is_there || path.read_dir().unwrap().count() == 0);
        }
    }
}
