//! Clients that show a certificate, and tokens over transports with one.

use bowline::proto::v1::{
    Hello, ListTopicsRequest, StreamDataRequest, stream_data_request, stream_data_response::Frame,
    stream_service_client::StreamServiceClient, topic_service_client::TopicServiceClient,
};
use serde_json::json;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{Files, bearer, reason, token, with};
use crate::{
    pki::{Authority, Pair},
    support::{TestServer, within},
};

/// A server whose clients may show a certificate.
struct Certified {
    servers: Authority,
    clients: Authority,
    files: Files,
    server: TestServer,
}

impl Certified {
    async fn start(mode: &str, client_cert: &str) -> Self {
        let (servers, clients, files) = (Authority::new("servers"), Authority::new("clients"), Files::new());
        let Pair { cert, key, .. } = servers.server();
        let issuers = if mode == "mtls" { "[]".to_owned() } else { files.issuer(", client_prefix = \"u:\"") };
        let paths = [("tls.crt", cert), ("tls.key", key), ("ca.crt", clients.pem()), ("revoked", String::new())];
        let [cert, key, ca, revoked] = paths.map(|(name, text)| super::shown(&files.write(name, &text)));
        let settings = [
            ("auth.mode", mode),
            ("auth.issuers", &issuers),
            ("auth.rules", super::CHAT),
            ("auth.revoked_file", &revoked),
            ("transport.tls.enabled", "true"),
            ("transport.tls.cert_file", &cert),
            ("transport.tls.key_file", &key),
            ("transport.tls.client_ca_file", &ca),
            ("transport.tls.client_cert", client_cert),
        ];
        let server = TestServer::with(&settings).await;
        Self { servers, clients, files, server }
    }

    async fn channel(&self, own: Option<&Pair>) -> Channel {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.servers.pem())).domain_name("localhost");
        let tls = match own {
            Some(pair) => tls.identity(Identity::from_pem(&pair.cert, &pair.key)),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(format!("https://{}", self.server.address)).unwrap();
        within("a transport", endpoint.tls_config(tls).unwrap().connect()).await.unwrap()
    }

    /// Whom the server welcomes, or why not.
    async fn who(&self, own: Option<&Pair>, metadata: &[(&str, &str)]) -> Result<String, Status> {
        let mut service = StreamServiceClient::new(self.channel(own).await);
        let hello = Hello { client_id: "root".to_owned(), ..Hello::default() };
        let hello = StreamDataRequest { request_id: 0, frame: Some(stream_data_request::Frame::Hello(hello)) };
        let request = with(tokio_stream::iter([hello]), metadata);
        let mut frames = within("an answer", service.stream_data(request)).await?.into_inner();
        match within("a frame", frames.message()).await?.and_then(|response| response.frame) {
            Some(Frame::Welcome(welcome)) => Ok(welcome.client_id),
            other => panic!("{other:?}"),
        }
    }

    async fn list(&self, own: Option<&Pair>, metadata: &[(&str, &str)]) -> String {
        let mut topics = TopicServiceClient::new(self.channel(own).await);
        reason(&topics.list_topics(with(ListTopicsRequest::default(), metadata)).await)
    }
}

#[tokio::test]
async fn whom_a_certificate_and_a_token_name_depends_on_the_mode() {
    for (mode, by_certificate, by_token, by_both) in [
        ("mtls", "spiffe://bowline.test/a", "TOKEN_INVALID", "spiffe://bowline.test/a"),
        ("jwt_or_mtls", "spiffe://bowline.test/a", "u:alice", "u:alice"),
        ("jwt_and_mtls", "TOKEN_INVALID", "TOKEN_INVALID", "u:alice"),
    ] {
        let certified = Certified::start(mode, "optional").await;
        let pair = certified.clients.workload("a");
        let nameless = certified.clients.server();
        let bearer = bearer(&token("alice", json!({})));
        let shown = [("authorization", &*bearer)];
        let said = |who: Result<String, Status>| who.unwrap_or_else(|status| reason(&Err::<(), _>(status)));
        for (own, metadata, expected) in [
            (Some(&pair), &[][..], by_certificate),
            (None, &shown[..], by_token),
            (Some(&pair), &shown[..], by_both),
            (None, &[], "TOKEN_INVALID"),
            (Some(&nameless), &[], "TOKEN_INVALID"),
        ] {
            assert_eq!(said(certified.who(own, metadata).await), expected, "{mode} {metadata:?}");
            let listed = if expected == "TOKEN_INVALID" { expected } else { "OK" };
            assert_eq!(certified.list(own, metadata).await, listed, "{mode} {metadata:?}");
        }
        certified.server.leave().await;
    }
}

#[tokio::test]
async fn a_certificate_is_revoked_by_its_name_or_its_number() {
    let certified = Certified::start("mtls", "required").await;
    let (first, second) = (certified.clients.workload("a"), certified.clients.workload("b"));
    for pair in [&first, &second] {
        assert_eq!(certified.list(Some(pair), &[]).await, "OK");
    }
    certified.files.write("revoked", "sub spiffe://bowline.test/a\n");
    let begun = tokio::time::Instant::now();
    while certified.list(Some(&first), &[]).await == "OK" {
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "the change is in force");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(certified.list(Some(&second), &[]).await, "OK");
    certified.server.leave().await;
}

#[tokio::test]
async fn a_mode_with_certificates_needs_a_port_that_asks_for_them() {
    let settings = [("auth.mode", "mtls"), ("auth.rules", super::CHAT)];
    let said = TestServer::refused_start(&settings).await;
    assert!(said.contains("auth.mode is \"mtls\", but transport.tls asks clients for no certificate"), "{said}");
}
