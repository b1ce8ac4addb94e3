//! A file that says of some fields something else than the table does.
//!
//! ```toml
//! [fields]
//! "Monitoring.Ap.model" = "keep"
//! "Audit.config.detailed_data" = "drop"
//! "Audit.audit_message.target" = "text"
//!
//! [classes]
//! time = "drop"
//! ```

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind};
use toml::de::{DeTable, DeValue};

use super::table::{self, CLASSES, Class};
use crate::{
    error::{Error, Kind as Fault, Result},
    schema,
};

/// What becomes of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// They stay as they are.
    Keep,
    /// They are left out, or empty where the schema demands one.
    Drop,
    /// What becomes of all values of the class.
    As(Class),
}

impl Action {
    /// As a policy calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::As(class) => class.name(),
        }
    }
}

/// What is not as in the table.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The file's name.
    origin: String,
    /// By the message's full name and the field's.
    fields: HashMap<(String, String), Said>,
    classes: HashMap<Class, Said>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    action: Action,
    line: usize,
}

impl Policy {
    /// All is as in the table.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.classes.is_empty()
    }

    /// Reads a policy. `origin` is the file's name.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let source = Source { text, origin };
        let parsed = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            source.wrong(at, "", "TOML".to_owned(), error.message().replace('\n', ", "))
        })?;
        let mut policy = Self { origin: origin.to_owned(), ..Self::default() };
        for (part, rows) in parsed.get_ref() {
            let (name, at) = (&**part.get_ref(), part.span().start);
            let DeValue::Table(rows) = rows.get_ref() else {
                return Err(source.wrong(
                    at,
                    name,
                    "a table".to_owned(),
                    "something else".to_owned(),
                ));
            };
            if !["fields", "classes"].contains(&name) {
                let expected = "[fields] or [classes]".to_owned();
                return Err(source.wrong(at, "", expected, format!("{name:?}")));
            }
            for (key, value) in rows {
                let (path, at) = (&**key.get_ref(), key.span().start);
                let action = action(source, at, path, value.get_ref())?;
                if name == "fields" {
                    policy.field(source, at, path, action)?;
                } else {
                    let class = class(path).ok_or_else(|| {
                        source.wrong(at, name, class_names(), format!("{path:?}"))
                    })?;
                    policy.classes.insert(class, Said { action, line: source.line(at) });
                }
            }
        }
        Ok(policy)
    }

    fn field(&mut self, source: Source<'_>, at: usize, path: &str, action: Action) -> Result<()> {
        let (message, name) = path.rsplit_once('.').unwrap_or_default();
        let message = schema::bundled().get_message_by_name(message).ok_or_else(|| {
            let expected = "the full name of a message and a field's, \"Monitoring.Ap.model\"";
            source.wrong(at, "", expected.to_owned(), format!("{path:?}"))
        })?;
        let field = message.get_field_by_name(name).ok_or_else(|| {
            let names: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
            let expected = format!("a field of {} ({})", message.full_name(), names.join(", "));
            source.wrong(at, "", expected, format!("{name:?}"))
        })?;
        if !fits(&field, action) {
            let expected = format!("what fits a field of the type {}", described(&field));
            return Err(source.wrong(at, path, expected, format!("{:?}", action.name())));
        }
        let said = Said { action, line: source.line(at) };
        self.fields.insert((message.full_name().to_owned(), name.to_owned()), said);
        Ok(())
    }

    /// What becomes of a field's values; None if nothing was said of it, here or in the table.
    pub(super) fn action(&self, message: &str, field: &str) -> Option<Action> {
        let said = self.said(message, field).map(|said| said.action);
        said.or_else(|| table::class(message, field).map(Action::As))
    }

    /// What it says of a field and where, in words; None if it says nothing of it.
    pub fn words(&self, message: &str, field: &str) -> Option<String> {
        let Said { action, line } = self.said(message, field)?;
        Some(format!("{:?} by line {line} of {}", action.name(), self.origin))
    }

    fn said(&self, message: &str, field: &str) -> Option<Said> {
        let said = self.fields.get(&(message.to_owned(), field.to_owned()));
        said.or_else(|| self.classes.get(&table::class(message, field)?)).copied()
    }
}

fn action(source: Source<'_>, at: usize, path: &str, value: &DeValue<'_>) -> Result<Action> {
    let wrong = |found: String| {
        Err(source.wrong(at, path, format!("keep, drop or {}", class_names()), found))
    };
    match value {
        DeValue::String(text) => match &**text {
            "keep" => Ok(Action::Keep),
            "drop" => Ok(Action::Drop),
            text => match class(text) {
                Some(class) => Ok(Action::As(class)),
                None => wrong(format!("{text:?}")),
            },
        },
        _ => wrong("something that is no text".to_owned()),
    }
}

fn class(name: &str) -> Option<Class> {
    CLASSES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
}

fn class_names() -> String {
    format!("a class ({})", CLASSES.map(|(name, _)| name).join(", "))
}

fn described(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    }
}

fn fits(field: &FieldDescriptor, action: Action) -> bool {
    // The payload is bytes only until its type is known.
    let is_payload = matches!(field.kind(), Kind::String | Kind::Bytes)
        && table::class(field.parent_message().full_name(), field.name()).is_none();
    let Action::As(class) = action else {
        let has_value = field.kind().as_message().is_none() && !is_payload;
        return action == Action::Drop || has_value;
    };
    match field.kind() {
        Kind::String | Kind::Bytes => class != Class::Coordinate && !is_payload,
        Kind::Uint32 | Kind::Uint64 => super::is_for_numbers(class),
        // Where it is and what belongs to it is only known of those in the table.
        _ => {
            class == Class::Coordinate
                && table::class(field.parent_message().full_name(), field.name()) == Some(class)
        }
    }
}

#[derive(Clone, Copy)]
struct Source<'a> {
    text: &'a str,
    origin: &'a str,
}

impl Source<'_> {
    /// In which line that is.
    fn line(self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }

    fn wrong(self, at: usize, field: &str, expected: String, found: String) -> Error {
        let line = self.line(at);
        let (origin, field) = (self.origin.to_owned(), field.to_owned());
        Fault::PolicyFile { origin, line, field, expected, found }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Policy::parse(text, "policy.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_field_goes_before_its_class_and_both_before_the_table() {
        let text = "[fields]\n\"Monitoring.Ap.serial\" = \"keep\"\n\
                    [classes]\nserial = \"drop\"\ntime = \"text\"\n";
        let policy = Policy::parse(text, "policy.toml").unwrap();
        let action = |message, field| policy.action(message, field);
        assert_eq!(action("Monitoring.Ap", "serial"), Some(Action::Keep));
        assert_eq!(action("Monitoring.Switch", "serial"), Some(Action::Drop));
        assert_eq!(action("Security.RogueEvent", "first_seen"), Some(Action::As(Class::Text)));
        assert_eq!(action("Monitoring.Ap", "name"), Some(Action::As(Class::Device)));
        assert_eq!(action("Monitoring.Ap", "macaddr"), None);
        let words = |message, field| policy.words(message, field);
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(words("Monitoring.Ap", "serial"), said("\"keep\" by line 2 of policy.toml"));
        assert_eq!(words("Monitoring.Switch", "serial"), said("\"drop\" by line 4 of policy.toml"));
        assert_eq!(words("Monitoring.Ap", "name"), None);
        assert_eq!(words("Monitoring.Ap", "macaddr"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(
            wrong("[fields]\n\n\"Monitoring.Ap.serail\" = \"keep\"\n"),
            "expected a field of Monitoring.Ap (action, serial, name, macaddr, cluster_id, status, \
             ip_address, model, mesh_role, mode, swarm_master, modem_connected, uplink_type, \
             firmware_version) in line 3 of policy.toml, found \"serail\""
        );
        assert_eq!(
            wrong("[fields]\nserial = \"keep\"\n"),
            "expected the full name of a message and a field's, \"Monitoring.Ap.model\" in line 2 of \
             policy.toml, found \"serial\""
        );
        assert_eq!(
            wrong("[fields]\n\"Monitoring.Ap.serial\" = \"hide\"\n"),
            "expected keep, drop or a class (mac, ip, essid, user, device, serial, customer, site, \
             coordinate, url, text, time, version, harmless) as Monitoring.Ap.serial in line 2 of \
             policy.toml, found \"hide\""
        );
        assert_eq!(
            wrong("[fields]\n\"Monitoring.Ap.macaddr\" = \"keep\"\n"),
            "expected what fits a field of the type Monitoring.MacAddress as Monitoring.Ap.macaddr in \
             line 2 of policy.toml, found \"keep\""
        );
        for word in ["keep", "text"] {
            let text = format!("[fields]\n\"StreamMessage.MsgProto.data\" = {word:?}\n");
            assert!(wrong(&text).contains("what fits a field of the type bytes"), "{word}");
        }
        assert_eq!(
            wrong("[classes]\nsecret = \"drop\"\n"),
            "expected a class (mac, ip, essid, user, device, serial, customer, site, coordinate, url, \
             text, time, version, harmless) as classes in line 2 of policy.toml, found \"secret\""
        );
        assert_eq!(
            wrong("\nfield = 7\n"),
            "expected a table as field in line 2 of policy.toml, found something else"
        );
        assert!(wrong("[fields\n").starts_with("expected TOML in line 1 of policy.toml, found"));
        let error = Policy::parse("[x]\n", "policy.toml").unwrap_err();
        assert_eq!(error.hint(), Some("docs/redaction.md says what a policy can hold"));
    }
}
