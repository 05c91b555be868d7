//! The request that there are most of, read by hand: a publish of a payload, perhaps with a key, each field once. The
//! generated code looks for room and for the end at every byte of every number; whatever has more to it is left to that.

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
    let (mut request_id, mut publish, mut rest) = (None, None, Rest(message));
    while let Some(key) = rest.next() {
        match key {
            REQUEST_ID => once(&mut request_id, rest.number()?)?,
            PUBLISH => once(&mut publish, Box::new(read(rest.piece()?, message)?))?,
            _ => return None,
        }
    }
    Some(StreamDataRequest { request_id: request_id.unwrap_or_default(), frame: Some(Frame::Publish(publish?)) })
}

fn read(piece: &[u8], whole: &Bytes) -> Option<Publish> {
    let (mut session, mut seq, mut content, mut rest) = (None, None, None, Rest(piece));
    while let Some(key) = rest.next() {
        match key {
            // Of a number that is too large for its type the lower half counts.
            SESSION => once(&mut session, rest.number()? as u32)?,
            SEQ => once(&mut seq, rest.number()?)?,
            EVENT => once(&mut content, event(rest.piece()?, whole)?)?,
            _ => return None,
        }
    }
    Some(Publish { session: session.unwrap_or_default(), seq: seq.unwrap_or_default(), event: content })
}

fn event(piece: &[u8], whole: &Bytes) -> Option<NewEvent> {
    let (mut name, mut payload, mut rest) = (None, None, Rest(piece));
    while let Some(key) = rest.next() {
        match key {
            KEY => once(&mut name, whole.slice_ref(rest.piece()?))?,
            PAYLOAD => once(&mut payload, whole.slice_ref(rest.piece()?))?,
            _ => return None,
        }
    }
    let (key, payload) = (name.unwrap_or_default(), payload.unwrap_or_default());
    Some(NewEvent { key, payload, ..NewEvent::default() })
}

/// None if it has been there before: numbers would be replaced, and messages merged.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
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
    use prost::{
        Message as _,
        encoding::{WireType, encode_key, encode_varint},
    };

    use super::*;

    fn request(request_id: u64, publish: Publish) -> Bytes {
        StreamDataRequest { request_id, frame: Some(Frame::Publish(Box::new(publish))) }.encode_to_vec().into()
    }

    /// One field, as anybody may have written it.
    fn number(field: u32, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(field, WireType::Varint, &mut out);
        encode_varint(value, &mut out);
        out
    }

    fn piece(field: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(field, WireType::LengthDelimited, &mut out);
        encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    /// Fields of a message in any order and number: most of them ours.
    fn fields(ours: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Vec<u8>> {
        let other = (5..9_u32, any::<u64>()).prop_map(|(field, value)| number(field, value));
        let one = prop_oneof![20 => ours.boxed(), 1 => other.boxed()];
        prop::collection::vec(one, 1..4).prop_map(|fields| fields.concat())
    }

    fn any_request() -> impl Strategy<Value = Vec<u8>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..6);
        let event = fields(prop_oneof![bytes().prop_map(|key| piece(1, &key)), bytes().prop_map(|p| piece(3, &p))]);
        let publish = fields(prop_oneof![
            any::<u64>().prop_map(|session| number(1, session)),
            any::<u64>().prop_map(|seq| number(2, seq)),
            event.prop_map(|event| piece(3, &event)),
        ]);
        fields(prop_oneof![any::<u64>().prop_map(|id| number(1, id)), publish.prop_map(|publish| piece(4, &publish))])
    }

    proptest! {
        #[test]
        fn a_plain_publish_is_read_as_the_generated_code_reads_it(
            request_id in 0..1_u64 << 63,
            session: u32,
            seq in 0..1_u64 << 63,
            key: Vec<u8>,
            payload: Vec<u8>,
            with_event: bool,
        ) {
            let event = NewEvent { key: key.into(), payload: payload.into(), ..NewEvent::default() };
            let publish = Publish { session, seq, event: with_event.then_some(event) };
            let bytes = request(request_id, publish);
            let read = super::publish(&bytes);
            prop_assert!(read.is_some());
            prop_assert_eq!(read, StreamDataRequest::decode(bytes).ok());
        }
    }

    #[test]
    fn whatever_is_read_is_what_the_generated_code_reads() {
        let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let (read, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let any = (any_request(), any::<prop::sample::Index>(), any::<u8>(), 0..8_u8);
        runner
            .run(&any, |(mut bytes, place, noise, damage)| {
                // One in four is damaged in one place, or cut there.
                if !bytes.is_empty() {
                    let at = place.index(bytes.len());
                    match damage {
                        0 => bytes[at] = noise,
                        1 => bytes.truncate(at),
                        _ => {}
                    }
                }
                let bytes = Bytes::from(bytes);
                match super::publish(&bytes) {
                    Some(request) => {
                        prop_assert_eq!(Some(request), StreamDataRequest::decode(bytes).ok());
                        read.set(read.get() + 1);
                    }
                    None => refused.set(refused.get() + 1),
                }
                Ok(())
            })
            .unwrap();
        let counts = (read.get(), refused.get());
        assert!(counts.0 > 50 && counts.1 > 50, "{counts:?} were read and left to others: this proves little");
    }

    #[test]
    fn whatever_has_more_to_it_is_left_to_the_generated_code() {
        let event = |event| request(1, Publish { session: 1, seq: 1, event: Some(event) });
        let plain = || NewEvent { payload: "payload".into(), ..NewEvent::default() };
        assert!(publish(&event(plain())).is_some());
        let twice = [event(plain()), event(NewEvent { key: "key".into(), ..NewEvent::default() })].concat();
        let traced = NewEvent { traceparent: "00".into(), ..plain() };
        let whole = event(plain());
        let numbered_twice = [number(1, 1), whole.to_vec()].concat();
        let largest = request(u64::MAX, Publish::default());
        for other in [event(traced), twice.into(), numbered_twice.into(), whole.slice(..whole.len() - 1), largest] {
            assert_eq!(publish(&other), None);
        }
    }
}
