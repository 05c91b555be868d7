//! Header compression, RFC 7541: an encoder that compresses nothing unless told to, and a decoder for what servers answer.

use std::collections::VecDeque;

/// The static table, from index 1. Of names that stand there with several values, each has its own entry.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The Huffman code is canonical: its lengths say all. Symbols of each length, as far as an answer of ours needs them.
const LENGTHS: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// A field as it is when decoded.
pub type Field = (String, String);

/// A number with a prefix of so many bits; `pattern` stands in the bits before them.
fn integer(pattern: u8, bits: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(text: &str, out: &mut Vec<u8>) {
    integer(0, 7, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// A field, indexed if the static table has it, else spelled out and not to be remembered.
pub fn encode(name: &str, value: &str, out: &mut Vec<u8>) {
    if let Some(index) = STATIC.iter().position(|entry| *entry == (name, value)) {
        return integer(0x80, 7, index + 1, out);
    }
    literal(0x00, 4, name, value, out);
}

/// A field spelled out that the receiver has to remember, as entry 62 and first of its table.
pub fn encode_remembered(name: &str, value: &str, out: &mut Vec<u8>) {
    literal(0x40, 6, name, value, out);
}

fn literal(pattern: u8, bits: u32, name: &str, value: &str, out: &mut Vec<u8>) {
    match STATIC.iter().position(|(known, _)| *known == name) {
        Some(index) => integer(pattern, bits, index + 1, out),
        None => {
            out.push(pattern);
            text(name, out);
        }
    }
    text(value, out);
}

/// A block of these fields.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| encode(name, value, &mut out));
    out
}

/// What a list of fields weighs, RFC 9113 §10.5.1.
pub fn weight(fields: &[(&str, &str)]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

/// Decodes the blocks of one direction of a transport, all of them, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    table: VecDeque<Field>,
}

impl Decoder {
    /// The fields of a block; `None` if it is not understood.
    pub fn decode(&mut self, block: &[u8]) -> Option<Vec<Field>> {
        let (mut rest, mut fields) = (block, Vec::new());
        while let Some(&first) = rest.first() {
            let (bits, remember) = match first {
                0x80.. => {
                    let index = read_integer(&mut rest, 7)?;
                    fields.push(self.entry(index)?);
                    continue;
                }
                0x40..0x80 => (6, true),
                0x20..0x40 => {
                    read_integer(&mut rest, 5)?;
                    continue;
                }
                _ => (4, false),
            };
            let index = read_integer(&mut rest, bits)?;
            let name = if index == 0 { read_text(&mut rest)? } else { self.entry(index)?.0 };
            let field = (name, read_text(&mut rest)?);
            if remember {
                self.remember(field.clone());
            }
            fields.push(field);
        }
        Some(fields)
    }

    fn entry(&self, index: usize) -> Option<Field> {
        match STATIC.get(index.checked_sub(1)?) {
            Some((name, value)) => Some(((*name).to_owned(), (*value).to_owned())),
            None => self.table.get(index - STATIC.len() - 1).cloned(),
        }
    }

    fn remember(&mut self, field: Field) {
        self.table.push_front(field);
        let weight = |table: &VecDeque<Field>| table.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
        while weight(&self.table) > 4096 {
            self.table.pop_back();
        }
    }
}

fn read_integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some(value);
    }
    for shift in (0..28).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    let packed = *rest.first()? & 0x80 != 0;
    let length = read_integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    let bytes = if packed { unpack(bytes)? } else { bytes.to_vec() };
    String::from_utf8(bytes).ok()
}

/// Undoes the Huffman code.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| u32::from(byte >> i & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(symbol) = symbol(code, length) {
            out.push(symbol);
            (code, length) = (0, 0);
        }
    }
    // Padding is the beginning of a code of nothing but ones.
    (length < 8 && code == (1 << length) - 1).then_some(out)
}

fn symbol(code: u32, length: u32) -> Option<u8> {
    let (mut first, mut last_length) = (0, 0);
    for (of_length, symbols) in LENGTHS {
        first <<= of_length - last_length;
        if of_length == length {
            return symbols.get(code.checked_sub(first)? as usize).copied();
        }
        first += symbols.len() as u32;
        last_length = of_length;
    }
    None
}
