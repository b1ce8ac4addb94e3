//! What has to be known of the types of frames, from the descriptors in the capture.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    entry::FrameType,
    error::{Error, Result},
    restamp::Restamp,
    schema,
    state::Entities,
};

/// What is known of one type of frames.
pub(super) struct Type {
    /// Where the times are,
    pub restamp: Restamp,
    /// and the entities.
    pub entities: Entities,
}

/// All types. Descriptors take long to load: all clients share this.
#[derive(Default)]
pub(super) struct Types {
    known: Mutex<HashMap<FrameType, Arc<Type>>>,
}

impl Types {
    fn of(&self, kind: &FrameType) -> Result<Arc<Type>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(kind) {
            return Ok(Arc::clone(found));
        }
        let pool = schema::from_descriptor_set(&kind.descriptors, "the capture")?;
        let envelope = schema::message(&pool, &kind.envelope)?;
        let (restamp, entities) = (Restamp::new(&envelope), Entities::new(&envelope));
        let found = Arc::new(Type { restamp, entities });
        known.insert(kind.clone(), Arc::clone(&found));
        Ok(found)
    }
}

/// The same for one reader, found by address: a capture has few types, but as many frames as it likes.
#[derive(Default)]
pub(super) struct Known {
    types: Vec<(Arc<FrameType>, Option<Arc<Type>>)>,
}

/// Every round brings its own: those of earlier ones are forgotten.
const TYPES_KEPT: usize = 64;

impl Known {
    /// What is known of such frames; None if their descriptors make no sense, which is told once.
    pub(super) fn of(
        &mut self,
        kind: &Arc<FrameType>,
        types: &Types,
        tell: impl FnOnce(Error),
    ) -> Option<Arc<Type>> {
        if let Some((_, known)) = self.types.iter().find(|(known, _)| Arc::ptr_eq(known, kind)) {
            return known.clone();
        }
        let found = types.of(kind).map_err(tell).ok();
        if self.types.len() >= TYPES_KEPT {
            self.types.clear();
        }
        self.types.push((Arc::clone(kind), found.clone()));
        found
    }
}
