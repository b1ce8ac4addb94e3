//! What should have been replaced and was not: in which fields it is, and what a policy says of them.

use std::collections::BTreeSet;

use mcap::records::op;
use prost_reflect::{Kind as FieldKind, MessageDescriptor};

use crate::{
    codec::wire::{self, Value},
    error::{Kind, Result},
    redact::{Policy, Proof, Survivor},
};

/// After so many messages that hold any, the fields in which they are have been seen.
const ENOUGH: u32 = 1000;

/// So many fields are named.
const NAMED: usize = 8;

/// What was found in a file.
pub(super) struct Survivors<'a> {
    policy: &'a Policy,
    /// In words.
    first: Option<String>,
    /// Where it is: a message's full name, and a field's.
    fields: BTreeSet<(String, String)>,
    messages: u32,
}

impl<'a> Survivors<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        Self { policy, first: None, fields: BTreeSet::new(), messages: 0 }
    }

    /// Looks for some in a record; in a message of a known type, in its fields. Fails when enough were found.
    pub(super) fn look(
        &mut self,
        proof: &mut Proof<'_>,
        opcode: u8,
        data: &[u8],
        message: Option<&MessageDescriptor>,
    ) -> Result<()> {
        let Some(Survivor { class, guise, at }) = proof.check(data) else { return Ok(()) };
        let record = match opcode {
            op::MESSAGE => "a message",
            op::CHANNEL => "a channel",
            op::METADATA => "a metadata record",
            op::SCHEMA => "a schema",
            _ => "a record",
        };
        let name = class.name();
        self.first
            .get_or_insert_with(|| format!("one ({name}), {guise}, at byte {at} of {record}"));
        if let Some(message) = message {
            self.look_into(proof, data, message);
            self.messages += 1;
        }
        if self.messages < ENOUGH { Ok(()) } else { self.fail() }
    }

    fn look_into(&mut self, proof: &mut Proof<'_>, data: &[u8], message: &MessageDescriptor) {
        for found in wire::fields(data).flatten() {
            let (Value::Bytes(value), Some(field)) = (found.value, message.get_field(found.number))
            else {
                continue;
            };
            match field.kind() {
                FieldKind::Message(inner) => self.look_into(proof, value, &inner),
                _ => {
                    // With its tag and length: what is short counts only where it is all of a value.
                    let whole = &data[found.offset..found.value_offset + value.len()];
                    if proof.check(whole).is_some() {
                        let message = message.full_name().to_owned();
                        self.fields.insert((message, field.name().to_owned()));
                    }
                }
            }
        }
    }

    /// Fails if there was any.
    pub(super) fn finish(self) -> Result<()> {
        if self.first.is_some() { self.fail() } else { Ok(()) }
    }

    fn fail(&self) -> Result<()> {
        let mut found = self.first.clone().unwrap_or_default();
        for (index, (message, field)) in self.fields.iter().take(NAMED).enumerate() {
            let before = if index == 0 { ": in" } else { "," };
            found += &format!("{before} {message}.{field}");
            if let Some(words) = self.policy.words(message, field) {
                found += &format!(" ({words})");
            }
        }
        match self.fields.len().saturating_sub(NAMED) {
            0 => {}
            more => found += &format!(", and {more} more"),
        }
        Err(Kind::Survived { found }.into())
    }
}
