//! What a link carries, one frame at a time, and the only decoder of it.
//!
//! A frame is an envelope of four bytes, which no release may change, and a body:
//!
//! | byte | is |
//! |---|---|
//! | 0 | the layout of the envelope, [`LAYOUT`] |
//! | 1 | nothing yet: written as zero, not looked at |
//! | 2, 3 | the kind, little-endian |
//! | 4 … | the body: protobuf where it evolves, a fixed layout where it is sent often |
//!
//! A body is at most as long as its kind allows, which is checked before anything is made of it. What it makes is at
//! most twice as large as what came in (a field that is said again makes a text grow). A kind that this build does not know is no error: a newer peer may send it, and it is skipped.

use crate::{Hello, Refusal};
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use std::fmt;

#[cfg(test)]
mod tests;

/// The longest frame, envelope included.
pub const BYTES_MAX: usize = 256 << 10;

pub const LAYOUT: u8 = 1;

const ENVELOPE: usize = 4;

/// A [`Beat`] in bytes.
const BEAT: usize = 32;

/// The ring comes before what is gossiped.
const RING: usize = 1;

#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// Who speaks: the first frame in both directions, and never again.
    Hello(Hello),
    /// Why there will be no link. Nothing follows.
    Refusal(Refusal),
    Gossip {
        ring: Ring,
        bytes: Bytes,
    },
    Beat(Beat),
    /// The peer leaves the cluster by its own will.
    Leave,
    /// A kind that this build does not know, with the length of its body.
    Unknown {
        kind: u16,
        size: usize,
    },
}

/// Among whom something is gossiped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ring {
    /// The members of one region.
    Region,
    /// The representatives of all regions.
    World,
}

/// A sign of life, from which both ends learn how far apart they and their clocks are.
///
/// The first three are read from the clock of the sender of the beat that they speak of, which never steps; nobody else can
/// tell what they mean.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, bincode::Encode, bincode::Decode)]
pub struct Beat {
    /// When this one was sent, in microseconds; never zero.
    pub sent: u64,
    /// [`Beat::sent`] of the last one that came the other way; zero if none did.
    pub echo: u64,
    /// For how many microseconds that one had been there when this one was sent.
    pub held: u64,
    /// The sender's wall clock, in microseconds since 1970.
    pub wall: u64,
}

/// What counters tell apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Hello,
    Refusal,
    Gossip,
    Beat,
    Leave,
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Longer than a frame, or than a frame of its kind.
    TooLong { length: usize, max: usize },
    /// The envelope is not whole, or the body of a fixed layout is not.
    TooShort { length: usize },
    /// An envelope that no release has written.
    Layout(u8),
    /// The body is none of its kind.
    Body { kind: Kind, why: String },
}

/// Reads one frame, all of it.
///
/// ```
/// # use shoal_proto as proto;
/// use proto::frame::{self, Frame};
///
/// let bytes = Frame::Leave.encode()?;
/// assert_eq!(bytes[..], [1, 0, 5, 0]);
/// assert_eq!(frame::decode(&bytes), Ok(Frame::Leave));
/// # Ok::<(), proto::frame::FrameError>(())
/// ```
pub fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
    at_most(bytes.len(), BYTES_MAX)?;
    let Some((envelope, body)) = bytes.split_at_checked(ENVELOPE) else { return Err(FrameError::TooShort { length: bytes.len() }) };
    if envelope[0] != LAYOUT {
        return Err(FrameError::Layout(envelope[0]));
    }
    let number = u16::from_le_bytes([envelope[2], envelope[3]]);
    let Some(kind) = Kind::of(number) else { return Ok(Frame::Unknown { kind: number, size: body.len() }) };
    at_most(body.len(), kind.body_max())?;
    match kind {
        Kind::Hello => Hello::decode(body).map(Frame::Hello).map_err(|error| kind.spoiled(error)),
        Kind::Refusal => Refusal::decode(body).map(Frame::Refusal).map_err(|error| kind.spoiled(error)),
        Kind::Gossip => {
            let Some((ring, bytes)) = body.split_first() else { return Err(FrameError::TooShort { length: body.len() }) };
            let ring = Ring::of(*ring).ok_or_else(|| kind.spoiled(format_args!("there is no ring {ring}")))?;
            Ok(Frame::Gossip { ring, bytes: Bytes::copy_from_slice(bytes) })
        }
        Kind::Beat if body.len() < BEAT => Err(FrameError::TooShort { length: body.len() }),
        Kind::Beat => {
            let read = bincode::decode_from_slice(body, FIXED);
            read.map(|(beat, _)| Frame::Beat(beat)).map_err(|error| kind.spoiled(error))
        }
        // What a later release may want to say with it is not for this one.
        Kind::Leave => Ok(Frame::Leave),
        Kind::Unknown => Ok(Frame::Unknown { kind: number, size: body.len() }),
    }
}

impl Frame {
    /// An error says that a peer would not take it.
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let size = self.size();
        at_most(size, BYTES_MAX)?;
        let mut into = BytesMut::with_capacity(size);
        into.put_slice(&[LAYOUT, 0]);
        into.put_u16_le(self.number());
        match self {
            Self::Hello(hello) => hello.encode_raw(&mut into),
            Self::Refusal(refusal) => refusal.encode_raw(&mut into),
            Self::Gossip { ring, bytes } => {
                into.put_u8(ring.number());
                into.put_slice(bytes);
            }
            Self::Beat(beat) => {
                let mut body = [0; BEAT];
                bincode::encode_into_slice(beat, &mut body, FIXED).map_err(|error| Kind::Beat.spoiled(error))?;
                into.put_slice(&body);
            }
            Self::Leave => {}
            // Nobody sends it but who wants to see that it is skipped.
            Self::Unknown { size, .. } => into.put_bytes(0, *size),
        }
        at_most(into.len() - ENVELOPE, self.kind().body_max())?;
        Ok(into.freeze())
    }

    /// Its length on the wire.
    pub fn size(&self) -> usize {
        ENVELOPE
            + match self {
                Self::Hello(hello) => hello.encoded_len(),
                Self::Refusal(refusal) => refusal.encoded_len(),
                Self::Gossip { bytes, .. } => RING + bytes.len(),
                Self::Beat(_) => BEAT,
                Self::Leave => 0,
                Self::Unknown { size, .. } => *size,
            }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Refusal(_) => Kind::Refusal,
            Self::Gossip { .. } => Kind::Gossip,
            Self::Beat(_) => Kind::Beat,
            Self::Leave => Kind::Leave,
            Self::Unknown { .. } => Kind::Unknown,
        }
    }

    fn number(&self) -> u16 {
        match self {
            Self::Hello(_) => 1,
            Self::Refusal(_) => 2,
            Self::Gossip { .. } => 3,
            Self::Beat(_) => 4,
            Self::Leave => 5,
            Self::Unknown { kind, .. } => *kind,
        }
    }
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Hello, Self::Refusal, Self::Gossip, Self::Beat, Self::Leave, Self::Unknown];

    fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Refusal,
            3 => Self::Gossip,
            4 => Self::Beat,
            5 => Self::Leave,
            _ => return None,
        })
    }

    /// The longest body of its kind.
    fn body_max(self) -> usize {
        match self {
            Self::Hello | Self::Refusal => 1 << 10,
            Self::Beat => BEAT,
            Self::Leave => 256,
            Self::Gossip | Self::Unknown => BYTES_MAX - ENVELOPE,
        }
    }

    fn spoiled(self, why: impl fmt::Display) -> FrameError {
        FrameError::Body { kind: self, why: why.to_string() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "hello",
            Self::Refusal => "refusal",
            Self::Gossip => "gossip",
            Self::Beat => "beat",
            Self::Leave => "leave",
            Self::Unknown => "unknown",
        })
    }
}

impl Ring {
    pub const ALL: [Self; 2] = [Self::Region, Self::World];

    /// The longest that one frame gossips.
    pub const BYTES_MAX: usize = BYTES_MAX - ENVELOPE - RING;

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|ring| ring.number() == number)
    }

    fn number(self) -> u8 {
        match self {
            Self::Region => 1,
            Self::World => 2,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, max } => write!(f, "{length} bytes where at most {max} are taken"),
            Self::TooShort { length } => write!(f, "{length} bytes are not a whole frame"),
            Self::Layout(layout) => write!(f, "an envelope of layout {layout}, where only {LAYOUT} is known"),
            Self::Body { kind, why } => write!(f, "a body that is no {kind}: {why}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Every fixed layout: each number as wide as its type, the lowest byte first, and never more than a body.
const FIXED: Configuration<LittleEndian, Fixint, Limit<BEAT>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<BEAT>();

fn at_most(length: usize, max: usize) -> Result<(), FrameError> {
    if length > max { Err(FrameError::TooLong { length, max }) } else { Ok(()) }
}
