//! Reads and writes protobuf at the level of fields, without copying: refine
//! passes an event on as the bytes in which it came. Knows no message.

use alloc::vec::Vec;

/// The bytes are no protobuf message, or a field has another type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// One value as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Walks over the fields of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What has not been walked over yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed),
        };
        match key >> 3 {
            0 => Err(Malformed),
            number => Ok(Some((number, value))),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == 9 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Value<'a> {
    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32(_) => Err(Malformed),
        }
    }

    pub(crate) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(value) => Ok(value),
            Self::Varint(_) | Self::Bytes(_) | Self::Fixed32(_) => Err(Malformed),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(value) => Ok(value),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(Malformed),
        }
    }
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(low_seven_bits(value) | 0x80);
        value >>= 7;
    }
    bytes.push(low_seven_bits(value));
}

fn low_seven_bits(value: u64) -> u8 {
    (value & 0x7f).to_le_bytes()[0]
}

/// Appends a varint field; nothing where it is 0, as proto3 does.
#[inline]
pub(crate) fn put_varint_field(bytes: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(bytes, u64::from(number << 3));
        put_varint(bytes, value);
    }
}

/// Appends an `int64` field; nothing where it is 0.
#[inline]
pub(crate) fn put_int64_field(bytes: &mut Vec<u8>, number: u32, value: i64) {
    put_varint_field(bytes, number, value.cast_unsigned());
}

/// Appends a `fixed64` field; nothing where it is 0.
#[inline]
pub(crate) fn put_fixed64_field(bytes: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(bytes, u64::from(number << 3 | 1));
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends a field of bytes, text or an encoded message, even an empty one.
#[inline]
pub(crate) fn put_bytes_field(bytes: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(bytes, u64::from(number << 3 | 2));
    put_varint(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

/// Appends a field of a message, of which `put` appends the fields.
pub(crate) fn put_message_field(bytes: &mut Vec<u8>, number: u32, put: impl FnOnce(&mut Vec<u8>)) {
    put_varint(bytes, u64::from(number << 3 | 2));
    let length_at = bytes.len();
    put(bytes);
    let mut length = (bytes.len() - length_at) as u64;
    // Lengths below 128 take one byte; messages are short.
    let mut at = length_at;
    while length >= 0x80 {
        bytes.insert(at, low_seven_bits(length) | 0x80);
        length >>= 7;
        at += 1;
    }
    bytes.insert(at, low_seven_bits(length));
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        let mut fields = Fields::of(bytes);
        let mut read = Vec::new();
        while let Some(field) = fields.next()? {
            read.push(field);
        }
        Ok(read)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        put_varint_field(&mut bytes, 1, u64::MAX);
        put_int64_field(&mut bytes, 2, -1);
        put_fixed64_field(&mut bytes, 1 << 28, 7);
        put_bytes_field(&mut bytes, 4, b"abc");
        put_varint_field(&mut bytes, 5, 0);
        put_bytes_field(&mut bytes, 6, b"");
        let expected = vec![
            (1, Value::Varint(u64::MAX)),
            (2, Value::Varint(u64::MAX)),
            (1 << 28, Value::Fixed64(7)),
            (4, Value::Bytes(b"abc")),
            (6, Value::Bytes(b"")),
        ];
        assert_eq!(read(&bytes), Ok(expected));
    }

    #[test]
    fn messages_of_any_length_are_read() {
        for length in [0, 1, 127, 128, 16_383, 16_384] {
            let mut bytes = vec![9 << 3, 9];
            put_message_field(&mut bytes, 3, |bytes| bytes.resize(bytes.len() + length, 7));
            let body = vec![7; length];
            let expected = vec![(9, Value::Varint(9)), (3, Value::Bytes(&body))];
            assert_eq!(read(&bytes), Ok(expected), "{length}");
        }
    }

    #[test]
    fn cut_and_wrong_bytes_are_malformed() {
        for bytes in [
            &[0x08][..],                         // a varint without a value
            &[0x80],                             // a key that does not end
            &[0x00, 0x00],                       // field number 0
            &[0x0b],                             // a group
            &[0x09, 1, 2, 3],                    // half a fixed64
            &[0x0d, 1],                          // half a fixed32
            &[0x12, 5, 1],                       // shorter than its length
            &[0x12, 0xff, 0xff, 0xff, 0xff, 15], // longer than memory
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
        ] {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
