//! `ConnectionService`: the connections of this replica, for operators; and their end, wherever they are.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

use tonic::{Request, Response, Status};

use super::{caller, page};
use crate::{
    auth::Ask,
    broker::{Fleet, Matter, Told},
    error::{Failure, Reason},
    proto::v1::{self, connection_service_server::ConnectionService, disconnect_request::Target},
    registry::{Entry, Registry, SessionStatus, State},
    types::{ClientId, ConnectionId, Invalid},
};

/// The service.
#[derive(Debug)]
pub(super) struct Connections {
    registry: Arc<Registry>,
    fleet: Fleet,
}

/// Which connections are to be closed, as replicas tell each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Closing {
    ConnectionId(String),
    ClientId(String),
}

impl Closing {
    /// Those of them that are here.
    fn entries(&self, registry: &Registry) -> Result<Vec<Arc<Entry>>, Invalid> {
        Ok(match self {
            Self::ConnectionId(id) => registry.get(ConnectionId::parse(id)?).into_iter().collect(),
            Self::ClientId(id) => registry.page(Some(&ClientId::parse(id)?), 0, usize::MAX),
        })
    }

    /// Closes those that are here; how many that are.
    fn close(&self, registry: &Registry) -> Result<u32, Invalid> {
        let entries = self.entries(registry)?;
        for entry in &entries {
            entry.close(Failure::new(Reason::Disconnected, "an operator closed the connection"));
        }
        Ok(u32::try_from(entries.len()).unwrap_or(u32::MAX))
    }
}

impl Connections {
    /// The service; closes what other replicas say is to be closed.
    pub(super) fn new(registry: Arc<Registry>, fleet: Fleet) -> Self {
        let here = registry.clone();
        let close = move |content: Bytes| {
            let closing = serde_json::from_slice::<Closing>(&content);
            let closed = closing.map_or(0, |closing| closing.close(&here).unwrap_or(0));
            std::future::ready(closed).boxed()
        };
        fleet.serve(Matter::Disconnect, Arc::new(close));
        Self { registry, fleet }
    }

    fn row(&self, entry: &Entry) -> v1::Connection {
        let vitals = entry.vitals();
        let (received_count, sent_count) = vitals.frames();
        v1::Connection {
            connection_id: entry.id().to_string(),
            client_id: entry.client_id().map(ToString::to_string).unwrap_or_default(),
            peer: entry.peer_addr().to_string(),
            state: match vitals.state() {
                State::Connected => v1::ConnectionState::Connected,
                State::Suspect => v1::ConnectionState::Suspect,
                State::Probed => v1::ConnectionState::Probed,
                State::Dead => v1::ConnectionState::Dead,
            } as i32,
            opened_us: entry.opened().0,
            idle_ms: vitals.idle_millis(self.registry.clock().millis()),
            session_count: vitals.sessions(),
            received_count,
            sent_count,
            agent: entry.agent().to_owned(),
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Entry>, Failure> {
        self.registry.get(ConnectionId::parse(id)?).ok_or_else(|| none(id))
    }

    fn list(&self, request: &v1::ListConnectionsRequest) -> Result<v1::ListConnectionsResponse, Failure> {
        let client = Some(request.client_id.as_str()).filter(|id| !id.is_empty()).map(ClientId::parse).transpose()?;
        let (after, size) = (page::number(&request.page_token)?, page::size(request.page_size));
        let mut entries = self.registry.page(client.as_ref(), after, size + 1);
        let next_page_token = page::cut(&mut entries, size, |entry| entry.number().to_string());
        Ok(v1::ListConnectionsResponse {
            connections: entries.iter().map(|entry| self.row(entry)).collect(),
            next_page_token,
            total_count: u32::try_from(self.registry.len()).unwrap_or(u32::MAX),
        })
    }

    async fn disconnect(&self, request: v1::DisconnectRequest) -> Result<v1::DisconnectResponse, Failure> {
        let closing = match request.target {
            Some(Target::ConnectionId(id)) => Closing::ConnectionId(id),
            Some(Target::ClientId(id)) => Closing::ClientId(id),
            None => return Err(Invalid::new("target", "must be set").into()),
        };
        let here = closing.close(&self.registry)?;
        let told = match &closing {
            // A connection is at one replica only.
            Closing::ConnectionId(_) if here > 0 => Told::default(),
            _ => self.fleet.tell(Matter::Disconnect, serde_json::to_vec(&closing).unwrap_or_default().into()).await,
        };
        let disconnected_count = here.saturating_add(told.found);
        match &closing {
            Closing::ConnectionId(id) if disconnected_count == 0 => Err(none(id)),
            _ => Ok(v1::DisconnectResponse {
                disconnected_count,
                replica_count: told.answered.saturating_add(1),
                silent_count: told.silent,
            }),
        }
    }
}

fn none(id: &str) -> Failure {
    Failure::new(Reason::NotFound, format!("there is no connection {id}"))
}

fn session_row(session: SessionStatus) -> v1::SessionStatus {
    v1::SessionStatus {
        session_id: session.session_id,
        topic: session.topic,
        cursor_offset: session.cursor,
        lag_events: session.lag,
        paused: session.paused,
        attach: session.attach,
        delivered_count: session.delivered,
    }
}

#[tonic::async_trait]
impl ConnectionService for Connections {
    async fn list_connections(
        &self,
        request: Request<v1::ListConnectionsRequest>,
    ) -> Result<Response<v1::ListConnectionsResponse>, Status> {
        caller::of(&request)?.check(Ask::Operate)?;
        Ok(Response::new(self.list(request.get_ref())?))
    }

    async fn get_connection(
        &self,
        request: Request<v1::GetConnectionRequest>,
    ) -> Result<Response<v1::GetConnectionResponse>, Status> {
        caller::of(&request)?.check(Ask::Operate)?;
        let entry = self.find(&request.get_ref().connection_id)?;
        let sessions = entry.sessions().into_iter().map(session_row).collect();
        Ok(Response::new(v1::GetConnectionResponse { connection: Some(self.row(&entry)), sessions }))
    }

    async fn disconnect(
        &self,
        request: Request<v1::DisconnectRequest>,
    ) -> Result<Response<v1::DisconnectResponse>, Status> {
        caller::of(&request)?.check(Ask::Operate)?;
        Ok(Response::new(self.disconnect(request.into_inner()).await?))
    }
}
