//! The schema that a capture brings along, as `.proto` text.
//!
//! Each type of frame has a descriptor set of its own: the payload's file, and the envelope's with the
//! payload declared in it. What several have in common comes once. Sealed segments are not read for it.

use crate::{
    capture::Capture,
    entry::{FrameType, Subscription},
    error::{Error, Result},
    plain::unobeyed,
    schema,
    select::Selection,
};

mod proto;

/// A file of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// Its name, as others import it.
    pub name: String,
    /// The labels of the frames that need it.
    pub labels: Vec<String>,
    /// Its text, which protoc reads.
    pub text: String,
}

impl SchemaFile {
    /// The text below a comment that says which file it is, safe to show.
    pub fn page(&self) -> String {
        let Self { name, labels, text } = self;
        let head = format!("// {name}, of {}", labels.join(", ")).replace('\n', " ");
        let page = format!("{head}\n\n{text}");
        unobeyed(&page, |character| character.escape_default().to_string())
    }
}

/// The files, imported ones first. Of a selection only topics and subscriptions count. `broken` hears of
/// descriptors that cannot be read.
pub fn files(
    capture: &Capture,
    selection: &Selection,
    mut broken: impl FnMut(&Error),
) -> Result<Vec<SchemaFile>> {
    let mut files: Vec<SchemaFile> = Vec::new();
    let mut done: Vec<(String, bytes::Bytes)> = Vec::new();
    for (subscription, kind) in capture.channels()? {
        let Some(kind) = kind.filter(|kind| wants(selection, &subscription, kind)) else {
            continue;
        };
        let set = (kind.label.clone(), kind.descriptors.clone());
        if done.contains(&set) {
            continue;
        }
        done.push(set);
        match schema::from_descriptor_set(
            &kind.descriptors,
            &format!("the frames of {}", kind.label),
        ) {
            Ok(pool) => {
                for file in pool.files() {
                    add(&mut files, file.name(), &kind.label, proto::text(&file));
                }
            }
            Err(error) => broken(&error),
        }
    }
    Ok(files)
}

fn add(files: &mut Vec<SchemaFile>, name: &str, label: &str, text: String) {
    match files.iter_mut().find(|file| file.name == name && file.text == text) {
        Some(file) if file.labels.iter().any(|known| known == label) => {}
        Some(file) => file.labels.push(label.to_owned()),
        None => {
            let (name, labels) = (name.to_owned(), vec![label.to_owned()]);
            files.push(SchemaFile { name, labels, text });
        }
    }
}

fn wants(selection: &Selection, subscription: &Subscription, kind: &FrameType) -> bool {
    let Selection { topics, subscriptions, .. } = selection;
    let is_topic = |topic: &String| *topic == subscription.topic || *topic == kind.label;
    (topics.is_empty() || topics.iter().any(is_topic))
        && (subscriptions.is_empty()
            || subscriptions.iter().any(|pattern| pattern.is_match(&subscription.name)))
}
