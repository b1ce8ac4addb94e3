//! Why a walk stops, and at which field.

use super::{DEPTH_LIMIT, ELEMENT_LIMIT};
use crate::codec::{Fault, plan::Field};

/// Why a walk does not go on.
pub(super) enum Stop {
    /// Something is out of order: only the index can tell what it means.
    Disorder,
    Fault(Box<Fault>),
}

pub(super) type Result<T, E = Stop> = std::result::Result<T, E>;

/// The fields that lead to a message: only looked at when something has to be said about it.
pub(super) struct Link<'l> {
    up: Option<&'l Link<'l>>,
    name: &'l str,
    pub(super) depth: u32,
}

impl Link<'_> {
    pub(super) const ROOT: Link<'static> = Link { up: None, name: "", depth: 0 };

    /// To the messages in a field, the first of which begins at `at`.
    #[inline(always)]
    pub(super) fn down<'l>(&'l self, field: &'l Field, at: usize) -> Result<Link<'l>> {
        if self.depth >= DEPTH_LIMIT {
            return Err(too_deep(at, self, &field.name));
        }
        Ok(Link { up: Some(self), name: &field.name, depth: self.depth + 1 })
    }

    /// The names joined by dots.
    #[cold]
    pub(super) fn path(&self, name: &str) -> String {
        let mut names = vec![name];
        let mut link = self;
        while let Some(up) = link.up {
            names.push(link.name);
            link = up;
        }
        names.reverse();
        names.retain(|name| !name.is_empty());
        names.join(".")
    }
}

#[cold]
pub(super) fn too_deep(at: usize, link: &Link<'_>, name: &str) -> Stop {
    let reason = format!("messages are nested more than {DEPTH_LIMIT} deep");
    fault(at, link, name, &reason)
}

#[cold]
pub(super) fn too_many(field: &Field, at: usize, link: &Link<'_>) -> Stop {
    let reason = format!("lists have more than {ELEMENT_LIMIT} elements altogether");
    fault(at, link, &field.name, &reason)
}

/// The wire type is not that of one value: it has to be that of a packed list.
#[cold]
pub(super) fn expect_packed(field: &Field, found: u8, at: usize, link: &Link<'_>) -> Result<()> {
    if field.repeated && field.is_packed_as(found) {
        return Ok(());
    }
    let expected = field.wire_type;
    let reason = format!("expected wire type {expected}, found {found}");
    Err(fault(at, link, &field.name, &reason))
}

#[cold]
pub(super) fn fault(byte: usize, link: &Link<'_>, name: &str, reason: &str) -> Stop {
    Stop::Fault(Box::new(Fault::new(byte, link.path(name), reason.to_owned())))
}
