//! A call's frames, as they come out of its request body.
//!
//! The usual reader keeps a buffer as large as the largest frame there has been, for as long as the call lives: a client
//! that sends one of five megabytes and then nothing would hold as much of our memory for a day. Here a frame that
//! comes in one piece is read where it lies, and one that does not is put together in a buffer that goes with it.

use std::{fmt, future::poll_fn, pin::Pin};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body;
use prost::Message as _;

use crate::{
    error::{self, Failure, Reason},
    proto::{self, v1::StreamDataRequest},
};

/// What goes wrong with a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes before each message: a flag, and its length.
const PREFIX: usize = 5;

/// Bytes that there is room for before they come.
const EAGER: usize = 64 * 1024;

/// See the module.
pub struct Frames {
    body: Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>,
    /// What has come and was not looked at.
    chunk: Bytes,
    /// The beginning of a frame whose rest has not come; never more than one.
    partial: BytesMut,
    limit: usize,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("chunk", &self.chunk.len()).field("partial", &self.partial.len()).finish()
    }
}

impl Frames {
    /// The frames of a body; each may be of `limit` bytes.
    pub fn new(body: impl Body<Data = Bytes, Error = BodyError> + Send + 'static, limit: usize) -> Self {
        Self { body: Box::pin(body), chunk: Bytes::new(), partial: BytesMut::new(), limit }
    }

    /// The next frame; none when the client is done, which looks the same if it cancels. TOO_LARGE, PROTOCOL, or PEER_GONE
    /// for a client that is lost. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<StreamDataRequest>, Failure> {
        loop {
            if let Some(message) = self.whole()? {
                return decode(message).map(Some);
            }
            match poll_fn(|cx| self.body.as_mut().poll_frame(cx)).await {
                // Trailers say nothing to us.
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    let gone = Failure::new(Reason::PeerGone, "the client is gone");
                    return if error::is_cancel(error) { Ok(None) } else { Err(gone) };
                }
                None if self.partial.is_empty() => return Ok(None),
                None => return Err(Failure::new(Reason::Protocol, "the call ended in the middle of a frame")),
            }
        }
    }

    /// The next message if all of it is here; without it, all that is here is in `partial`.
    fn whole(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.partial.is_empty() {
            let Some(whole) = length(&self.chunk, self.limit)?.map(|length| PREFIX + length) else {
                self.put_aside(self.chunk.len());
                return Ok(None);
            };
            if self.chunk.len() >= whole {
                return Ok(Some(self.chunk.split_to(whole).slice(PREFIX..)));
            }
        }
        self.put_aside(PREFIX.saturating_sub(self.partial.len()));
        let Some(length) = length(&self.partial, self.limit)? else { return Ok(None) };
        // Not all of what is only promised.
        self.partial.reserve((PREFIX + length - self.partial.len()).min(EAGER));
        self.put_aside(PREFIX + length - self.partial.len());
        if self.partial.len() < PREFIX + length {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(PREFIX);
        Ok(Some(message))
    }

    fn put_aside(&mut self, most: usize) {
        let piece = self.chunk.split_to(most.min(self.chunk.len()));
        self.partial.extend_from_slice(&piece);
    }
}

/// How long the message is whose prefix this begins with; none before all of that is here.
fn length(bytes: &[u8], limit: usize) -> Result<Option<usize>, Failure> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [flag, length @ ..] = *prefix;
    if flag != 0 {
        return Err(Failure::new(Reason::Protocol, "a frame is compressed, or no gRPC message"));
    }
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length) if length <= limit => Ok(Some(length)),
        _ => Err(Failure::new(Reason::TooLarge, "a frame is far over the limit")),
    }
}

fn decode(message: Bytes) -> Result<StreamDataRequest, Failure> {
    // It has each field once, and so none too many.
    if let Some(request) = proto::publish(&message) {
        return Ok(request);
    }
    if !proto::is_modest::<StreamDataRequest>(&message) {
        return Err(Failure::new(Reason::TooLarge, "a frame has too many fields"));
    }
    StreamDataRequest::decode(message).map_err(|_| Failure::new(Reason::Protocol, "a frame could not be decoded"))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        task::{Context, Poll},
    };

    use futures_util::FutureExt as _;
    use http_body::Frame;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::v1::{Heartbeat, stream_data_request::Frame as Sent};

    /// What comes, piece by piece; then the end.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn message(nonce: u64) -> Vec<u8> {
        let frame = Sent::Heartbeat(Heartbeat { nonce, ..Heartbeat::default() });
        let bytes = StreamDataRequest { request_id: nonce, frame: Some(frame) }.encode_to_vec();
        prefixed(0, u32::try_from(bytes.len()).unwrap(), &bytes)
    }

    fn prefixed(flag: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
        [&[flag], &length.to_be_bytes()[..], bytes].concat()
    }

    fn next(frames: &mut Frames) -> Result<Option<u64>, Reason> {
        let next = frames.next().now_or_never().expect("a body that never waits");
        next.map(|frame| frame.map(|frame| frame.request_id)).map_err(|failure| failure.reason)
    }

    fn frames(pieces: &[&[u8]]) -> Frames {
        Frames::new(Pieces(pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect()), 1000)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            nonces in prop::collection::vec(any::<u64>(), 0..30), cuts in prop::collection::vec(0_usize..40, 1..30),
        ) {
            let all: Vec<u8> = nonces.iter().flat_map(|nonce| message(*nonce)).collect();
            let (mut pieces, mut rest) = (Vec::new(), &all[..]);
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let mut frames = frames(&pieces);
            for nonce in nonces {
                prop_assert_eq!(next(&mut frames), Ok(Some(nonce)));
                prop_assert!(frames.partial.capacity() < 200, "nothing is kept of a frame that is over");
            }
            prop_assert_eq!(next(&mut frames), Ok(None));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_as_soon_as_it_shows() {
        for (bytes, reason) in [
            (prefixed(0, 1001, &[]), Reason::TooLarge),
            (prefixed(0, u32::MAX, &[]), Reason::TooLarge),
            (prefixed(1, 5, b"xxxxx"), Reason::Protocol),
            (prefixed(0, 3, b"\xff\xff\xff"), Reason::Protocol),
            (prefixed(0, 10, b"half"), Reason::Protocol),
            (b"\0\0".to_vec(), Reason::Protocol),
        ] {
            assert_eq!(next(&mut frames(&[&bytes])), Err(reason), "{bytes:?}");
        }
    }
}
