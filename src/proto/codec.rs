//! How unary calls' messages are read and written: as ever, but for requests that would cost far more than they weigh.

use std::marker::PhantomData;

use prost::{Message, Name, bytes::Buf as _};
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::ProstCodec;

use super::shape;
use crate::error::{Failure, Reason};

/// See the module.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as codec::Codec>::Encoder;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

/// Refuses what is not modest: TOO_LARGE.
#[derive(Debug, Clone)]
pub struct Decoder<U>(PhantomData<U>);

impl<U: Message + Default + Name> codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A whole message, in one piece. What a server answers is trusted, and may be long.
        if U::NAME.ends_with("Request") && !shape::is_modest::<U>(buffer.chunk()) {
            return Err(Failure::new(Reason::TooLarge, "the request has too many fields").into());
        }
        let read = U::decode(buffer);
        read.map(Some).map_err(|_| Failure::new(Reason::Protocol, "the message cannot be decoded").into())
    }
}
