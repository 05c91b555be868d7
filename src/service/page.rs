//! Pages of a listing.

use crate::{error::Failure, types::Invalid};

/// Page size when none is asked for, and the largest there is.
const DEFAULT: u32 = 100;
const MAX: u32 = 1000;

/// The size of a page.
pub(super) fn size(asked: u32) -> usize {
    let size = if asked == 0 { DEFAULT } else { asked.min(MAX) };
    size as usize
}

/// Cuts a listing that was asked for one more than a page to the page, and says where the next one begins.
pub(super) fn cut<T>(items: &mut Vec<T>, size: usize, token: impl Fn(&T) -> String) -> String {
    let more = items.len() > size;
    items.truncate(size);
    items.last().filter(|_| more).map(token).unwrap_or_default()
}

/// A token that is a number; empty is before the first.
pub(super) fn number(token: &str) -> Result<u64, Failure> {
    if token.is_empty() {
        return Ok(0);
    }
    token.parse().map_err(|_| Invalid::new("page_token", "is not one that this server gave out").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_page_says_where_the_next_begins_and_the_last_says_nothing() {
        let mut items = vec![1, 2, 3];
        assert_eq!(cut(&mut items, 2, ToString::to_string), "2");
        assert_eq!(items, [1, 2]);
        assert_eq!(cut(&mut items, 2, ToString::to_string), "");
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        assert_eq!([0, 1, 5000].map(size), [100, 1, 1000]);
        assert!(number("x").is_err());
    }
}
