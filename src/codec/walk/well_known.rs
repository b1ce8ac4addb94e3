//! The types that ProtoJSON spells in ways of their own, such as `Timestamp` and `Any`.
//! Source of the rules: <https://protobuf.dev/programming-guides/json/>.
//!
//! A value that has no such spelling (a time past the year 9999, a path that is no path) is shown as
//! the plain message that it is, so that nothing is lost.

use std::ops::Range;

use jiff::{SignedDuration, civil::DateTime};

use super::{Link, Result, Stop, Walk, Writer, index::Found, wide};
use crate::codec::{
    notes::Oddity,
    plan::{Bytes, Form, Kind, Message},
};

impl<'w, W: Writer> Walk<'w, W> {
    /// The value of such a message, whose bytes are in `spans`.
    pub(super) fn well_known(
        &mut self,
        message: &'w Message,
        spans: &[Range<usize>],
        link: &Link<'_>,
    ) -> Result<()> {
        let found = self.index(message, spans, link)?;
        let text = match message.form {
            Form::Object => None,
            Form::Timestamp => self.timestamp(&found),
            Form::Duration => self.duration(&found),
            Form::FieldMask => self.field_mask(&found),
            Form::Wrapper => return self.wrapper(message, &found, link),
            Form::Struct => return self.object(message, &found, link),
            Form::Value => return self.any_value(message, &found, link),
            Form::ListValue => return self.list_value(message, &found, link),
            Form::Any => return self.any(message, &found, link),
        };
        let opened = self.out.open_message();
        // Also where the text is right: the fields have to be checked.
        self.indexed(message, spans, link)?;
        match text {
            None => self.out.close_message(opened),
            Some(text) => {
                self.out.rewind(opened);
                self.text(&text);
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.string(text.as_bytes(), 0..text.len()).unwrap_or(());
    }

    /// The last varint of that number; 0 if there is none.
    fn number(&self, found: &[Found], number: u32) -> u64 {
        let last = found.iter().rfind(|one| one.number == number);
        let value = last.and_then(|one| wide::varint(self.data, one.at(), one.next()));
        value.map_or(0, |(value, _)| value)
    }

    fn timestamp(&self, found: &[Found]) -> Option<String> {
        let seconds = self.number(found, 1) as i64;
        let nanos = self.number(found, 2) as i32;
        if !(-62_135_596_800..=253_402_300_799).contains(&seconds)
            || !(0..=999_999_999).contains(&nanos)
        {
            return None;
        }
        // As a date and a time of day: Jiff's timestamps end some hours before 9999 does.
        let since = SignedDuration::from_secs(seconds);
        let whole = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(since).ok()?;
        let whole = whole.strftime("%Y-%m-%dT%H:%M:%S");
        Some(format!("{whole}{}Z", fraction(nanos.cast_unsigned())))
    }

    fn duration(&self, found: &[Found]) -> Option<String> {
        const LIMIT: u64 = 315_576_000_000;

        let seconds = self.number(found, 1) as i64;
        let nanos = self.number(found, 2) as i32;
        let opposed = seconds.signum() * i64::from(nanos.signum()) < 0;
        if seconds.unsigned_abs() > LIMIT || nanos.unsigned_abs() > 999_999_999 || opposed {
            return None;
        }
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        Some(format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.unsigned_abs())))
    }

    fn field_mask(&self, found: &[Found]) -> Option<String> {
        let paths = found.iter().filter(|one| one.number == 1);
        let paths = paths.map(|one| camel_case(str::from_utf8(&self.data[one.content()]).ok()?));
        Some(paths.collect::<Option<Vec<_>>>()?.join(","))
    }

    fn wrapper(&mut self, message: &'w Message, found: &[Found], link: &Link<'_>) -> Result<()> {
        let Some(field) = message.field(1) else { return Ok(()) };
        let values = &found[..found.partition_point(|one| one.number <= 1)];
        let Some((last, earlier)) = values.split_last() else {
            self.zero_value(field);
            return Ok(());
        };
        for one in earlier {
            self.checked(field, one, link)?;
        }
        last.expect(field, link)?;
        self.value(field, last.at(), last.next(), link).map(|_| ())
    }

    fn object(&mut self, message: &'w Message, found: &[Found], link: &Link<'_>) -> Result<()> {
        let Some(field) = message.field(1) else { return Ok(()) };
        let Kind::Map(entry) = field.kind else { return Ok(()) };
        let values = &found[..found.partition_point(|one| one.number <= 1)];
        for one in values {
            one.expect(field, link)?;
        }
        let entries: Vec<_> = values.iter().map(Found::content).collect();
        self.map(field, self.plan.message(entry), &entries, link)
    }

    fn list_value(&mut self, message: &'w Message, found: &[Found], link: &Link<'_>) -> Result<()> {
        let Some(field) = message.field(1) else { return Ok(()) };
        let opened = self.out.open_list();
        for one in &found[..found.partition_point(|one| one.number <= 1)] {
            one.expect(field, link)?;
            self.element(field, one.at(), link)?;
            self.value(field, one.at(), one.next(), link)?;
        }
        self.out.close_list(opened);
        Ok(())
    }

    fn any_value(&mut self, message: &'w Message, found: &[Found], link: &Link<'_>) -> Result<()> {
        let mut shown = Vec::new();
        for one in found {
            match message.field(one.number) {
                Some(field) if one.replaced => self.checked(field, one, link)?,
                Some(field) => {
                    one.expect(field, link)?;
                    shown.push((field, one));
                }
                None => {}
            }
        }
        let Some(((field, last), earlier)) = shown.split_last() else {
            self.out.null();
            return Ok(());
        };
        match field.kind {
            Kind::Message(index) => {
                let pieces: Vec<_> = shown.iter().map(|(_, one)| one.content()).collect();
                self.pieces(field, self.plan.message(index), &pieces, link)
            }
            kind => {
                for (field, one) in earlier {
                    self.checked(field, one, link)?;
                }
                // The one enum that it has is NullValue.
                if let Kind::Enum(_) = kind {
                    self.out.null();
                    return Ok(());
                }
                self.value(field, last.at(), last.next(), link).map(|_| ())
            }
        }
    }

    fn any(&mut self, message: &'w Message, found: &[Found], link: &Link<'_>) -> Result<()> {
        for one in found {
            if let Some(field) = message.field(one.number) {
                self.checked(field, one, link)?;
            }
        }
        if !W::SHOWN {
            return Ok(());
        }
        let last = |number| found.iter().rfind(|one| one.number == number).map(Found::content);
        let url = last(1).map_or(&[][..], |span| &self.data[span]);
        let content = last(2).unwrap_or(0..0);
        let opened = self.out.open_message();
        // Checked above.
        let url = str::from_utf8(url).unwrap_or("");
        if !url.is_empty() || !content.is_empty() {
            self.out.name("@type");
            self.text(url);
            let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
            match self.plan.named(name) {
                Some(inner) => {
                    let held = match inner.form {
                        Form::Object => self.fields(inner, content, link),
                        _ => {
                            self.out.name("value");
                            self.nested(&message.fields[1], inner, content, link)
                        }
                    };
                    // What follows may replace it, and then nothing is wrong.
                    held.map_err(|stop| if self.by_index { stop } else { Stop::Disorder })?;
                }
                None => {
                    let url = url.to_owned();
                    self.notes.add(|| (link.path(""), Oddity::UnknownType { url }));
                    self.out.name("@value");
                    self.out.bytes(Bytes::Base64, &self.data[content]);
                }
            }
        }
        self.out.close_message(opened);
        Ok(())
    }
}

/// Three, six or nine digits behind a point, or nothing.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

/// `some_path.to_it` as `somePath.toIt`, if the way back leads to the same.
fn camel_case(path: &str) -> Option<String> {
    let mut camel = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '_' => match characters.next() {
                Some(next) if next.is_ascii_lowercase() => camel.push(next.to_ascii_uppercase()),
                _ => return None,
            },
            _ if character.is_ascii_uppercase() => return None,
            _ => camel.push(character),
        }
    }
    Some(camel)
}

#[cfg(test)]
mod tests {
    use crate::codec::{
        json::{self, Text},
        notes::Notes,
        plan::{Plan, Style},
    };

    fn json(fields: &str, data: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let source = format!(
            r#"syntax = "proto3"; import "google/protobuf/any.proto";
            import "google/protobuf/struct.proto"; message M {{ {fields} }}"#
        );
        std::fs::write(folder.path().join("test.proto"), source).unwrap();
        let pool = crate::schema::from_folder(folder.path()).unwrap();
        let plan = Plan::new(&pool.get_message_by_name("M").unwrap(), Style::default());
        let mut text = Text::default();
        match json::write(&plan, data, &mut text, &mut Notes::default()) {
            Ok(()) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn what_an_any_holds_has_to_be_right_only_where_it_is_shown() {
        let fields = "oneof o { google.protobuf.Any any = 1; int32 n = 2; }";
        // Of the type M, with a tag that is none.
        let any = [0x0a, 8, 0x0a, 3, b'a', b'/', b'M', 0x12, 1, 0x00];
        assert_eq!(json(fields, &any), "any: 0 is not a field number");
        assert_eq!(json(fields, &[&any[..], &[0x10, 7]].concat()), r#"{"n":7}"#);
        let other = [0x0a, 3, 0x12, 1, 0x08];
        assert_eq!(json(fields, &[&any[..], &other].concat()), "any: the data ends inside a value");
    }
}
