//! Sessions: how they open, where they begin, how they are resumed, who holds them, how they end.

mod holder;
mod opening;
mod position;
mod resume;

use bowline::proto::v1::Cursor;

use crate::support::Settings;

/// Topics `small.*` keep four events.
const SMALL: Settings<'_> =
    &[("topics.rules", r#"[{ pattern = "small.*", history = { max_events = 4 } }, { pattern = ">" }]"#)];

/// A position in the log of another life of the topic.
fn elsewhere(cursor: Cursor) -> Cursor {
    Cursor { epoch: cursor.epoch ^ 1, ..cursor }
}
