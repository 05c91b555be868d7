//! The only place that builds a gRPC status.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Failure, Reason};

/// `ErrorInfo.domain` of every status.
const DOMAIN: &str = "bowline";

impl From<Failure> for Status {
    /// The status with its `google.rpc` details: ErrorInfo always, RetryInfo where waiting helps, QuotaFailure for
    /// limits, BadRequest for a field.
    fn from(failure: Failure) -> Self {
        let reason = failure.reason;
        let mut metadata: HashMap<String, String> =
            failure.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        metadata.insert("advice".to_owned(), reason.advice().as_str().to_owned());

        let mut details = ErrorDetails::new();
        if let Some(field) = metadata.get("field") {
            details.add_bad_request_violation(field.clone(), failure.message.clone());
        }
        if is_quota(reason) {
            details.add_quota_failure_violation(reason.as_str().to_ascii_lowercase(), failure.message.clone());
        }
        if let Some(delay) = failure.retry_after {
            details.set_retry_info(Some(delay));
        }
        details.set_error_info(reason.as_str(), DOMAIN, metadata);
        Status::with_error_details(reason.code(), failure.message, details)
    }
}

/// Whether it is a limit that was reached.
fn is_quota(reason: Reason) -> bool {
    use Reason::{CallLimit, HistoryLimit, MaxConnections, OpenRate, PublishRate, SessionLimit, TopicLimit};
    matches!(reason, CallLimit | HistoryLimit | MaxConnections | OpenRate | PublishRate | SessionLimit | TopicLimit)
}

/// The header of a status's details, which every status of the house has.
const DETAILS: &str = "grpc-status-details-bin";

/// In the house's words, what a response says that the machinery below the services refused. That calls a message that is
/// too large OUT_OF_RANGE, and one that cannot be read INTERNAL, as if it were our fault.
pub fn restated(headers: &http::HeaderMap) -> Option<Failure> {
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key(DETAILS) {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    Some(match (status.code(), status.message()) {
        (Code::OutOfRange, _) => Failure::new(Reason::TooLarge, "the request is too large"),
        (Code::Internal, _) => Failure::new(Reason::Protocol, "the request cannot be decoded"),
        (Code::Unimplemented, "") => Failure::new(Reason::Unsupported, "there is no such method"),
        (Code::Unimplemented, message) => Failure::new(Reason::Unsupported, message.to_owned()),
        _ => return None,
    })
}

/// Whether a request's body ended so because its client cancelled the call.
pub fn is_cancel(error: Box<dyn std::error::Error + Send + Sync>) -> bool {
    Status::from_error(error).code() == Code::Cancelled
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_carries_its_reason_its_advice_and_the_time_to_wait() {
        let failure = Failure::new(Reason::MaxConnections, "maximum connections reached");
        let status = Status::from(failure.retry_after(Duration::from_secs(3)));
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "MAX_CONNECTIONS");
        assert_eq!(details.error_info().unwrap().metadata["advice"], "RECONNECT");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(3)));
        assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    }
}
