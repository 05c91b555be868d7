//! Before every service: who calls is found out before anything of a call is looked at.
//!
//! It decides by the method that was matched, and hands the [`Caller`] on in the request's extensions. A service that finds
//! none there refuses: a path that only looks like another one leads nowhere.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    auth::{Auth, Caller, Service as Asked},
    error::{Failure, Reason},
    types::TransportHandle,
};

/// Puts [`KnowsCaller`] before a service.
#[derive(Debug, Clone)]
pub struct CallerLayer(Arc<Auth>);

impl CallerLayer {
    /// A layer that asks `auth`.
    pub fn new(auth: Arc<Auth>) -> Self {
        Self(auth)
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = KnowsCaller<S>;

    fn layer(&self, service: S) -> KnowsCaller<S> {
        KnowsCaller { service, auth: self.0.clone() }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct KnowsCaller<S> {
    service: S,
    auth: Arc<Auth>,
}

type Answer = Result<Response<Body>, Infallible>;

impl<S, R> Service<Request<R>> for KnowsCaller<S>
where
    S: Service<Request<R>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin,
    R: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Either<Ready<Answer>, S::Future>, Pin<Box<dyn Future<Output = Answer> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let Some(asked) = asked(request.uri().path()) else {
            return Either::Left(Either::Right(self.service.call(request)));
        };
        if let Some(keys) = self.auth.keys_wanted(request.headers()) {
            let (auth, mut service) = (self.auth.clone(), self.service.clone());
            return Either::Right(Box::pin(async move {
                keys.await;
                match admit(&auth, asked, request) {
                    Ok(request) => service.call(request).await,
                    Err(refused) => Ok(*refused),
                }
            }));
        }
        Either::Left(match admit(&self.auth, asked, request) {
            Ok(request) => Either::Right(self.service.call(request)),
            Err(refused) => Either::Left(ready(Ok(*refused))),
        })
    }
}

fn admit<R>(auth: &Auth, asked: Asked, mut request: Request<R>) -> Result<Request<R>, Box<Response<Body>>> {
    let missing = || Failure::new(Reason::Internal, "the call came without its transport");
    let transport = request.extensions().get::<TransportHandle>().ok_or_else(missing);
    match transport.and_then(|transport| auth.admit(request.headers(), transport, asked)) {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            Ok(request)
        }
        Ok(None) => Ok(request),
        Err(failure) => {
            tracing::debug!(reason = failure.reason.as_str(), message = %failure.message, "call refused");
            Err(Box::new(Status::from(failure).into_http()))
        }
    }
}

/// What has to be asked for a path; none for what everybody may ask: health, reflection, and what does not exist.
fn asked(path: &str) -> Option<Asked> {
    let (service, _) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "bowline.v1.StreamService" => Some(Asked::Stream),
        "bowline.v1.TopicService" => Some(Asked::Topics),
        "bowline.v1.ConnectionService" => Some(Asked::Operators),
        _ => None,
    }
}

/// The caller that was let in.
pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Caller, Failure> {
    let missing = || Failure::new(Reason::Internal, "the call came without its caller");
    request.extensions().get::<Caller>().cloned().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_ours_is_asked_for() {
        for name in super::super::SERVICES {
            assert!(asked(&format!("/{name}/Method")).is_some(), "{name}");
        }
        for open in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
            assert_eq!(asked(open), None);
        }
    }
}
