//! The answer to a publish that is stored, which is one of two frames that there are many of.

use bytes::{BufMut as _, BytesMut};

use super::{
    brief::Brief,
    encode::{PREFIX_LEN, put_prefix},
    v1,
};
use crate::types::Published;

/// Field number of `StreamDataResponse.reply`.
const RESPONSE_REPLY: u8 = 5;
/// Field numbers of `Reply`.
const REQUEST_ID: u8 = 1;
const CURSOR: u8 = 3;
const DUPLICATE: u8 = 4;
const THROUGH_SEQ: u8 = 5;
const DURABILITY: u8 = 6;
/// Field numbers of `Cursor`.
const EPOCH: u8 = 1;
const OFFSET: u8 = 2;
const TIME: u8 = 3;

/// Most bytes of a cursor: numbers of eight, ten and ten, and their keys.
const CURSOR_LEN: usize = 31;
/// Most bytes of the reply: two numbers of ten, two of one, a cursor, and what comes before each.
const REPLY_LEN: usize = 2 * 11 + 2 * 2 + 2 + CURSOR_LEN;

/// Appends a `Reply`, with its gRPC prefix.
pub fn stored(out: &mut BytesMut, request_id: u64, through_seq: u64, published: &Published) {
    let mut cursor = Brief::<CURSOR_LEN>::new();
    cursor.fixed64(EPOCH, published.cursor.epoch);
    cursor.number(OFFSET, published.cursor.offset);
    cursor.number(TIME, published.cursor.time.0);
    let mut reply = Brief::<REPLY_LEN>::new();
    reply.number(REQUEST_ID, request_id);
    reply.message(CURSOR, cursor.as_slice());
    reply.number(DUPLICATE, u64::from(published.duplicate));
    reply.number(THROUGH_SEQ, through_seq);
    reply.number(DURABILITY, v1::Durability::from(published.durability) as u64);
    let mut message = Brief::<{ 2 + REPLY_LEN }>::new();
    message.message(RESPONSE_REPLY, reply.as_slice());
    out.reserve(PREFIX_LEN + message.as_slice().len());
    put_prefix(out, message.as_slice().len());
    out.put_slice(message.as_slice());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto,
        types::{Cursor, Durability, Timestamp},
    };

    #[test]
    fn it_is_the_message_prost_would_have_written() {
        let small = Cursor { epoch: 1, offset: 2, time: Timestamp(3) };
        let large = Cursor { epoch: u64::MAX, offset: u64::MAX, time: Timestamp(u64::MAX) };
        for (request_id, through_seq, cursor, duplicate, durability) in [
            (1, 1, small, false, Durability::Accepted),
            (u64::MAX, u64::MAX, large, true, Durability::Synced),
            (300, 0, Cursor { epoch: 0, offset: 0, time: Timestamp(0) }, false, Durability::Replicated),
        ] {
            let mut own = BytesMut::new();
            stored(&mut own, request_id, through_seq, &Published { cursor, duplicate, durability });
            let reply = v1::Reply {
                request_id,
                failure: None,
                cursor: Some(cursor.into()),
                duplicate,
                through_seq,
                durability: v1::Durability::from(durability) as i32,
            };
            let mut prost = BytesMut::new();
            proto::frame(&mut prost, v1::stream_data_response::Frame::Reply(reply));
            assert_eq!(own, prost);
        }
    }
}
