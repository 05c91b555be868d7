//! Every credential, by every way it can come, and what is said to it.

use bowline::proto::v1::Hello;
use serde_json::{Value, json};

use super::{Files, bearer, claims, issuer, jwt, list, reason, shown};
use crate::{
    support::{TestServer, hello},
    tokens::{Signer, key_set, later},
};

const OK: &str = "OK";
const INVALID: &str = "TOKEN_INVALID";
const EXPIRED: &str = "TOKEN_EXPIRED";

/// Shown with the call, with a unary call, and with Hello: what comes of each.
async fn shown_every_way(server: &TestServer, token: &str) -> [String; 3] {
    let bearer = bearer(token);
    let metadata = [("authorization", &*bearer)];
    let called = match server.try_call(&metadata).await {
        Ok(mut client) => {
            client.send(hello("")).await;
            client.welcomed().await;
            OK.to_owned()
        }
        Err(status) => reason(&Err::<(), _>(status)),
    };
    let listed = reason(&list(server, &metadata).await);
    let mut client = server.call().await;
    client.send(Hello { token: token.to_owned(), ..hello("") }).await;
    let said = match client.heard().await {
        crate::support::Heard::Frame(_) => OK.to_owned(),
        crate::support::Heard::End(status) => reason(&Err::<(), _>(status.unwrap())),
    };
    [called, listed, said]
}

fn claim_sets() -> Vec<(Value, &'static str)> {
    vec![
        (json!({}), OK),
        (json!({"aud": ["x", "bowline"]}), OK),
        (json!({"exp": later(-50)}), OK),
        (json!({"nbf": later(50)}), OK),
        (json!({"exp": later(-70)}), EXPIRED),
        (json!({"exp": null}), INVALID),
        (json!({"exp": "soon"}), INVALID),
        (json!({"nbf": later(70)}), INVALID),
        (json!({"iat": later(70)}), INVALID),
        (json!({"iss": null}), INVALID),
        (json!({"iss": "https://evil.test"}), INVALID),
        (json!({"aud": null}), INVALID),
        (json!({"aud": "other"}), INVALID),
        (json!({"sub": null}), INVALID),
        (json!({"sub": ""}), INVALID),
        (json!({"sub": "two words"}), INVALID),
    ]
}

#[tokio::test]
async fn a_token_is_held_to_its_claims_by_whatever_way_it_comes() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), super::CHAT, &[]).await;
    let mut cases = 0;
    for (more, expected) in claim_sets() {
        let token = super::token("alice", more.clone());
        assert_eq!(shown_every_way(&server, &token).await, [expected; 3], "{more}");
        cases += 3;
    }
    assert_eq!(cases, 48);
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn every_algorithm_works_with_its_own_keys_and_with_no_others() {
    let files = Files::new();
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let (signer, stranger) = (Signer::new(algorithm, Some("a")), Signer::new(algorithm, Some("a")));
        let pem = files.write("key.pem", &signer.public_pem());
        let set = files.write("set.json", &key_set(&[&signer]));
        for keys in [format!("public_key_files = [{pem:?}]"), format!("jwks_file = {set:?}")] {
            let server = jwt(&issuer(algorithm, &keys), super::CHAT, &[]).await;
            let claims = claims("alice", json!({}));
            for (token, expected) in [
                (signer.sign(&claims), OK),
                (stranger.sign(&claims), INVALID),
                (Signer::secret(&signer.public_pem()).sign(&claims), INVALID),
                (signer.sign_as(&json!({"alg": "none"}), &claims), INVALID),
                (signer.sign_as(&json!({"alg": "HS256"}), &claims), INVALID),
            ] {
                assert_eq!(shown_every_way(&server, &token).await, [expected; 3], "{algorithm}: {token}");
            }
            server.leave().await;
        }
    }
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused_in_the_same_words() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), super::CHAT, &[]).await;
    let (good, other) = (super::token("alice", json!({})), super::token("bob", json!({})));
    let parts: Vec<_> = good.split('.').collect();
    let foreign: Vec<_> = other.split('.').collect();
    let forged = [
        format!("{}.{}.{}", parts[0], foreign[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        good[..good.len() - 4].to_owned(),
        "a.b.c".to_owned(),
        "x".repeat(5000),
        Signer::secret("another secret of thirty-two bytes").sign(&claims("alice", json!({}))),
    ];
    for token in &forged {
        let bearer = bearer(token);
        let Err(status) = list(&server, &[("authorization", &bearer)]).await else { panic!("accepted: {token}") };
        let said = (status.code(), status.message());
        assert_eq!(said, (tonic::Code::Unauthenticated, "the credentials were not accepted"), "{token}");
    }
    server.leave().await;
}

#[tokio::test]
async fn one_credential_is_believed_and_two_are_not() {
    let files = Files::new();
    let keys = files.write("keys", &format!("# back ends\nbackend {}\n", sha256("backend-key")));
    let server = jwt(&files.issuer(""), super::CHAT, &[("auth.api_key_file", &shown(&keys))]).await;
    let good = bearer(&super::token("alice", json!({})));
    let (token, key) = (("authorization", &*good), ("x-api-key", "backend-key"));
    let basic = ("authorization", "Basic YTpi");
    for (metadata, on_stream, unary) in [
        (&[][..], OK, INVALID),
        (&[token], OK, OK),
        (&[token, token], INVALID, INVALID),
        (&[token, key], INVALID, INVALID),
        (&[token, basic], INVALID, INVALID),
        (&[basic], INVALID, INVALID),
        (&[("authorization", "Bearer")], INVALID, INVALID),
        (&[("authorization", "")], INVALID, INVALID),
        (&[key], INVALID, OK),
        (&[key, key], INVALID, INVALID),
        (&[("x-api-key", "guess")], INVALID, INVALID),
        (&[("x-client-id", "alice")], OK, INVALID),
    ] {
        assert_eq!(reason(&server.try_call(metadata).await), on_stream, "{metadata:?}");
        assert_eq!(reason(&list(&server, metadata).await), unary, "{metadata:?}");
    }
    // A call may leave its token to Hello; then that has to have one, and no call has two.
    for (metadata, said, expected) in [
        (&[][..], "", INVALID),
        (&[], "nonsense", INVALID),
        (&[token], "nonsense", INVALID),
        (&[token], &*super::token("alice", json!({})), INVALID),
    ] {
        let mut client = server.try_call(metadata).await.unwrap();
        client.send(Hello { token: said.to_owned(), ..hello("alice") }).await;
        client.ended_with(tonic::Code::Unauthenticated, expected).await;
    }
    server.leave().await;
}

fn sha256(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
