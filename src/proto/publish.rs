//! The request that there are most of, read by hand: a publish of a payload, perhaps with a key. The generated code looks for
//! room and for the end at every byte of every number; whatever has more to it is left to that.

use bytes::Bytes;

use super::v1::{NewEvent, Publish, StreamDataRequest, stream_data_request::Frame};

/// Keys: field number and wire type.
const REQUEST_ID: u8 = 1 << 3;
const PUBLISH: u8 = 4 << 3 | 2;
/// Of `Publish`.
const SESSION: u8 = 1 << 3;
const SEQ: u8 = 2 << 3;
const EVENT: u8 = 3 << 3 | 2;
/// Of `NewEvent`.
const KEY: u8 = 1 << 3 | 2;
const PAYLOAD: u8 = 3 << 3 | 2;

/// The request, if it is one of those; none for all others, well-formed or not.
pub fn publish(message: &Bytes) -> Option<StreamDataRequest> {
    let (mut request_id, mut publish, mut rest) = (0, None, Rest(message));
    while let Some(key) = rest.next() {
        match key {
            REQUEST_ID => request_id = rest.number()?,
            // A second one would have to be merged with the first.
            PUBLISH if publish.is_none() => publish = Some(Box::new(read(rest.piece()?, message)?)),
            _ => return None,
        }
    }
    Some(StreamDataRequest { request_id, frame: Some(Frame::Publish(publish?)) })
}

fn read(piece: &[u8], whole: &Bytes) -> Option<Publish> {
    let (mut publish, mut rest) = (Publish::default(), Rest(piece));
    while let Some(key) = rest.next() {
        match key {
            // Of a number that is too large for its type the lower half counts.
            SESSION => publish.session = rest.number()? as u32,
            SEQ => publish.seq = rest.number()?,
            EVENT if publish.event.is_none() => publish.event = Some(event(rest.piece()?, whole)?),
            _ => return None,
        }
    }
    Some(publish)
}

fn event(piece: &[u8], whole: &Bytes) -> Option<NewEvent> {
    let (mut event, mut rest) = (NewEvent::default(), Rest(piece));
    while let Some(key) = rest.next() {
        match key {
            KEY => event.key = whole.slice_ref(rest.piece()?),
            PAYLOAD => event.payload = whole.slice_ref(rest.piece()?),
            _ => return None,
        }
    }
    Some(event)
}

/// What has not been read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// The next byte, if there is one.
    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number of no more than 63 bits, which those are that anybody counts by.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.next()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A text or a message, with its length before it.
    fn piece(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn request(request_id: u64, publish: Publish) -> Bytes {
        StreamDataRequest { request_id, frame: Some(Frame::Publish(Box::new(publish))) }.encode_to_vec().into()
    }

    proptest! {
        #[test]
        fn a_plain_publish_is_read_as_the_generated_code_reads_it(
            request_id in 0..1_u64 << 63, session: u32, seq in 0..1_u64 << 63, key: Vec<u8>, payload: Vec<u8>, with_event: bool,
        ) {
            let event = NewEvent { key: key.into(), payload: payload.into(), ..NewEvent::default() };
            let publish = Publish { session, seq, event: with_event.then_some(event) };
            let bytes = request(request_id, publish);
            let read = super::publish(&bytes);
            prop_assert!(read.is_some());
            prop_assert_eq!(read, StreamDataRequest::decode(bytes).ok());
        }

        #[test]
        fn what_is_read_of_anything_is_what_the_generated_code_reads(
            fields in prop::collection::vec((prop::sample::select(vec![REQUEST_ID, PUBLISH, SESSION, SEQ, EVENT, KEY, PAYLOAD]), 0..20_u8), 0..8),
            noise: Vec<u8>,
            cut in 0..40_usize,
        ) {
            let mut bytes: Vec<u8> = fields.into_iter().flat_map(|(key, value)| [key, value]).collect();
            bytes.extend(noise);
            for bytes in [Bytes::from(bytes.clone()), request(7, Publish::default()), bytes.into()] {
                let bytes = bytes.slice(..cut.min(bytes.len()));
                if let Some(read) = super::publish(&bytes) {
                    prop_assert_eq!(Some(read), StreamDataRequest::decode(bytes).ok());
                }
            }
        }
    }

    #[test]
    fn whatever_has_more_to_it_is_left_to_the_generated_code() {
        let event = |event| request(1, Publish { session: 1, seq: 1, event: Some(event) });
        let plain = || NewEvent { payload: "payload".into(), ..NewEvent::default() };
        assert!(publish(&event(plain())).is_some());
        let twice = [event(plain()), event(NewEvent { key: "key".into(), ..NewEvent::default() })].concat();
        let traced = NewEvent { traceparent: "00".into(), ..plain() };
        let whole = event(plain());
        for other in
            [event(traced), twice.into(), whole.slice(..whole.len() - 1), request(u64::MAX, Publish::default())]
        {
            assert_eq!(publish(&other), None);
        }
    }
}
