//! A few fields put together on the stack: a buffer that may grow looks for room at every byte of every number.

/// Up to `N` bytes of fields whose numbers are below 16, so that a key is one byte.
#[derive(Debug)]
pub(super) struct Brief<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;

impl<const N: usize> Brief<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    /// A number; a default is not written in proto3.
    pub(super) fn number(&mut self, field: u8, number: u64) {
        if number != 0 {
            self.push(field << 3 | VARINT);
            self.varint(number);
        }
    }

    /// A number of a fixed length.
    pub(super) fn fixed64(&mut self, field: u8, number: u64) {
        if number != 0 {
            self.push(field << 3 | FIXED64);
            self.append(&number.to_le_bytes());
        }
    }

    /// What comes before `len` bytes of a text or a message.
    pub(super) fn length(&mut self, field: u8, len: usize) {
        self.push(field << 3 | LENGTH_DELIMITED);
        self.varint(len as u64);
    }

    /// A message of such fields.
    pub(super) fn message(&mut self, field: u8, message: &[u8]) {
        self.length(field, message.len());
        self.append(message);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::v1::Cursor;

    #[test]
    fn a_message_is_what_prost_would_have_written() {
        for (epoch, offset, time_us) in [(0, 0, 0), (1, 127, 128), (u64::MAX, 1 << 35, 300)] {
            let mut brief = Brief::<31>::new();
            brief.fixed64(1, epoch);
            brief.number(2, offset);
            brief.number(3, time_us);
            assert_eq!(brief.as_slice(), Cursor { epoch, offset, time_us }.encode_to_vec());
        }
    }
}
