//! The bytes that chitchat writes and reads itself, version 0 of its format, as far as they have to be understood here.
//!
//! A digest is a count and one entry for each incarnation; a delta is a stream of blocks. What chitchat wrote is only taken
//! apart to be packed better; what it is given to read is always put together here, from what has been judged.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

const MAGIC: u16 = 45_139;
const VERSION: u8 = 0;

/// One incarnation of a member in one ring: what chitchat takes for a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Id {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) address: SocketAddr,
}

impl Id {
    /// The length of an entry about it in chitchat's digest.
    pub(super) fn entry_len(&self) -> usize {
        let address = if self.address.is_ipv4() { 7 } else { 19 };
        2 + self.name.len() + 8 + address + 24
    }
}

/// What a digest says of one incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) heartbeat: u64,
    /// Up to this version tombstones have been removed.
    pub(super) collected: u64,
    pub(super) version: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Ack,
}

impl Kind {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Syn),
            1 => Some(Self::SynAck),
            2 => Some(Self::Ack),
            _ => None,
        }
    }

    pub(super) fn code(self) -> u8 {
        self as u8
    }
}

/// A message that this node's chitchat has written.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Native<'a> {
    pub(super) kind: Kind,
    /// Empty in an Ack.
    pub(super) digest: Vec<Entry>,
    /// Blocks, as they are. Empty in a Syn.
    pub(super) delta: &'a [u8],
}

/// `None` for a message of another kind, or of another version of chitchat.
pub(super) fn read(bytes: &[u8]) -> Option<Native<'_>> {
    let mut rest = Reader(bytes);
    if rest.u16()? != MAGIC || rest.u8()? != VERSION {
        return None;
    }
    let kind = Kind::from_code(rest.u8()?)?;
    let mut digest = Vec::new();
    if kind != Kind::Ack {
        let count = usize::from(rest.u16()?);
        digest.reserve(count.min(rest.0.len() / 32));
        for _ in 0..count {
            digest.push(Entry { id: rest.id()?, heartbeat: rest.u64()?, collected: rest.u64()?, version: rest.u64()? });
        }
    }
    // The rest of a Syn is the name of the ring, which the other side writes from its own knowledge.
    let delta = if kind == Kind::Syn { &[] } else { rest.0 };
    Some(Native { kind, digest, delta })
}

/// A message for this node's chitchat to read. `delta` is blocks.
pub(super) fn write(kind: Kind, ring: &str, digest: &[Entry], delta: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + digest.len() * 64 + delta.len());
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([VERSION, kind.code()]);
    if kind != Kind::Ack {
        let count = u16::try_from(digest.len()).expect("the roster bounds a digest far below this");
        bytes.extend(count.to_le_bytes());
        for entry in digest {
            put_id(&mut bytes, &entry.id);
            for number in [entry.heartbeat, entry.collected, entry.version] {
                bytes.extend(number.to_le_bytes());
            }
        }
    }
    match kind {
        Kind::Syn => put_text(&mut bytes, ring),
        Kind::SynAck | Kind::Ack => bytes.extend(delta),
    }
    bytes
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names are short");
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
}

pub(super) fn put_id(bytes: &mut Vec<u8>, id: &Id) {
    put_text(bytes, &id.name);
    bytes.extend(id.incarnation.to_le_bytes());
    put_ip(bytes, id.address.ip());
    bytes.extend(id.address.port().to_le_bytes());
}

pub(super) fn put_ip(bytes: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend(ip.octets());
        }
    }
}

/// Takes from the front; `None` where there is too little.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Seven bits a byte, the low ones first; not longer than it has to be.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let whole = bits << shift >> shift == bits && (byte != 0 || shift == 0);
                return whole.then_some(number);
            }
        }
        None
    }

    /// Text with the length in two bytes before it.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub(super) fn ip(&mut self) -> Option<IpAddr> {
        match self.u8()? {
            4 => self.array().map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
            6 => self.array().map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
            _ => None,
        }
    }

    pub(super) fn id(&mut self) -> Option<Id> {
        let name = self.text()?;
        let incarnation = self.u64()?;
        let address = SocketAddr::new(self.ip()?, self.u16()?);
        Some(Id { name: name.into(), incarnation, address })
    }
}

pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
