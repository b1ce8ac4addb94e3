//! Tables of a message type and of those that its fields hold, made from descriptors: what is looked up while
//! frames are read refers to a type by its number, and never to a descriptor.

use std::collections::HashMap;

use prost_reflect::MessageDescriptor;

/// The numbers of message types, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Those without a row yet are among them.
    types: Vec<MessageDescriptor>,
    by_name: HashMap<String, usize>,
}

impl Numbers {
    /// The number of a type: the place of its row.
    pub(crate) fn of(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(&number) = self.by_name.get(message.full_name()) {
            return number;
        }
        let number = self.types.len();
        self.types.push(message.clone());
        self.by_name.insert(message.full_name().to_owned(), number);
        number
    }
}

/// A row for each type: the first one is that of `message`, and the others are of those whose numbers `row`
/// asks for. A type may hold itself, and types may be nested as deep as they like.
pub(crate) fn table<T>(
    message: &MessageDescriptor,
    mut row: impl FnMut(&MessageDescriptor, &mut Numbers) -> T,
) -> Vec<T> {
    let mut numbers = Numbers::default();
    numbers.of(message);
    let mut rows = Vec::new();
    while let Some(message) = numbers.types.get(rows.len()).cloned() {
        rows.push(row(&message, &mut numbers));
    }
    rows
}
