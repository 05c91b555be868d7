//! Who may change something through the admin port, and what a request that does must look like.
//!
//! A change is made by whoever knows `admin.token`, and without it by programs on this machine. A browser is such a
//! program, and pages of strangers run in it: so a request that comes from another page, or that was led here by a name
//! that only pretends to be this machine (DNS rebinding), is not one of the operator's. Methods other than GET are put
//! under the guard with [`Guard::over`]; every change that was let through is logged.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Config, problem};
use crate::types::Secret;

/// Most bytes of a request's body.
const MAX_BODY: usize = 64 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What of a body is logged, bytes.
const LOGGED: usize = 512;

/// The remote end of a request, put there by the accept loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) SocketAddr);

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<Source>);

/// Where the token comes from.
#[derive(Debug)]
enum Source {
    Nowhere,
    Given(Secret),
    /// Read for each change, so that a token that was replaced is in force at once.
    File(PathBuf),
}

/// Why the token cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("admin.token_file: cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something else in it.
    #[error("admin.token_file: {path} {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        problem: &'static str,
    },
}

impl Guard {
    /// A guard that knows the token of the configuration, if there is one. Fails if the file with it is not there or holds
    /// none.
    pub(super) fn new(config: &Config) -> Result<Self, TokenError> {
        let source = match (config.token.is_empty(), config.token_file.as_os_str().is_empty()) {
            (false, _) => Source::Given(config.token.clone()),
            (true, false) => Source::File(config.token_file.clone()),
            (true, true) => Source::Nowhere,
        };
        source.token()?;
        Ok(Self(Arc::new(source)))
    }

    /// Puts methods that change something under the guard. Add those that only read afterwards:
    /// `guard.over(post(begin).delete(call_off)).get(status)`.
    pub(super) fn over<S: Clone + Send + Sync + 'static>(&self, methods: MethodRouter<S>) -> MethodRouter<S> {
        methods.route_layer(middleware::from_fn_with_state(self.clone(), checked))
    }

    /// Who asks, in the words of the log.
    fn admit(&self, caller: SocketAddr, headers: &HeaderMap) -> Result<&'static str, Refusal> {
        if is_foreign_page(headers) {
            return Err(Refusal(StatusCode::FORBIDDEN, "requests of other pages in a browser are refused"));
        }
        let token = self.0.token().map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a change was refused");
            Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the token cannot be read; the log says why")
        })?;
        let unauthorized = |message| Refusal(StatusCode::UNAUTHORIZED, message);
        match (headers.get(header::AUTHORIZATION), token) {
            (Some(shown), Some(token)) if is_token(shown, &token) => Ok("token"),
            (Some(_), Some(_)) => Err(unauthorized("this is not the token that was configured")),
            (None, _) if caller.ip().to_canonical().is_loopback() && !is_local_name(headers) => {
                Err(Refusal(StatusCode::FORBIDDEN, NAME_IT))
            }
            (None, _) if caller.ip().to_canonical().is_loopback() => Ok("loopback"),
            (None, Some(_)) => Err(unauthorized("from another machine this needs the token")),
            (_, None) => Err(Refusal(StatusCode::FORBIDDEN, NO_TOKEN)),
        }
    }
}

const NAME_IT: &str = "ask for this machine by its loopback address or as localhost, or show the token";
const NO_TOKEN: &str = "there is no token, so this is allowed from this machine only, without one; \
                        set admin.token or admin.token_file";

/// Why a change was not let through.
#[derive(Debug)]
struct Refusal(StatusCode, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = problem(self.0, self.1);
        if self.0 == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"bowline admin\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl Source {
    fn token(&self) -> Result<Option<Secret>, TokenError> {
        let path = match self {
            Self::Nowhere => return Ok(None),
            Self::Given(token) => return Ok(Some(token.clone())),
            Self::File(path) => path,
        };
        let text = fs::read_to_string(path).map_err(|source| TokenError::File { path: path.clone(), source })?;
        let token = text.trim_end_matches(['\r', '\n']).to_owned();
        match Config::token_problem(&token) {
            Some(problem) => Err(TokenError::Content { path: path.clone(), problem }),
            None => Ok(Some(token.into())),
        }
    }
}

async fn checked(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().copied();
    // Nobody can be let in of whom nothing is known.
    let Some(Caller(caller)) = caller else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the caller is not known");
    };
    let (head, body) = request.into_parts();
    let admitted = match guard.admit(caller, &head.headers) {
        Ok(who) => whole(body, &head.headers).await.map(|body| (who, body)),
        Err(refusal) => Err(refusal),
    };
    let (who, body) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            tracing::debug!(%caller, method = %head.method, path = head.uri.path(), ?refusal, "a change was refused");
            return refusal.into_response();
        }
    };
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let said = shown(&body);
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    audit(caller, who, &method, &path, &said, response.status());
    response
}

/// The record of a change: who, what, and what came of it.
fn audit(caller: SocketAddr, by: &str, method: &Method, path: &str, body: &str, status: StatusCode) {
    let status = status.as_u16();
    tracing::info!(target: "bowline::admin::audit", %caller, by, %method, path, body, status, "an operator's change");
}

/// The body, in one piece and in JSON.
async fn whole(body: Body, headers: &HeaderMap) -> Result<Bytes, Refusal> {
    const TOO_LARGE: Refusal = Refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body may be 64 KiB");
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(TOO_LARGE);
    }
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(body) => body.map_err(|_| TOO_LARGE)?,
        Err(_) => return Err(Refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !body.is_empty() && !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be content-type: application/json"));
    }
    Ok(body)
}

/// True if a browser says that another page than one of ours wants this.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let elsewhere = text("sec-fetch-site").is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = |origin: &[u8]| {
        let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        host.zip(own).is_some_and(|(host, own)| host.eq_ignore_ascii_case(own.as_bytes()))
    };
    elsewhere || text("origin").is_some_and(|origin| !is_own(origin))
}

/// True if the caller asked for this machine by a name that nobody else can give it. Programs of old say no name.
pub(super) fn is_local_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Compared in a time that does not tell how much of it is right.
fn is_token(shown: &HeaderValue, token: &Secret) -> bool {
    let shown = shown.as_bytes();
    let is_bearer = shown.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    let shown = shown.get(7..).unwrap_or_default().trim_ascii();
    is_bearer && aws_lc_rs::constant_time::verify_slices_are_equal(shown, token.expose().as_bytes()).is_ok()
}

/// What is logged of a body.
fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..LOGGED).unwrap_or(body)).into_owned()
}

/// What a request asks for, from its body in JSON; the default, if it has no body. A handler behind the guard takes it as
/// its last argument.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| rejection.into_response())?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        let asked = serde_json::from_slice(&body).map_err(|error| {
            let message = format!("the body is not what is wanted here: {error}");
            problem(StatusCode::BAD_REQUEST, &message)
        })?;
        Ok(Self(asked))
    }
}

#[cfg(test)]
mod tests;
