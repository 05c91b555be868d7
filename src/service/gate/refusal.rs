//! What is no call, and what becomes of a refusal that is not ours.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::{Status, body::Body};

use crate::error::{self, Failure, Reason};

/// The answer to a request that is no gRPC call. In HTTP's own words, but for a path: whoever reads those may be no gRPC
/// client, and whatever is between must not take it for one.
pub(super) fn not_grpc<R>(request: &Request<R>) -> Option<Response<Body>> {
    let mut response = Response::<Body>::default();
    if request.method() != Method::POST {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    let mut types = request.headers().get_all(header::CONTENT_TYPE).iter();
    if !types.next().is_some_and(is_grpc) || types.next().is_some() {
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Some(response);
    }
    // A method has no query; behind a path that was not all looked at, rights could be given to another one.
    let path = request.uri().path_and_query().map(|path| (path.path(), path.query()));
    let (path, None) = path? else { return Some(unsupported("a method's path has no query").into_http()) };
    path.contains(['%', '\\']).then(|| unsupported("a method's path is not encoded").into_http())
}

/// `application/grpc`, perhaps with a codec or parameters.
fn is_grpc(value: &HeaderValue) -> bool {
    let Some(rest) = value.to_str().ok().map(str::to_ascii_lowercase) else { return false };
    rest.strip_prefix("application/grpc").is_some_and(|rest| matches!(rest.bytes().next(), None | Some(b'+' | b';')))
}

fn unsupported(message: &'static str) -> Status {
    Failure::new(Reason::Unsupported, message).into()
}

/// The response, with its status in the house's words if it was refused by the machinery.
pub(super) fn corrected(response: Response<Body>) -> Response<Body> {
    let Some(failure) = error::restated(response.headers()) else { return response };
    tracing::debug!(reason = failure.reason.as_str(), message = %failure.message, "call refused");
    let mut refused = Status::from(failure).into_http();
    // What the machinery said besides: the encodings it would take.
    for (name, value) in response.headers() {
        if !refused.headers().contains_key(name) {
            refused.headers_mut().append(name, value.clone());
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_grpcs_or_not() {
        for good in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "Application/GRPC"]
        {
            assert!(is_grpc(&HeaderValue::from_static(good)), "{good}");
        }
        for bad in ["text/plain", "application/json", "application/grpc-web", "application/grpcx", "", "grpc"] {
            assert!(!is_grpc(&HeaderValue::from_static(bad)), "{bad}");
        }
    }
}
