//! What a connection leaves in the traces when it ends.

use std::sync::Arc;

use super::Shared;
use crate::{
    error::{Failure, Reason},
    registry::Entry,
    telemetry::{Closing, Span, SpanContext},
    types::Timestamp,
};

/// Records the close of a connection when it is dropped, if its opening was traced: on every path, a panic included.
pub(super) struct Trail {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    opening: Option<SpanContext>,
    /// Why it ended; none while it has not.
    end: Option<Result<(), Reason>>,
}

impl Trail {
    pub(super) fn new(shared: &Arc<Shared>, entry: &Arc<Entry>, opening: &Span) -> Self {
        opening.set("bowline.connection.id", entry.id().to_string());
        Self { shared: shared.clone(), entry: entry.clone(), opening: opening.context(), end: None }
    }

    /// The span of the opening, if that is traced.
    pub(super) fn opening(&self) -> Option<&SpanContext> {
        self.opening.as_ref()
    }

    /// It has ended: well, or by a failure.
    pub(super) fn ended(&mut self, failure: Option<&Failure>) {
        self.end = Some(failure.map_or(Ok(()), |failure| Err(failure.reason)));
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let Some(opening) = &self.opening else { return };
        let reason = self.end.unwrap_or(Err(Reason::Internal)).err();
        let vitals = self.entry.vitals();
        let lived = Timestamp::now().0.saturating_sub(self.entry.opened().0);
        self.shared.traces.closed(
            opening,
            Closing {
                connection_id: &self.entry.id().to_string(),
                client_id: self.entry.client_id().map(|client| client.as_str()),
                lived: std::time::Duration::from_micros(lived),
                cause: reason.map_or("OK", Reason::as_str),
                code: reason.map_or(tonic::Code::Ok, Reason::code),
                frames: vitals.frames(),
                bytes: vitals.bytes(),
                events: vitals.events(),
            },
        );
    }
}
