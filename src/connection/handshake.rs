//! Hello and Welcome: who is it, which version, which features.

use tokio::time::timeout;

use super::{Actor, Shared};
use crate::{
    auth::{Caller, Identity},
    error::{Failure, Reason},
    hub::DEDUPE_DEPTH,
    proto::v1::{self, stream_data_request, stream_data_response},
    registry::Entry,
    types::{ClientId, Timestamp},
};

/// The only protocol version so far.
const VERSION: u32 = 1;
/// Optional features of this server. None yet: everything it does is in version 1.
const FEATURES: [&str; 0] = [];
/// Longest `Hello.agent`, characters.
const MAX_AGENT_LEN: usize = 128;

impl Actor {
    /// Waits for Hello and answers it. `None` if the client half-closed without a word.
    pub(super) async fn handshake(&mut self) -> Result<Option<ClientId>, Failure> {
        let limit = self.shared.config.hello_timeout;
        let late =
            |_| Failure::new(Reason::HelloTimeout, format!("no hello within {}", humantime::format_duration(limit)));
        let Some(frame) = timeout(limit, self.call.requests.next()).await.map_err(late)?? else {
            return Ok(None);
        };
        self.received();
        let Some(stream_data_request::Frame::Hello(hello)) = frame.frame else {
            return Err(Failure::new(Reason::Protocol, "the first frame must be hello"));
        };
        check_version(&hello)?;
        let caller = self.caller(&hello.token).await?;
        let client = choose_client(caller.identity(), &hello.client_id)?;
        if hello.agent.chars().count() > MAX_AGENT_LEN {
            return Err(Failure::new(
                Reason::Protocol,
                format!("hello.agent is longer than {MAX_AGENT_LEN} characters"),
            ));
        }
        let entry = self.admission.entry();
        self.admission.identify(client.clone(), &hello.agent)?;
        let expires = caller.identity().expires();
        self.standing.set(caller);
        let welcome = welcome(&self.shared, entry, &client, expires, &hello.features);
        self.outbox.send(stream_data_response::Frame::Welcome(welcome));
        if frame.request_id != 0 {
            let reply = v1::Reply { request_id: frame.request_id, ..v1::Reply::default() };
            self.outbox.send(stream_data_response::Frame::Reply(reply));
        }
        self.call.opening.set("bowline.client.id", client.to_string());
        self.call.opening.in_scope(|| {
            tracing::debug!(connection.id = %entry.id(), client.id = %client, agent = hello.agent, "connection open");
        });
        Ok(Some(client))
    }

    /// Who calls, by what came with the call or by the token of Hello; of two tokens neither is believed.
    async fn caller(&mut self, token: &str) -> Result<Caller, Failure> {
        let auth = &self.shared.auth;
        match self.call.caller.take() {
            // Where clients name themselves a token is nothing to us.
            Some(caller) if token.is_empty() || auth.names_itself() => Ok(caller),
            Some(_) => Err(Failure::new(Reason::TokenInvalid, "the credentials were not accepted")),
            None => {
                if let Some(keys) = auth.keys_wanted_by(token) {
                    keys.await;
                }
                auth.admit_by(token, self.standing.transport())
            }
        }
    }
}

fn check_version(hello: &v1::Hello) -> Result<(), Failure> {
    let (min, max) = (hello.version_min.max(1), hello.version_max.max(1));
    if (min..=max).contains(&VERSION) {
        return Ok(());
    }
    let message = format!("this server speaks version {VERSION}, the client {min} to {max}");
    Err(Failure::new(Reason::Version, message).with("version", VERSION))
}

/// Where somebody vouches for the client, what it calls itself is nothing to us.
fn choose_client(identity: &Identity, claimed: &str) -> Result<ClientId, Failure> {
    match (identity.client(), claimed) {
        (Some(client), _) if identity.is_vouched_for() => Ok(client.clone()),
        (None, "") => Ok(ClientId::generate()),
        (None, claimed) => ClientId::parse(claimed)
            .map_err(|invalid| Failure::new(Reason::Protocol, format!("hello: {invalid}")).with("field", "client_id")),
        (Some(client), claimed) if claimed.is_empty() || claimed == client.as_str() => Ok(client.clone()),
        (Some(_), _) => Err(Failure::new(Reason::Protocol, "hello.client_id contradicts the metadata")),
    }
}

/// What a client is told of the server and of its own standing there.
pub(super) fn welcome(
    shared: &Shared,
    entry: &Entry,
    client: &ClientId,
    expires: Option<Timestamp>,
    wanted: &[String],
) -> v1::Welcome {
    let (registry, session) = (shared.registry.config(), shared.directory.config());
    let millis = |duration: std::time::Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    v1::Welcome {
        version: VERSION,
        features: FEATURES.iter().filter(|f| wanted.iter().any(|w| w == **f)).map(|f| (*f).to_owned()).collect(),
        connection_id: entry.id().to_string(),
        node: shared.node.clone(),
        client_id: client.to_string(),
        heartbeat_interval_ms: millis(registry.heartbeat_interval),
        receive_timeout_ms: millis(registry.receive_timeout),
        limits: Some(v1::Limits {
            max_payload_bytes: u32::try_from(shared.config.max_payload()).unwrap_or(u32::MAX),
            max_sessions: u32::try_from(shared.config.max_sessions).unwrap_or(u32::MAX),
            max_inflight_publishes: u32::try_from(DEDUPE_DEPTH).unwrap_or(u32::MAX),
            dedupe_window_ms: millis(shared.hub.dedupe_window()),
            session_ttl_ms: millis(session.ttl),
            max_sessions_per_client: u32::try_from(session.max_per_client).unwrap_or(u32::MAX),
            key_grace_ms: millis(session.key_grace.min(session.ttl)),
        }),
        token_expires_us: expires.map_or(0, |expires| expires.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_both_speak() {
        let hello = |version_min, version_max| v1::Hello { version_min, version_max, ..v1::Hello::default() };
        check_version(&hello(0, 0)).unwrap();
        check_version(&hello(1, 7)).unwrap();
        assert_eq!(check_version(&hello(2, 7)).unwrap_err().reason, Reason::Version);
    }

    #[test]
    fn a_client_is_who_it_says_itself_and_the_same_both_times() {
        let alice = ClientId::parse("alice").unwrap();
        let (named, nobody) = (Identity::anonymous(Some(alice.clone())), Identity::default());
        assert_eq!(choose_client(&named, "").unwrap(), alice);
        assert_eq!(choose_client(&named, "alice").unwrap(), alice);
        assert_eq!(choose_client(&nobody, "alice").unwrap(), alice);
        assert!(choose_client(&nobody, "").unwrap().as_str().starts_with("anonymous-"));
        for (identity, claimed) in [(&named, "bob"), (&nobody, "two words")] {
            assert_eq!(choose_client(identity, claimed).unwrap_err().reason, Reason::Protocol);
        }
    }
}
