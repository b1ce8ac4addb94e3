//! The protobuf wire format without a schema: tags, varints and lengths.
//!
//! Works on borrowed bytes, allocates nothing, and fails with the byte at which the data stops
//! making sense. Source of the rules: <https://protobuf.dev/programming-guides/encoding/>.

use std::fmt;

/// The value of one field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 3: a group begins.
    GroupStart,
    /// Wire type 4: a group ends.
    GroupEnd,
    /// Wire type 5.
    Fixed32(u32),
}

impl Value<'_> {
    /// The wire type's number.
    pub const fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::GroupStart => 3,
            Self::GroupEnd => 4,
            Self::Fixed32(_) => 5,
        }
    }
}

/// One field: its number, its value, and where its tag and its value begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number, 1 to 2^29 - 1.
    pub number: u32,
    /// The value.
    pub value: Value<'a>,
    /// Offset of the tag in the bytes that were given.
    pub offset: usize,
    /// Offset of the value's first byte; for [`Value::Bytes`] behind the length.
    pub value_offset: usize,
}

/// Why bytes are not protobuf, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Offset in the bytes that were given.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with wire bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The data ends inside a value.
    Truncated,
    /// A varint has more than ten bytes or more than 64 bits.
    VarintTooLong,
    /// A length reaches past the end.
    LengthPastEnd {
        /// The length that was read.
        length: u64,
        /// How many bytes there are.
        available: usize,
    },
    /// Field number 0, or one over 2^29 - 1.
    FieldNumber(u64),
    /// Wire type 6 or 7.
    WireType(u8),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the data ends inside a value"),
            Self::VarintTooLong => f.write_str("a varint is longer than 64 bits"),
            Self::LengthPastEnd { length, available } => {
                write!(f, "a length of {length} bytes reaches past the {available} that are left")
            }
            Self::FieldNumber(number) => write!(f, "{number} is not a field number"),
            Self::WireType(wire_type) => write!(f, "{wire_type} is not a wire type"),
        }
    }
}

/// The fields of one message, in the order in which they stand.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    data: &'a [u8],
    at: usize,
    failed: bool,
}

/// Walks the fields of a message. After an error the iterator ends.
pub const fn fields(data: &[u8]) -> Fields<'_> {
    Fields { data, at: 0, failed: false }
}

/// What is wrong with the tag at `at`, which is known not to be one.
pub(super) fn tag_problem(data: &[u8], at: usize) -> Problem {
    let mut fields = Fields { data, at, failed: false };
    match fields.field() {
        Err(error) => error.problem,
        // A tag has 32 bits; this reader does not mind.
        Ok(field) => Problem::FieldNumber(u64::from(field.number)),
    }
}

/// What is wrong with the value of this wire type at `at`, which is known not to be one.
pub(super) fn value_problem(wire_type: u8, data: &[u8], at: usize) -> Problem {
    let mut fields = Fields { data, at, failed: false };
    match fields.value(wire_type) {
        Err(error) => error.problem,
        Ok(_) => Problem::Truncated,
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.at == self.data.len() {
            return None;
        }
        let field = self.field();
        self.failed = field.is_err();
        Some(field)
    }
}

impl<'a> Fields<'a> {
    #[inline]
    fn field(&mut self) -> Result<Field<'a>, WireError> {
        const HIGHEST_NUMBER: u64 = (1 << 29) - 1;

        let offset = self.at;
        let tag = self.varint()?;
        let number = match tag >> 3 {
            number @ 1..=HIGHEST_NUMBER => number as u32,
            number => return Err(WireError { offset, problem: Problem::FieldNumber(number) }),
        };
        let wire_type = (tag & 7) as u8;
        if wire_type > 5 {
            return Err(WireError { offset, problem: Problem::WireType(wire_type) });
        }
        let value_offset = self.at;
        let value = self.value(wire_type)?;
        let value_offset = match value {
            Value::Bytes(data) => self.at - data.len(),
            _ => value_offset,
        };
        Ok(Field { number, value, offset, value_offset })
    }

    #[inline]
    fn value(&mut self, wire_type: u8) -> Result<Value<'a>, WireError> {
        let offset = self.at;
        Ok(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let available = self.data.len() - self.at;
                if length > available as u64 {
                    let problem = Problem::LengthPastEnd { length, available };
                    return Err(WireError { offset, problem });
                }
                let start = self.at;
                self.at += length as usize;
                Value::Bytes(&self.data[start..self.at])
            }
            3 => Value::GroupStart,
            4 => Value::GroupEnd,
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(WireError { offset, problem: Problem::WireType(other) }),
        })
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.data.get(self.at) {
            // Most tags and lengths.
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let offset = self.at;
        let mut value = 0_u64;
        for (index, &byte) in self.data[offset..].iter().take(10).enumerate() {
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at = offset + index + 1;
                return Ok(value);
            }
        }
        let problem =
            if self.data.len() - offset < 10 { Problem::Truncated } else { Problem::VarintTooLong };
        Err(WireError { offset, problem })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some(bytes) = self.data[self.at..].first_chunk::<N>() else {
            return Err(WireError { offset: self.at, problem: Problem::Truncated });
        };
        self.at += N;
        Ok(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wire_type_is_read_with_its_offsets() {
        let data = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x12, 0x02, b'h', b'i', // 2: bytes
            0x1d, 1, 0, 0, 0, // 3: fixed32
            0x21, 2, 0, 0, 0, 0, 0, 0, 0, // 4: fixed64
            0x2b, 0x2c, // 5: an empty group
        ];
        let read: Vec<_> = fields(&data)
            .map(|field| field.map(|f| (f.number, f.value, f.offset, f.value_offset)))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            read,
            [
                (1, Value::Varint(150), 0, 1),
                (2, Value::Bytes(b"hi"), 3, 5),
                (3, Value::Fixed32(1), 7, 8),
                (4, Value::Fixed64(2), 12, 13),
                (5, Value::GroupStart, 21, 22),
                (5, Value::GroupEnd, 22, 23),
            ]
        );
    }

    #[test]
    fn what_is_no_protobuf_is_named_with_its_byte() {
        let problem = |data: &[u8]| fields(data).find_map(Result::err).unwrap();
        let at = |offset, problem| WireError { offset, problem };
        assert_eq!(problem(&[0x08]), at(1, Problem::Truncated));
        assert_eq!(problem(&[0x08, 0xff]), at(1, Problem::Truncated));
        assert_eq!(problem(&[0x0d, 1, 2]), at(1, Problem::Truncated));
        assert_eq!(problem(&[0x00]), at(0, Problem::FieldNumber(0)));
        assert_eq!(problem(&[0x0e]), at(0, Problem::WireType(6)));
        assert_eq!(
            problem(&[0x12, 0x05, 1]),
            at(1, Problem::LengthPastEnd { length: 5, available: 1 })
        );
        let mut endless = [0xff_u8; 12];
        endless[0] = 0x08;
        assert_eq!(problem(&endless), at(1, Problem::VarintTooLong));
    }

    #[test]
    fn an_error_ends_the_walk() {
        let mut walk = fields(&[0x08, 0x01, 0x00, 0x08]);
        assert!(walk.next().unwrap().is_ok());
        assert!(walk.next().unwrap().is_err());
        assert!(walk.next().is_none());
    }
}
