//! What the registry can ask of a connection.

use std::sync::Arc;

use super::{Shared, outbox::Outbox, standing::Standing};
use crate::{
    error::Failure,
    proto::v1::{self, stream_data_response::Frame},
    registry::{Backlog, DrainNotice, Peer, SessionStatus},
};

/// A connection, as the registry holds it.
#[derive(Debug)]
pub(super) struct StreamPeer {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    standing: Arc<Standing>,
}

impl StreamPeer {
    pub(super) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, standing: Arc<Standing>) -> Arc<Self> {
        Arc::new(Self { shared, outbox, standing })
    }
}

impl Peer for StreamPeer {
    fn heartbeat(&self, reply_requested: bool) -> bool {
        self.outbox.heartbeat(reply_requested)
    }

    /// The frame alone would not move a client: one that reconnects reuses its transport, so that must go as well. And
    /// GOAWAY alone would not be seen: gRPC does not show it to a call that is running.
    fn drain(&self, notice: DrainNotice) {
        let millis = |duration: std::time::Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        self.outbox.send(Frame::Drain(v1::Drain {
            reason: notice.reason.as_ref().to_owned(),
            reconnect_delay_ms: millis(notice.reconnect_delay),
            // 0 says that there is none.
            deadline_ms: notice.deadline.map_or(0, |deadline| millis(deadline).max(1)),
        }));
        if notice.deadline.is_some() {
            self.standing.transport().go_away();
        }
    }

    fn close(&self, failure: Failure) {
        self.outbox.close(failure);
    }

    fn sessions(&self) -> Vec<SessionStatus> {
        self.outbox.sessions()
    }

    fn backlog(&self) -> Backlog {
        self.outbox.backlog()
    }

    fn review(&self) {
        self.standing.review(&self.shared, &self.outbox);
    }
}
