//! A few columns of frames, named by the paths that lead to them in a line of NDJSON:
//! `time,subscription,data.aps[].serial`.
//!
//! `[]` stands behind a list of messages and means each element: there is a row for each element of the
//! innermost list, with what is above repeated. With nothing behind it, it is the element's place in the list. Without a list there is a row for each frame. A frame
//! whose type has none of it is left out.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::csv::{Source, Table, View};
use crate::{
    codec::columns::Layout,
    error::{Error, Result},
};

/// The columns that were asked for.
#[derive(Clone, Debug)]
pub struct Select {
    columns: Vec<Column>,
    /// The path of the innermost list.
    list: Vec<String>,
    table: Arc<Table>,
    /// Some type has come. All copies know.
    asked: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct Column {
    /// As it was asked for.
    text: String,
    wanted: Wanted,
    /// Some type has had it. All copies know.
    found: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
enum Wanted {
    /// What is known of every frame.
    Head(Source),
    /// Of the table that holds the elements of the list, or of the frames, if the list is empty: a column,
    /// or the place of the row in the list.
    Path { list: Vec<String>, name: Option<String> },
}

/// What is known of every frame, under the names that it has in a line of NDJSON.
const HEAD: [(&str, Source); 6] = [
    ("received", Source::Received),
    ("time", Source::Time),
    ("subscription", Source::Subscription),
    ("topic", Source::Topic),
    ("type", Source::Type),
    ("sequence", Source::Sequence),
];

impl FromStr for Select {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let columns: Vec<_> = text.split(',').map(column).collect::<Result<_>>()?;
        let lists = columns.iter().filter_map(|column| match &column.wanted {
            Wanted::Path { list, .. } => Some(list),
            Wanted::Head(_) => None,
        });
        let list = lists.clone().max_by_key(|list| list.len()).cloned().unwrap_or_default();
        if let Some(other) = lists.into_iter().find(|other| !list.starts_with(other)) {
            return Err(Error::usage(
                "lists that lie within each other",
                format!("{}[] beside {}[]", other.join("."), list.join(".")),
                "select the columns of one list at a time",
            ));
        }
        let names = columns.iter().map(|column| column.text.clone()).collect();
        let table = Arc::new(Table::selected(names));
        Ok(Self { columns, list, table, asked: Arc::default() })
    }
}

fn column(text: &str) -> Result<Column> {
    let text = text.trim();
    let head = HEAD.iter().find(|(name, _)| *name == text);
    let wanted = match head {
        Some(&(_, source)) => Wanted::Head(source),
        None => path(text).ok_or_else(|| {
            Error::usage(
                "a column",
                format!("{text:?}"),
                "columns look like time, customer_id, data.timestamp or data.aps[].serial",
            )
        })?,
    };
    Ok(Column { text: text.to_owned(), wanted, found: Arc::new(AtomicBool::new(head.is_some())) })
}

/// `data.aps[].serial`: the column `serial` of the list `data.aps`.
fn path(text: &str) -> Option<Wanted> {
    let (lists, name) = match text.strip_suffix("[]") {
        Some(lists) => (Some(lists), None),
        None => text
            .rsplit_once("[].")
            .map_or((None, Some(text)), |(lists, name)| (Some(lists), Some(name))),
    };
    let list = lists.into_iter().flat_map(|lists| lists.split('.'));
    let list: Vec<_> = list.map(|name| name.trim_end_matches("[]").to_owned()).collect();
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_path = list.iter().all(|name| is_name(name))
        && name.is_none_or(|name| name.split('.').all(is_name));
    is_path.then(|| Wanted::Path { list, name: name.map(str::to_owned) })
}

impl Select {
    /// The table that it makes.
    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The columns that no type of all frames so far has had; none where there was no frame.
    pub fn not_found(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().filter(|_| self.asked.load(Ordering::Relaxed));
        columns.filter(|column| !column.found.load(Ordering::Relaxed)).map(|column| &*column.text)
    }

    /// How the tables of a type are shown. Everything else is taken out of the layout.
    pub(super) fn views(&self, layout: &mut Layout) -> Vec<Option<View>> {
        self.asked.store(true, Ordering::Relaxed);
        let mut views = layout.tables().iter().map(|_| None).collect::<Vec<_>>();
        let view = self.view(layout);
        let shown = view.as_ref().map_or(&[][..], |(_, view)| &view.sources);
        let kept: Vec<_> = shown
            .iter()
            .filter_map(|source| match *source {
                Source::Cell { up, column } => {
                    let (table, _) = view.as_ref()?;
                    Some((above(layout, *table, up)?, column))
                }
                _ => None,
            })
            .collect();
        layout.keep(|table, column| kept.contains(&(table, column)));
        if let Some((table, view)) = view {
            views[table] = Some(view);
        }
        views
    }

    /// The table whose rows are shown, and how.
    fn view(&self, layout: &Layout) -> Option<(usize, View)> {
        let tables = layout.tables();
        let table = tables.iter().position(|table| table.path == self.list)?;
        let source = |column: &Column| match &column.wanted {
            Wanted::Head(source) => *source,
            Wanted::Path { list, name } => {
                let mut way = (0..).map_while(|up| Some((up, above(layout, table, up)?)));
                let found = way.find(|&(_, at)| tables[at].path == *list);
                let found = found.and_then(|(up, at)| match name {
                    None => Some(Source::Index { up }),
                    Some(name) => {
                        let column = tables[at].columns.iter().position(|its| its.name == *name)?;
                        Some(Source::Cell { up, column })
                    }
                });
                if found.is_some() {
                    column.found.store(true, Ordering::Relaxed);
                }
                found.unwrap_or(Source::Nowhere)
            }
        };
        let sources: Vec<_> = self.columns.iter().map(source).collect();
        let has_paths = self.columns.iter().any(|it| matches!(it.wanted, Wanted::Path { .. }));
        let is_found = |it: &Source| matches!(it, Source::Cell { .. } | Source::Index { .. });
        let has_found = sources.iter().any(is_found);
        let view = || View { table: Arc::clone(&self.table), sources };
        (has_found || !has_paths).then(|| (table, view()))
    }
}

/// The table so many above that one.
fn above(layout: &Layout, table: usize, up: usize) -> Option<usize> {
    (0..up).try_fold(table, |table, _| layout.tables()[table].above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_column_of_a_list() {
        let select: Select =
            "time, customer_id,data.aps[].ip_address.addr,data.aps[]".parse().unwrap();
        assert_eq!(select.list, ["data", "aps"]);
        let wanted = |at: usize| match &select.columns[at].wanted {
            Wanted::Head(_) => ("", ""),
            Wanted::Path { list, name } => {
                (list.last().map_or("", |list| list), name.as_deref().unwrap_or("its place"))
            }
        };
        assert_eq!(
            [wanted(0), wanted(1), wanted(2), wanted(3)],
            [("", ""), ("", "customer_id"), ("aps", "ip_address.addr"), ("aps", "its place")]
        );
    }

    #[test]
    fn lists_beside_each_other_and_nonsense_are_refused() {
        for text in
            ["data.aps[].serial,data.radios[].name", "", "time,,topic", "[]", "a.[]", "a b", "[].x"]
        {
            let error = text.parse::<Select>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
        assert!("data.a[].x,data.a[].b[].y,data.a[],z".parse::<Select>().is_ok());
    }
}
