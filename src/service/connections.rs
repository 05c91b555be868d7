//! `ConnectionService`: the connections of this replica, for operators.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{caller, page};
use crate::{
    auth::Ask,
    error::{Failure, Reason},
    proto::v1::{self, connection_service_server::ConnectionService, disconnect_request::Target},
    registry::{Entry, Registry, SessionStatus, State},
    types::{ClientId, ConnectionId, Invalid},
};

/// The service.
#[derive(Debug)]
pub(super) struct Connections {
    registry: Arc<Registry>,
}

impl Connections {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
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
        let id = ConnectionId::parse(id)?;
        self.registry.get(id).ok_or_else(|| Failure::new(Reason::NotFound, format!("there is no connection {id}")))
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

    fn disconnect(&self, request: v1::DisconnectRequest) -> Result<v1::DisconnectResponse, Failure> {
        let entries = match request.target {
            Some(Target::ConnectionId(id)) => vec![self.find(&id)?],
            Some(Target::ClientId(id)) => self.registry.page(Some(&ClientId::parse(&id)?), 0, usize::MAX),
            None => return Err(Invalid::new("target", "must be set").into()),
        };
        for entry in &entries {
            entry.close(Failure::new(Reason::Disconnected, "an operator closed the connection"));
        }
        Ok(v1::DisconnectResponse { disconnected_count: u32::try_from(entries.len()).unwrap_or(u32::MAX) })
    }
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
        Ok(Response::new(self.disconnect(request.into_inner())?))
    }
}
