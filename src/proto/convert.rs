//! Wire ↔ types.

use super::v1;
use crate::{
    error::{Advice, Failure},
    types::{ClientId, Cursor, Dedupe, Durability, NewEvent, Operation, Timestamp},
};

impl From<Cursor> for v1::Cursor {
    fn from(cursor: Cursor) -> Self {
        Self { epoch: cursor.epoch, offset: cursor.offset, time_us: cursor.time.0 }
    }
}

impl From<v1::Cursor> for Cursor {
    fn from(cursor: v1::Cursor) -> Self {
        Self { epoch: cursor.epoch, offset: cursor.offset, time: Timestamp(cursor.time_us) }
    }
}

impl From<Durability> for v1::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Accepted => Self::Accepted,
            Durability::Replicated => Self::Replicated,
            Durability::Synced => Self::Synced,
        }
    }
}

impl From<Advice> for v1::Advice {
    fn from(advice: Advice) -> Self {
        match advice {
            Advice::None => Self::None,
            Advice::Retry => Self::Retry,
            Advice::Reconnect => Self::Reconnect,
            Advice::NewSession => Self::NewSession,
            Advice::Reauthenticate => Self::Reauthenticate,
            Advice::Fatal => Self::Fatal,
        }
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        let reason = failure.reason;
        Self {
            code: reason.code() as i32,
            reason: reason.as_str().to_owned(),
            message: failure.message.into_owned(),
            advice: v1::Advice::from(reason.advice()) as i32,
            retry_after_ms: failure.retry_after.map_or(0, |delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)),
            metadata: failure.metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

impl v1::NewEvent {
    /// The event as the core takes it; `publisher` is whom we know it comes from. Not yet checked.
    pub fn into_event(self, publisher: Option<ClientId>) -> NewEvent {
        let operation = match self.operation() {
            v1::Operation::Delete => Operation::Delete,
            v1::Operation::Put | v1::Operation::Unspecified => Operation::Put,
        };
        NewEvent {
            key: self.key,
            operation,
            payload: self.payload,
            headers: self.headers,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
            trace: None,
            publisher,
            dedupe: Dedupe { id: (!self.dedupe_id.is_empty()).then_some(self.dedupe_id), seq: None },
            if_last: self.if_last,
            scope: None,
            is_bridged: false,
            claim: None,
        }
    }
}
