//! From a topic to its subject and back.

/// The name that stands beside `name` on the other side of a bridge: what the wildcards of `from` stand for in it is put in
/// the place of those of `to`, which are the same in the same order. None if `name` does not fit `from`.
pub(super) fn translate(from: &str, to: &str, name: &str) -> Option<String> {
    let (mut left, mut caught) = (Some(name), Vec::new());
    for segment in from.split('.') {
        let rest = left?;
        if segment == ">" {
            caught.push(rest);
            left = None;
            break;
        }
        let (first, after) = rest.split_once('.').map_or((rest, None), |(first, after)| (first, Some(after)));
        if segment == "*" {
            caught.push(first);
        } else if segment != first {
            return None;
        }
        left = after;
    }
    if left.is_some() {
        return None;
    }
    let mut caught = caught.into_iter();
    let parts: Option<Vec<&str>> =
        to.split('.').map(|segment| if matches!(segment, "*" | ">") { caught.next() } else { Some(segment) }).collect();
    Some(parts?.join("."))
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn wildcards_stand_for_the_same_on_both_sides() {
        for (from, to, name, expected) in [
            ("orders.>", "acme.orders.>", "orders.eu.1", Some("acme.orders.eu.1")),
            ("acme.orders.>", "orders.>", "acme.orders.eu.1", Some("orders.eu.1")),
            ("a.*.b.*", "x.*.*", "a.1.b.2", Some("x.1.2")),
            ("*.in.>", "acme.*.>", "eu.in.a.b", Some("acme.eu.a.b")),
            (">", "acme.>", "a", Some("acme.a")),
            ("a", "acme.a", "a", Some("acme.a")),
            ("orders.>", "acme.orders.>", "orders", None),
            ("orders.*", "acme.orders.*", "orders.a.b", None),
            ("orders.*", "acme.orders.*", "other.a", None),
            ("a.b", "x", "a", None),
            ("a", "x", "a.b", None),
        ] {
            assert_eq!(translate(from, to, name).as_deref(), expected, "{from} {name}");
        }
    }
}
