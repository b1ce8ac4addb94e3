//! What is known of each subscription, or of each frame type, found anew for every entry.
//!
//! A capture has few of them, and its entries share them. Comparing what they say for each entry would take longer
//! than all that is done with most entries, so they are told apart by where they are.

use std::{collections::BTreeMap, sync::Arc};

/// A value for each of some shared things, by its address. Two that say the same are two.
#[derive(Debug)]
pub(crate) struct ByAddress<K, V> {
    /// Where in `values` that of an address is.
    places: BTreeMap<usize, usize>,
    /// In the order in which they came. Each thing is kept alive, so that no other gets its address.
    values: Vec<(Arc<K>, V)>,
}

impl<K, V> Default for ByAddress<K, V> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), values: Vec::new() }
    }
}

impl<K, V> ByAddress<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(crate) fn get(&self, of: &Arc<K>) -> Option<&V> {
        self.place(of).map(|place| &self.values[place].1)
    }

    /// The value, which is made first if there is none.
    #[inline]
    pub(crate) fn or_insert_with(&mut self, of: &Arc<K>, make: impl FnOnce() -> V) -> &mut V {
        let place = self.place(of).unwrap_or_else(|| self.push(of, make()));
        &mut self.values[place].1
    }

    /// The same where making it may fail.
    #[inline]
    pub(crate) fn or_try_insert_with<E>(
        &mut self,
        of: &Arc<K>,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<&mut V, E> {
        let place = match self.place(of) {
            Some(place) => place,
            None => self.push(of, make()?),
        };
        Ok(&mut self.values[place].1)
    }

    /// For what makes a value by looking at the others. There is none yet.
    pub(crate) fn insert(&mut self, of: &Arc<K>, value: V) {
        debug_assert!(self.get(of).is_none(), "the old value would be left behind");
        self.push(of, value);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<K>, &V)> {
        self.values.iter().map(|(of, value)| (of, value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        self.values.into_iter().map(|(_, value)| value)
    }

    #[inline]
    fn place(&self, of: &Arc<K>) -> Option<usize> {
        self.places.get(&Arc::as_ptr(of).addr()).copied()
    }

    #[cold]
    fn push(&mut self, of: &Arc<K>, value: V) -> usize {
        let place = self.values.len();
        self.places.insert(Arc::as_ptr(of).addr(), place);
        self.values.push((Arc::clone(of), value));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_elsewhere_are_another_thing_and_none_gets_the_place_of_one_that_went() {
        let mut known = ByAddress::default();
        for number in 0..100 {
            // Nobody else holds it: without a hold of its own the next one would be in its place.
            let of = Arc::new("word".to_owned());
            assert!(known.get(&of).is_none(), "{number}");
            assert_eq!(*known.or_insert_with(&of, || number), number);
            assert_eq!(*known.or_insert_with(&of, || 1000), number);
            assert_eq!(known.get(&Arc::clone(&of)), Some(&number));
        }
        assert_eq!(known.len(), 100);
        assert!(known.iter().map(|(_, number)| *number).eq(0..100));
        assert!(known.into_values().eq(0..100));
    }

    #[test]
    fn what_cannot_be_made_is_not_known() {
        let (mut known, of) = (ByAddress::default(), Arc::new(1));
        assert_eq!(known.or_try_insert_with(&of, || Err("not now")), Err("not now"));
        assert_eq!(known.or_try_insert_with(&of, || Ok::<_, &str>(7)), Ok(&mut 7));
    }
}
