//! Who may call, and what each may do, through the real port.

mod certificates;
mod changes;
mod credentials;
mod expiry;
mod key_sets;
mod library;
mod quotas;
mod rights;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bowline::proto::v1::{ListTopicsRequest, topic_service_client::TopicServiceClient};
use serde_json::{Value, json};
use tonic::{Request, Status, metadata::MetadataValue};

use crate::{
    support::{Settings, TestClient, TestServer, hello},
    tokens::{Signer, claims},
};

/// The secret that the servers of these tests share with their issuer.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Everybody who is believed may do everything with topics below `chat`.
const CHAT: &str = "[{ topics = [\"chat.>\"], allow = [\"publish\", \"read\", \"history\", \"presence\"] }]";

/// A folder for the files of a server.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("secret", SECRET);
        files
    }

    /// A file that only its owner may read, replaced in one step as Kubernetes does it.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, next) = (self.0.path().join(name), self.0.path().join(format!("{name}.next")));
        fs::write(&next, text).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&next, &path).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The issuer of these tests, with HS256 and the file `secret`; `more` are further keys of it.
    fn issuer(&self, more: &str) -> String {
        issuer("HS256", &format!("secret_files = [{:?}]{more}", self.path("secret")))
    }
}

/// An issuer with one algorithm, as a list.
fn issuer(algorithm: &str, keys: &str) -> String {
    format!("[{{ issuer = \"https://id.test\", audiences = [\"bowline\"], algorithms = [{algorithm:?}], {keys} }}]")
}

/// A server that believes the issuer's tokens alone.
async fn jwt(issuers: &str, rules: &str, more: Settings<'_>) -> TestServer {
    let own = [("auth.mode", "jwt"), ("auth.issuers", issuers), ("auth.rules", rules)];
    // What is given goes over it.
    let settings: Vec<_> = own.iter().filter(|(_, value)| !value.is_empty()).chain(more).copied().collect();
    TestServer::with(&settings).await
}

/// A token of the shared secret.
fn token(subject: &str, more: Value) -> String {
    Signer::secret(SECRET).sign(&claims(subject, more))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A welcomed client that has shown its token with the call.
async fn enter(server: &TestServer, token: &str) -> TestClient {
    let mut client = server.try_call(&[("authorization", &bearer(token))]).await.unwrap();
    client.send(hello("")).await;
    client.welcomed().await;
    client
}

/// A request with these metadata.
fn with<T>(message: T, metadata: &[(&str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        let key: tonic::metadata::MetadataKey<_> = key.parse().unwrap();
        request.metadata_mut().append(key, MetadataValue::try_from(*value).unwrap());
    }
    request
}

/// A unary call that needs nothing but to be believed.
async fn list(server: &TestServer, metadata: &[(&str, &str)]) -> Result<Vec<String>, Status> {
    let mut topics = TopicServiceClient::new(server.channel().await);
    let answer = topics.list_topics(with(ListTopicsRequest::default(), metadata)).await?;
    Ok(answer.into_inner().topics.into_iter().map(|topic| topic.name).collect())
}

/// The reason in a status; `OK` if there is none to give.
fn reason<T>(answer: &Result<T, Status>) -> String {
    use tonic_types::StatusExt as _;
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => status.get_details_error_info().map(|info| info.reason).unwrap_or_else(|| format!("{status:?}")),
    }
}

/// A file's path, as a setting.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn a_server_does_not_start_with_a_secret_that_everybody_can_read() {
    let files = Files::new();
    fs::set_permissions(files.path("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let issuers = files.issuer("");
    let settings = [("auth.mode", "jwt"), ("auth.issuers", &*issuers), ("auth.rules", CHAT)];
    let said = TestServer::refused_start(&settings).await;
    assert!(said.contains("cannot tell callers apart") && said.contains("open to everybody (mode 0644)"), "{said}");
}

#[tokio::test]
async fn a_token_says_who_the_client_is_whatever_it_calls_itself() {
    let files = Files::new();
    let server = jwt(&files.issuer(", client_prefix = \"u:\""), CHAT, &[]).await;
    let bearer = bearer(&token("alice", json!({})));
    let mut client = server.try_call(&[("authorization", &bearer), ("x-client-id", "root")]).await.unwrap();
    client.send(hello("admin")).await;
    let welcome = client.welcomed().await;
    assert_eq!(welcome.client_id, "u:alice");
    assert!(welcome.token_expires_us > 0);
    server.leave().await;
}

#[tokio::test]
async fn health_and_reflection_ask_for_nothing() {
    use bowline::proto::health::{HealthCheckRequest, health_client::HealthClient};
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, &[]).await;
    let mut health = HealthClient::new(server.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    server.leave().await;
}
