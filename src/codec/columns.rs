//! What a walk writes as rows: a table for the message itself, and one for each list within it.
//!
//! A [`Layout`] says what becomes of each field: a cell of the row, a message whose fields are cells of
//! the same row, a list whose elements are rows of a table below, or JSON in one cell (lists of
//! scalars, maps, types that ProtoJSON spells in ways of their own, and what contains itself). A row is
//! complete only when its message is, and what is below may come before: [`Rows`] keeps all rows of one
//! message, each knowing the one above it.

use std::ops::Range;

use super::{
    Fault,
    bytes::Meaning,
    json::{JSON_LIMIT, Json, Text},
    notes::Notes,
    plan::{Bytes, Field, Form, Int64Style, Kind, Literal, Message, Plan, Style},
    walk::{self, Writer},
};

/// How much may be made of one message when every row repeats what it belongs to.
const SIZE_LIMIT: usize = 512 * 1024 * 1024;

/// What becomes of the fields of a message type and of all within it.
#[derive(Debug)]
pub struct Layout {
    nodes: Vec<Node>,
    tables: Vec<Table>,
}

/// A table: its rows are the message itself, or the elements of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The fields that lead from the message to the list; none for the message itself.
    pub path: Vec<String>,
    /// The table whose rows hold the list. It stands before this one.
    pub above: Option<usize>,
    /// The columns of its own, in the order of the fields.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// The fields that lead from the row to the value, joined by dots.
    pub name: String,
    /// The part of the name that leads to the message that has the value, with a dot behind; the
    /// address of a device belongs to whatever has the device. None if there is more than one value.
    pub owner: Option<String>,
}

/// What becomes of the fields of one message at one place. Sorted by number.
#[derive(Debug, Default)]
struct Node {
    slots: Vec<(u32, Slot)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// It is left out.
    Nothing,
    /// A cell of the row.
    Cell(usize),
    /// A cell of the row that holds JSON, unless the value turns out to be a scalar.
    Json(usize),
    /// A message whose fields are part of the row.
    Inner(usize),
    /// Each element is a row of the table. A message's fields are the node's.
    Rows { table: usize, node: usize },
}

/// The node that leaves out everything.
const NOTHING: usize = 0;

/// The node of the message itself.
const ROOT: usize = 1;

/// A schema can ask for any number of columns without being long: messages within messages, each
/// twice. From here on there are no further ones, and what is within is shown as JSON.
const COLUMN_LIMIT: usize = 10_000;

impl Layout {
    /// Everything that the message has: a table for each list of messages.
    pub fn of(plan: &Plan) -> Self {
        let root = Table { path: Vec::new(), above: None, columns: Vec::new() };
        let layout = Self { nodes: vec![Node::default()], tables: vec![root] };
        let mut build = Build { plan, layout, columns: 0 };
        build.node(plan.root(), 0, &Place::default());
        build.layout
    }

    /// Leaves out all cells but those of which `wanted` says so, by table and column.
    pub fn keep(&mut self, wanted: impl Fn(usize, usize) -> bool) {
        let mut todo = vec![(ROOT, 0)];
        while let Some((node, table)) = todo.pop() {
            for (_, slot) in &mut self.nodes[node].slots {
                match *slot {
                    Slot::Cell(column) | Slot::Json(column) if !wanted(table, column) => {
                        *slot = Slot::Nothing;
                    }
                    Slot::Inner(inner) => todo.push((inner, table)),
                    Slot::Rows { table, node } => todo.push((node, table)),
                    _ => {}
                }
            }
        }
    }

    /// The tables; the message itself is the first.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    fn slot(&self, node: usize, number: u32) -> Slot {
        let slots = &self.nodes[node].slots;
        // Most often the fields are numbered from 1 without gaps.
        match slots.get((number as usize).wrapping_sub(1)) {
            Some(&(found, slot)) if found == number => slot,
            _ => slots
                .binary_search_by_key(&number, |&(number, _)| number)
                .map_or(Slot::Nothing, |at| slots[at].1),
        }
    }
}

/// Where a message stands while the layout is built.
#[derive(Default)]
struct Place<'p> {
    /// Of the columns within the row, with a dot behind.
    prefix: String,
    /// As in [`Column`].
    owner: String,
    /// Of the tables below.
    path: Vec<String>,
    up: Option<(&'p Place<'p>, &'p str)>,
    /// In how many others.
    depth: u32,
}

impl Place<'_> {
    fn is_within(&self, message: &str) -> bool {
        self.up.is_some_and(|(up, name)| name == message || up.is_within(message))
    }
}

struct Build<'p> {
    plan: &'p Plan,
    layout: Layout,
    columns: usize,
}

impl<'p> Build<'p> {
    /// What becomes of all fields of a message that stands there in rows of that table.
    fn node(&mut self, message: &Message, table: usize, place: &Place<'_>) -> usize {
        let node = self.layout.nodes.len();
        self.layout.nodes.push(Node::default());
        let slots = message.fields.iter().map(|field| {
            let slot = self.whole(message, field, table, place);
            (field.number, slot)
        });
        let slots = slots.collect();
        self.layout.nodes[node].slots = slots;
        node
    }

    fn whole(&mut self, message: &Message, field: &Field, table: usize, place: &Place<'_>) -> Slot {
        let name = format!("{}{}", place.prefix, field.name);
        let path = || [&place.path[..], std::slice::from_ref(&field.name)].concat();
        let (up, depth) = (Some((place, &*message.name)), place.depth + 1);
        let Some(inner) = self.flat(field, &message.name, place) else {
            let is_one = !field.repeated && !matches!(field.kind, Kind::Map(_));
            let owner = is_one.then(|| place.owner.clone());
            let columns = &mut self.layout.tables[table].columns;
            columns.push(Column { name, owner });
            let column = columns.len() - 1;
            self.columns += 1;
            let is_scalar = is_one && self.message_of(field).is_none();
            return if is_scalar { Slot::Cell(column) } else { Slot::Json(column) };
        };
        if field.repeated {
            let below = self.layout.tables.len();
            let columns = Vec::new();
            self.layout.tables.push(Table { path: path(), above: Some(table), columns });
            let place = Place { path: path(), up, depth, ..Place::default() };
            return Slot::Rows { table: below, node: self.node(inner, below, &place) };
        }
        let prefix = name + ".";
        let owner = match field.kind {
            Kind::Mac(_) => place.owner.clone(),
            _ => prefix.clone(),
        };
        let place = Place { prefix, owner, path: path(), up, depth };
        Slot::Inner(self.node(inner, table, &place))
    }

    /// The message in the field, if its fields become columns.
    fn flat(&self, field: &Field, within: &str, place: &Place<'_>) -> Option<&'p Message> {
        let message = self.message_of(field)?;
        let contains_itself = message.name == within || place.is_within(&message.name);
        let is_object = message.form == Form::Object && !matches!(field.kind, Kind::Map(_));
        // No message is decoded that is deeper in others.
        let has_room = self.columns.max(self.layout.nodes.len()) < COLUMN_LIMIT
            && place.depth < walk::DEPTH_LIMIT;
        (is_object && !contains_itself && has_room).then_some(message)
    }

    fn message_of(&self, field: &Field) -> Option<&'p Message> {
        match field.kind {
            Kind::Message(index) | Kind::Mac(index) | Kind::Group(index) | Kind::Map(index) => {
                Some(self.plan.message(index))
            }
            _ => None,
        }
    }
}

/// The rows that a message is made into. Their memory is kept for the next message.
#[derive(Debug, Default)]
pub struct Rows {
    /// Each after the one above it.
    list: Vec<Row>,
    /// By row and column, once they are all there.
    cells: Vec<Cell>,
    /// What the cells hold.
    text: Text,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    table: usize,
    /// The row that has the list. That of the message itself is above itself.
    above: usize,
    /// Its place in the list, from 0.
    index: u32,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    row: usize,
    column: usize,
    start: usize,
    end: usize,
}

/// One of the rows.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'r> {
    all: &'r Rows,
    at: usize,
}

impl Rows {
    /// Makes rows of a message. After a fault there are none. What the schema does not know is in
    /// `notes`.
    pub fn fill(
        &mut self,
        plan: &Plan,
        layout: &Layout,
        data: &[u8],
        notes: &mut Notes,
    ) -> Result<(), Fault> {
        self.clear();
        self.list.push(Row { table: 0, above: 0, index: 0 });
        // A cell may hold JSON, and all of them have hardly more than the JSON of the whole message.
        self.text.begin(JSON_LIMIT);
        let fill = Fill {
            layout,
            style: plan.style(),
            out: self,
            open: Vec::new(),
            now: Inside {
                node: ROOT,
                row: 0,
                slot: Slot::Nothing,
                elements: 0,
                brackets: 0,
                start: 0,
            },
        };
        let walked = walk::walk(plan, data, fill, notes);
        let walked = if self.text.end() {
            let reason = format!("its cells would have more than {JSON_LIMIT} bytes");
            Err(Fault::new(0, String::new(), reason))
        } else {
            walked
        };
        walked.and_then(|()| self.check_size(layout)).inspect_err(|_| self.clear())?;
        self.cells.sort_unstable_by_key(|cell| (cell.row, cell.column));
        Ok(())
    }

    /// A long text that is repeated in each of many rows makes much of a small message.
    fn check_size(&self, layout: &Layout) -> Result<(), Fault> {
        let columns = |row: &Row| layout.tables[row.table].columns.len();
        let mut sizes: Vec<_> = self.list.iter().map(columns).collect();
        for cell in &self.cells {
            sizes[cell.row] += cell.end - cell.start;
        }
        let mut size = 0;
        for at in 0..sizes.len() {
            // What is above comes first, and has all of its own above it.
            if at > 0 {
                sizes[at] += sizes[self.list[at].above];
            }
            size += sizes[at];
            if size > SIZE_LIMIT {
                let reason = format!("its rows would have more than {SIZE_LIMIT} bytes");
                return Err(Fault::new(0, String::new(), reason));
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.list.clear();
        self.cells.clear();
        self.text.clear();
    }

    /// All rows, each after the one above it.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.list.len()).map(|at| RowRef { all: self, at })
    }
}

impl<'r> RowRef<'r> {
    /// Which table's row it is.
    pub fn table(self) -> usize {
        self.all.list[self.at].table
    }

    /// Its place in its list, from 0.
    pub fn index(self) -> u32 {
        self.all.list[self.at].index
    }

    /// The row that has the list that this one is an element of; the message's own row has none but
    /// itself.
    #[must_use]
    pub fn above(self) -> Self {
        Self { at: self.all.list[self.at].above, ..self }
    }

    /// What is in that column; None if there is nothing.
    pub fn cell(self, column: usize) -> Option<&'r [u8]> {
        let cells = &self.all.cells;
        let wanted = (self.at, column);
        let at = cells.binary_search_by_key(&wanted, |cell| (cell.row, cell.column)).ok()?;
        Some(&self.all.text.as_bytes()[cells[at].start..cells[at].end])
    }
}

/// Takes what a walk finds.
struct Fill<'r> {
    layout: &'r Layout,
    style: Style,
    out: &'r mut Rows,
    /// What the walk is inside of, without the innermost.
    open: Vec<Inside>,
    now: Inside,
}

/// Where the walk is: in which message and row, and what is to become of the field that it is at.
#[derive(Clone, Copy, Debug)]
struct Inside {
    node: usize,
    row: usize,
    slot: Slot,
    /// Elements of the list that it is at, so far.
    elements: u32,
    /// How many brackets are open in the JSON of a cell, and where that begins.
    brackets: u32,
    start: usize,
}

/// All that has to be put back to forget what came after.
#[derive(Clone, Copy)]
struct Mark {
    text: usize,
    cells: usize,
    rows: usize,
    open: usize,
    now: Inside,
}

impl Fill<'_> {
    fn json(&mut self) -> Json<'_> {
        Json::new(&mut self.out.text, self.style)
    }

    /// Writes a scalar: into the JSON that is open, or as a cell with nothing round it.
    fn scalar(&mut self, json: impl FnOnce(&mut Json<'_>), bare: impl FnOnce(&mut Text)) {
        if self.now.brackets > 0 {
            return json(&mut self.json());
        }
        if let Slot::Cell(column) | Slot::Json(column) = self.now.slot {
            let start = self.out.text.len();
            bare(&mut self.out.text);
            self.cell(column, start);
        }
    }

    /// A scalar that JSON shows without quotes too, or with nothing else but quotes.
    fn number(&mut self, json: impl Fn(&mut Json<'_>)) {
        let plain = Style { int64: Int64Style::Number, ..self.style };
        self.scalar(&json, |text| json(&mut Json::new(text, plain)));
    }

    /// What was written from there on is the content of a cell.
    fn cell(&mut self, column: usize, start: usize) {
        let end = self.out.text.len();
        self.out.cells.push(Cell { row: self.now.row, column, start, end });
    }

    fn enter(&mut self, node: usize, row: usize) {
        self.open.push(self.now);
        self.now = Inside { node, row, slot: Slot::Nothing, elements: 0, ..self.now };
    }

    /// Whether a bracket opens in a cell's JSON, which may begin with it.
    fn opens_json(&mut self) -> bool {
        let begins = self.now.brackets == 0 && matches!(self.now.slot, Slot::Json(_));
        if begins {
            self.now.start = self.out.text.len();
        }
        let opens = begins || self.now.brackets > 0;
        self.now.brackets += u32::from(opens);
        opens
    }

    /// A bracket of a cell's JSON has been closed, which may have been the last one.
    fn closed_json(&mut self) {
        self.now.brackets -= 1;
        if let (0, Slot::Json(column)) = (self.now.brackets, self.now.slot) {
            self.cell(column, self.now.start);
        }
    }
}

impl Writer for Fill<'_> {
    type Mark = Mark;

    fn mark(&self) -> Mark {
        Mark {
            text: self.out.text.len(),
            cells: self.out.cells.len(),
            rows: self.out.list.len(),
            open: self.open.len(),
            now: self.now,
        }
    }

    fn rewind(&mut self, to: Mark) {
        self.out.text.truncate(to.text);
        self.out.cells.truncate(to.cells);
        self.out.list.truncate(to.rows);
        self.open.truncate(to.open);
        self.now = to.now;
    }

    fn field(&mut self, field: &Field) {
        if self.now.brackets > 0 {
            self.json().field(field);
        } else {
            self.now.slot = self.layout.slot(self.now.node, field.number);
        }
    }

    fn name(&mut self, name: &str) {
        if self.now.brackets > 0 {
            self.json().name(name);
        }
    }

    fn element(&mut self) {
        if self.now.brackets > 0 {
            self.json().element();
        }
    }

    fn open_message(&mut self) -> Mark {
        let mark = self.mark();
        if self.opens_json() {
            return mark;
        }
        match self.now.slot {
            Slot::Inner(node) => self.enter(node, self.now.row),
            Slot::Rows { table, node } => {
                let row = Row { table, above: self.now.row, index: self.now.elements };
                self.now.elements += 1;
                self.out.list.push(row);
                self.enter(node, self.out.list.len() - 1);
            }
            Slot::Nothing | Slot::Cell(_) | Slot::Json(_) => self.enter(NOTHING, self.now.row),
        }
        mark
    }

    fn close_message(&mut self, opened: Mark) {
        if self.now.brackets > 0 {
            self.json().close_message(opened.text);
            self.closed_json();
        } else if let Some(outer) = self.open.pop() {
            self.now = outer;
        }
    }

    fn open_list(&mut self) -> Mark {
        let mark = self.mark();
        self.opens_json();
        self.now.elements = 0;
        mark
    }

    fn close_list(&mut self, opened: Mark) {
        if self.now.brackets > 0 {
            self.json().close_list(opened.text);
            self.closed_json();
        }
    }

    fn null(&mut self) {
        self.number(|json| json.null());
    }

    fn bool(&mut self, value: bool) {
        self.number(|json| json.bool(value));
    }

    fn int32(&mut self, value: i32) {
        self.number(|json| json.int32(value));
    }

    fn uint32(&mut self, value: u32) {
        self.number(|json| json.uint32(value));
    }

    fn int64(&mut self, value: i64) {
        self.number(|json| json.int64(value));
    }

    fn uint64(&mut self, value: u64) {
        self.number(|json| json.uint64(value));
    }

    fn float(&mut self, value: f32) {
        let bare = |text: &mut Text| without_quotes(text, |json| json.float(value));
        self.scalar(|json| json.float(value), bare);
    }

    fn double(&mut self, value: f64) {
        let bare = |text: &mut Text| without_quotes(text, |json| json.double(value));
        self.scalar(|json| json.double(value), bare);
    }

    fn string(&mut self, data: &[u8], span: Range<usize>) -> Result<(), usize> {
        let string = &data[span.clone()];
        if let Err(error) = str::from_utf8(string) {
            return Err(span.start + error.valid_up_to());
        }
        let json = |json: &mut Json<'_>| json.string(data, span).unwrap_or(());
        self.scalar(json, |text| text.extend(string));
        Ok(())
    }

    fn not_utf8(&mut self, data: &[u8]) {
        self.number(|json| json.not_utf8(data));
    }

    fn bytes(&mut self, shown: Bytes, data: &[u8]) {
        let bare = |text: &mut Text| match shown {
            Bytes::Essid => text.extend(Meaning::Essid.text(data).as_bytes()),
            // These have nothing in them that JSON has to escape.
            Bytes::Mac | Bytes::Ip | Bytes::Base64 | Bytes::Hex => {
                without_quotes(text, |json| json.bytes(shown, data));
            }
        };
        self.scalar(|json| json.bytes(shown, data), bare);
    }

    fn literal(&mut self, literal: &Literal) {
        let bare = |text: &mut Text| match literal.text() {
            [b'"', name @ .., b'"'] if !name.contains(&b'\\') => text.extend(name),
            // The default of a string, with escapes in it.
            other => match serde_json::from_slice(other) {
                Ok(serde_json::Value::String(string)) => text.extend(string.as_bytes()),
                _ => text.extend(other),
            },
        };
        self.scalar(|json| json.literal(literal), bare);
    }

    fn mac(&mut self, addr: &Field, address: [u8; 6]) {
        let opened = self.open_message();
        self.field(addr);
        self.bytes(Bytes::Mac, &address);
        self.close_message(opened);
    }
}

/// Appends what JSON shows, without the quotes that may be round it.
fn without_quotes(text: &mut Text, show: impl FnOnce(&mut Json<'_>)) {
    let start = text.len();
    show(&mut Json::new(text, Style::default()));
    text.unquote(start);
}
