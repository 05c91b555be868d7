//! Sessions: how they open, where they begin, how they are resumed, who holds them, how they end.

mod holder;
mod opening;
mod position;
mod resume;

use bowline::proto::v1::{Cursor, OpenSession};

use crate::support::{Settings, open};

/// Topics `small.*` keep four events.
const SMALL: Settings<'_> =
    &[("topics.rules", r#"[{ pattern = "small.*", history = { max_events = 4 } }, { pattern = ">" }]"#)];

/// A session with a name.
fn named(session: u32, topic: &str, session_id: &str) -> OpenSession {
    OpenSession { session_id: session_id.to_owned(), ..open(session, topic) }
}

/// A position in the log of another life of the topic.
fn elsewhere(cursor: Cursor) -> Cursor {
    Cursor { epoch: cursor.epoch ^ 1, ..cursor }
}
