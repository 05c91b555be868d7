//! One span under way.

use std::{future::poll_fn, pin::pin};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{SpanContext, Status, TraceContextExt as _},
};
use opentelemetry_sdk::trace::Span as SdkSpan;
use tonic::Code;

/// The status of a call. Its name has changed before and will again: the conventions for RPC are a release candidate.
pub(super) const STATUS_CODE: &str = "rpc.response.status_code";
/// What went wrong, as a word of a closed set.
const ERROR_TYPE: &str = "error.type";

/// A span, or nothing where nobody traces. Cheap to clone; it ends with its last clone.
#[derive(Debug, Clone, Default)]
pub struct Span(Option<Context>);

impl Span {
    pub(super) fn new(span: SdkSpan) -> Self {
        Self(Some(Context::new().with_span(span)))
    }

    /// What refers to it from elsewhere.
    pub fn context(&self) -> Option<SpanContext> {
        Some(self.0.as_ref()?.span().span_context().clone())
    }

    /// Whether it is there.
    pub fn is_traced(&self) -> bool {
        self.0.is_some()
    }

    /// Does something in it: what is logged meanwhile carries its ids.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.0.clone().map(Context::attach);
        work()
    }

    /// Does something in it that may have to wait; see [`in_scope`](Self::in_scope).
    pub async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| self.in_scope(|| work.as_mut().poll(cx))).await
    }

    /// Does something in a span that may have ended.
    pub fn in_scope_of<T>(context: Option<&SpanContext>, work: impl FnOnce() -> T) -> T {
        let _entered = context.map(|context| Context::new().with_remote_span_context(context.clone()).attach());
        work()
    }

    /// Adds a fact.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value.into()));
        }
    }

    /// What the call it is of was answered with. It is an error only if the code says that the server failed, as the
    /// conventions have it: most others are the caller's.
    pub fn answered(&self, code: Code) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new(STATUS_CODE, code_name(code)));
        if code != Code::Ok {
            span.set_attribute(KeyValue::new(ERROR_TYPE, code_name(code)));
        }
        if is_error(code) {
            span.set_status(Status::error(""));
        }
    }

    /// Why what it is of did not succeed: a word of a closed set, and the code that goes with it.
    pub fn failed(&self, reason: &'static str, code: Code) {
        let Some(context) = &self.0 else { return };
        context.span().set_attribute(KeyValue::new(ERROR_TYPE, reason));
        if is_error(code) {
            context.span().set_status(Status::error(""));
        }
    }
}

fn is_error(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// A code as the conventions write it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
