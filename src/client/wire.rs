//! Between the wire and the library's own words.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Cursor, Durability, Error, ErrorKind, Gap, Opened, Published, Refusal, Start, Timestamp, shared::Totals};
use crate::{error::Advice, proto::v1};

pub(super) fn cursor(wire: Option<v1::Cursor>) -> Cursor {
    let wire = wire.unwrap_or_default();
    Cursor { epoch: wire.epoch, offset: wire.offset, time: Timestamp(wire.time_us) }
}

pub(super) fn start(start: Start) -> v1::StartPosition {
    use v1::start_position::Position;
    let position = match start {
        Start::Live => Position::Live(v1::Live {}),
        Start::Earliest => Position::Earliest(v1::Earliest {}),
        Start::After(Cursor { epoch, offset, time }) => Position::Cursor(v1::Cursor { epoch, offset, time_us: time.0 }),
        Start::Acked => Position::Acked(v1::Acked {}),
        Start::Last(count) => Position::LastN(v1::LastN { count }),
        Start::Since(time) => Position::Since(v1::Since { time_us: time.0 }),
        Start::Snapshot => Position::Snapshot(v1::Snapshot {}),
    };
    v1::StartPosition { position: Some(position) }
}

pub(super) fn credit(totals: Totals) -> v1::Credit {
    v1::Credit { events: totals.events, bytes: totals.bytes }
}

pub(super) fn opened(frame: &v1::SessionOpened) -> Opened {
    Opened {
        start: cursor(frame.start),
        head: cursor(frame.head),
        recovery: frame.recovery(),
        attach: frame.attach,
        published_seq: frame.published_seq,
        delivery_policy: frame.delivery_policy(),
        max_rate_hz: frame.max_rate_hz,
        topic_class: frame.topic_class(),
    }
}

pub(super) fn gap(frame: &v1::Gap) -> Gap {
    Gap {
        from: cursor(frame.from),
        to: cursor(frame.to),
        reason: frame.reason(),
        count: frame.count,
        possible: frame.possible,
    }
}

pub(super) fn published(reply: &v1::Reply) -> Published {
    let durability = match reply.durability() {
        v1::Durability::Synced => Durability::Synced,
        v1::Durability::Replicated => Durability::Replicated,
        // The least promise for what an older client does not know.
        v1::Durability::Accepted | v1::Durability::Unspecified => Durability::Accepted,
    };
    Published { cursor: cursor(reply.cursor), duplicate: reply.duplicate, durability }
}

pub(super) fn refusal(failure: v1::Failure) -> Refusal {
    let code = Code::from_i32(failure.code);
    let advice = match failure.advice() {
        v1::Advice::None => Advice::None,
        v1::Advice::Retry => Advice::Retry,
        v1::Advice::Reconnect => Advice::Reconnect,
        v1::Advice::NewSession => Advice::NewSession,
        v1::Advice::Reauthenticate => Advice::Reauthenticate,
        v1::Advice::Fatal => Advice::Fatal,
        v1::Advice::Unspecified => advice_for(code),
    };
    let wait = Duration::from_millis(u64::from(failure.retry_after_ms));
    Refusal {
        code,
        reason: failure.reason,
        message: failure.message,
        advice,
        retry_after: Some(wait).filter(|wait| !wait.is_zero()),
        metadata: failure.metadata,
    }
}

/// How a call ended that did not end well.
pub(super) fn status_error(status: &Status) -> Error {
    let details = status.get_error_details();
    let advised = details.error_info().and_then(|info| info.metadata.get("advice")).map(String::as_str);
    let advice = match advised {
        Some("NONE") => Advice::None,
        Some("RETRY") => Advice::Retry,
        Some("RECONNECT") => Advice::Reconnect,
        Some("NEW_SESSION") => Advice::NewSession,
        Some("REAUTHENTICATE") => Advice::Reauthenticate,
        Some("FATAL") => Advice::Fatal,
        _ => advice_for(status.code()),
    };
    if details.error_info().is_none() && advice == Advice::Reconnect {
        // Neither we nor the server chose these words: the network or something between us did.
        return Error::new(ErrorKind::Connect, with_causes(status));
    }
    let (reason, metadata) =
        details.error_info().map(|info| (info.reason.clone(), info.metadata.clone())).unwrap_or_default();
    Error::refused(
        ErrorKind::Refused,
        Refusal {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            advice,
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            metadata,
        },
    )
}

/// The advice for a code that came without one. What looks like a wrong address, a wrong name or a wrong right is not
/// cured by trying again; everything else may be.
fn advice_for(code: Code) -> Advice {
    match code {
        Code::Unauthenticated => Advice::Reauthenticate,
        Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument | Code::FailedPrecondition => {
            Advice::Fatal
        }
        _ => Advice::Reconnect,
    }
}

/// A transport failure with the whole chain of its causes: the outermost says only "transport error".
pub(super) fn transport_error(error: &tonic::transport::Error) -> Error {
    Error::new(ErrorKind::Connect, with_causes(error))
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Many wrap a cause and print it as their own text.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, Reason};

    #[test]
    fn a_status_of_the_server_keeps_its_reason_its_advice_and_its_time() {
        let failure = Failure::new(Reason::MaxConnections, "full").retry_after(Duration::from_secs(3));
        let error = status_error(&Status::from(failure));
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, Some("MAX_CONNECTIONS")));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert!(error.is_retryable());
    }

    #[test]
    fn a_bad_token_and_a_broken_rule_are_not_retried() {
        for reason in [Reason::TokenInvalid, Reason::Protocol, Reason::Version, Reason::Denied] {
            assert!(!status_error(&Status::from(Failure::new(reason, ""))).is_retryable(), "{reason:?}");
        }
    }

    #[test]
    fn a_status_nobody_chose_is_a_broken_connection_unless_it_tells_of_a_wrong_address() {
        assert_eq!(status_error(&Status::unavailable("")).kind(), ErrorKind::Connect);
        assert!(status_error(&Status::unknown("h2 protocol error")).is_retryable());
        assert!(!status_error(&Status::unimplemented("")).is_retryable());
    }
}
