//! One column of one line of CSV (RFC 4180, but a record is a line).

use std::borrow::Cow;

/// Why a line has no such column.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    /// It has fewer.
    #[error("it has only {0} column(s)")]
    TooFew(usize),
    /// A quoted field goes on after the end of the line.
    #[error("a quoted field is not closed on the line")]
    Open,
}

/// The content of column `number` (from 1), without its quotes.
///
/// A field is quoted if it begins with `"`; inside, `""` is one quote. Text between a closing quote and the next comma
/// is kept as it is, as most readers of CSV do. A carriage return at the end belongs to the line ending.
pub(super) fn column(line: &[u8], number: usize) -> Result<Cow<'_, [u8]>, Missing> {
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    for passed in 1.. {
        let (field, next) = field(rest)?;
        if passed == number {
            return Ok(field);
        }
        rest = next.ok_or(Missing::TooFew(passed))?;
    }
    Err(Missing::TooFew(0))
}

/// The first field, and what follows its comma.
fn field(text: &[u8]) -> Result<(Cow<'_, [u8]>, Option<&[u8]>), Missing> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let (field, next) = until_comma(text);
        return Ok((Cow::Borrowed(field), next));
    };
    let mut content = Vec::new();
    let mut rest = quoted;
    loop {
        let quote = rest.iter().position(|&b| b == b'"').ok_or(Missing::Open)?;
        content.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            Some(more) => {
                content.push(b'"');
                rest = more;
            }
            None => {
                let (tail, next) = until_comma(rest);
                content.extend_from_slice(tail);
                return Ok((Cow::Owned(content), next));
            }
        }
    }
}

fn until_comma(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&b| b == b',') {
        Some(comma) => (&text[..comma], Some(&text[comma + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_whatever_its_quotes() {
        let cases: [(&str, usize, &str); 10] = [
            ("MSFT,Jan 1 2000,39.81", 1, "MSFT"),
            ("MSFT,Jan 1 2000,39.81", 3, "39.81"),
            ("a,b\r", 2, "b"),
            ("\"a,b\",c", 1, "a,b"),
            ("\"a,b\",c", 2, "c"),
            ("\"say \"\"hi\"\"\",x", 1, "say \"hi\""),
            ("\"\",x", 1, ""),
            (",,", 3, ""),
            ("", 1, ""),
            ("5\" pipe,x", 1, "5\" pipe"),
        ];
        for (line, number, expected) in cases {
            assert_eq!(column(line.as_bytes(), number).unwrap(), expected.as_bytes(), "{line:?} {number}");
        }
    }

    #[test]
    fn a_line_without_the_column_says_so() {
        assert_eq!(column(b"a,b", 3), Err(Missing::TooFew(2)));
        assert_eq!(column(b"a,\"b", 2), Err(Missing::Open));
        assert_eq!(column(b"a,\"b", 1).unwrap(), &b"a"[..]);
    }
}
