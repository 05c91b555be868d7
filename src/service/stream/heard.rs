//! A request body whose bytes are heard as they come.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use crate::{
    connection::{BodyError, Shared},
    registry::Entry,
};

pin_project! {
    /// Passes a body on unchanged. Every piece of it counts as life: a frame may take longer to come, on a slow link,
    /// than a client may be silent.
    pub(super) struct Heard<B> {
        #[pin]
        body: B,
        shared: Arc<Shared>,
        entry: Arc<Entry>,
    }
}

impl<B> Heard<B> {
    pub(super) fn new(body: B, shared: &Arc<Shared>, entry: Arc<Entry>) -> Self {
        Self { body, shared: shared.clone(), entry }
    }
}

impl<B> Body for Heard<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.entry.vitals().heard(this.shared.registry.clock().millis(), data.len());
            this.shared.metrics.frames_received_bytes.inc_by(data.len() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
