//! How messages lie in a tonic stream: each kind with a limit of its own, which holds before its bytes are gathered.
//!
//! tonic reads five bytes, a flag and a length, and refuses what is longer than the limit of the call; so the limits here
//! are told to it for each call (`PeerClient::max_decoding_message_size`), and checked again by whoever decodes.

use crate::{AskReply, AskRequest, EnrolReply, EnrolRequest, frame};
use bytes::{Buf, BufMut, Bytes};
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// One frame as it lies on the wire, neither understood nor checked but for its length: see [`frame::decode`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed(pub Bytes);

/// What may cross the wire, and how long it may be.
pub trait Crosses: Send + Sized + 'static {
    const BYTES_MAX: usize;

    fn put(self, into: &mut EncodeBuf<'_>) -> Result<(), Status>;

    /// `bytes` is at most [`Crosses::BYTES_MAX`] long.
    fn take(bytes: Bytes) -> Result<Self, Status>;
}

impl Crosses for Sealed {
    const BYTES_MAX: usize = frame::BYTES_MAX;

    fn put(self, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(self.0);
        Ok(())
    }

    fn take(bytes: Bytes) -> Result<Self, Status> {
        Ok(Self(bytes))
    }
}

/// The longest message of any call: what tonic is told, because it knows one limit for a service.
pub const BYTES_MAX: usize = AskReply::BYTES_MAX;

/// Addresses of members in one answer: many times more than are sent.
const PEERS_MAX: usize = 512;

macro_rules! messages {
    ($($message:ty, $bytes_max:expr $(, field $list:literal at most $items_max:expr)?;)*) => {$(
        impl Crosses for $message {
            const BYTES_MAX: usize = $bytes_max;

            fn put(self, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
                if self.encoded_len() > Self::BYTES_MAX {
                    return Err(Status::out_of_range(concat!(stringify!($message), " is longer than a peer would take")));
                }
                self.encode(into).map_err(|error| Status::internal(error.to_string()))
            }

            fn take(bytes: Bytes) -> Result<Self, Status> {
                $(at_most($items_max, $list, &bytes)?;)?
                Self::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
            }
        }
    )*};
}

messages! {
    AskRequest, 16 << 10;
    AskReply, 4 << 20;
    EnrolRequest, 64 << 10;
    EnrolReply, 256 << 10, field 4 at most PEERS_MAX;
}

/// An item of a list has two bytes on the wire at least, and many more here: so items are counted before there are any.
fn at_most(items_max: usize, list: u32, mut bytes: &[u8]) -> Result<(), Status> {
    let malformed = |error: prost::DecodeError| Status::invalid_argument(error.to_string());
    let mut items = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        items += usize::from(tag == list);
        if items > items_max {
            return Err(Status::out_of_range(format!("a list of more than {items_max} items")));
        }
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).map_err(malformed)?;
    }
    Ok(())
}

/// The codec of every call: sends `T` and receives `U`.
pub struct Bounded<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Crosses, U: Crosses> Codec for Bounded<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Half<T>;
    type Decoder = Half<U>;

    fn encoder(&mut self) -> Half<T> {
        Half(PhantomData)
    }

    fn decoder(&mut self) -> Half<U> {
        Half(PhantomData)
    }
}

/// One direction of a call.
pub struct Half<T>(PhantomData<T>);

impl<T: Crosses> Encoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.put(into)
    }
}

impl<T: Crosses> Decoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let length = from.remaining();
        if length > T::BYTES_MAX {
            return Err(Status::out_of_range(format!("a message of {length} bytes where at most {} are taken", T::BYTES_MAX)));
        }
        T::take(from.copy_to_bytes(length)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_not_longer_than_anybody_writes_it() {
        for (peers, taken) in [(0, true), (64, true), (PEERS_MAX, true), (PEERS_MAX + 1, false), (100_000, false)] {
            let reply = EnrolReply { cluster: "shop".into(), peers: vec![String::new(); peers], ..EnrolReply::default() };
            assert_eq!(EnrolReply::take(reply.encode_to_vec().into()).is_ok(), taken, "{peers} peers");
        }
    }
}
