//! What the admin port is shown of the server.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    admin::{self, Connections, Parts, Row},
    config::Loaded,
    connection::Shared,
    error::{Failure, Reason},
    health::Health,
    lifecycle::Lifecycle,
    registry::{Entry, Registry},
    types::{ClientId, ConnectionId},
};

/// Opens the admin port.
pub(super) fn open(
    config: &admin::Config,
    loaded: &Loaded,
    lifecycle: &Lifecycle,
    health: &Health,
    shared: &Shared,
) -> anyhow::Result<admin::Admin> {
    let parts = Parts {
        health: health.clone(),
        phase: lifecycle.watch(),
        metrics: shared.metrics.clone(),
        connections: Box::new(Listing(shared.registry.clone())),
        config: loaded.to_json(),
    };
    admin::open(config, parts, lifecycle.tasks().stop().clone()).context("cannot serve operators")
}

struct Listing(Arc<Registry>);

impl Listing {
    fn row(&self, entry: &Entry) -> Row {
        let vitals = entry.vitals();
        let (received, sent) = vitals.frames();
        Row {
            place: entry.number(),
            connection_id: entry.id().to_string(),
            client_id: entry.client_id().map(ToString::to_string).unwrap_or_default(),
            peer: entry.peer_addr().to_string(),
            state: vitals.state().as_str(),
            opened_us: entry.opened().0,
            idle_ms: vitals.idle_millis(self.0.clock().millis()),
            sessions: vitals.sessions(),
            received,
            sent,
            agent: entry.agent().to_owned(),
        }
    }
}

impl Connections for Listing {
    fn page(&self, client_id: Option<&str>, after: u64, limit: usize) -> Vec<Row> {
        let client = match client_id.map(ClientId::parse).transpose() {
            Ok(client) => client,
            // No client can have such a name.
            Err(_) => return Vec::new(),
        };
        self.0.page(client.as_ref(), after, limit).iter().map(|entry| self.row(entry)).collect()
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn close(&self, id: &str, why: &str) -> bool {
        let Some(entry) = ConnectionId::parse(id).ok().and_then(|id| self.0.get(id)) else { return false };
        let colon = if why.is_empty() { "" } else { ": " };
        let message = format!("an operator closed the connection{colon}{why}");
        entry.close(Failure::new(Reason::Disconnected, message));
        true
    }
}
