//! One call's way from HTTP/2 into the service and back: what the transport knows goes along, a panic stops here.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;
use tower::{Service, ServiceExt as _};

use super::executor;
use crate::{
    error::{Failure, Reason},
    types::TransportHandle,
};

/// The calls of a transport, which are counted while their responses are there. All clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<()>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    _counted: Weak<()>,
}

impl Calls {
    pub(super) fn one(&self) -> Open {
        Open { _counted: Arc::downgrade(&self.0) }
    }

    /// More than one.
    pub(super) fn are_several(&self) -> bool {
        Arc::weak_count(&self.0) > 1
    }
}

/// Answers one request, unless it has more than so many headers. A panic of the service becomes INTERNAL for this call and
/// touches no other.
pub(super) async fn answer<S, B>(
    service: S,
    transport: TransportHandle,
    open: Open,
    max_header_fields: usize,
    mut request: Request<Incoming>,
) -> Result<Response<Guarded<B>>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    if request.headers().len() > max_header_fields {
        let mut response = Response::new(Guarded::default());
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Ok(response);
    }
    let extensions = request.extensions_mut();
    extensions.insert(transport);
    if let Some(switch) = executor::switch() {
        extensions.insert(switch);
    }
    Ok(match AssertUnwindSafe(service.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response.map(|body| Guarded { body: Some(body), _open: Some(open) }),
        Ok(Err(never)) => match never {},
        Err(panic) => internal(panic).into_http(),
    })
}

/// A response body whose panic becomes trailers.
#[derive(Debug)]
pub(super) struct Guarded<B> {
    body: Option<B>,
    _open: Option<Open>,
}

impl<B> Default for Guarded<B> {
    fn default() -> Self {
        Self { body: None, _open: None }
    }
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))).unwrap_or_else(|panic| {
            this.body = None;
            let mut trailers = HeaderMap::new();
            // Only a message that is no header value can fail to be added, and ours is one.
            drop(internal(panic).add_header(&mut trailers));
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn internal(panic: Box<dyn Any + Send>) -> Status {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a call panicked");
    Failure::new(Reason::Internal, "internal error").into()
}
