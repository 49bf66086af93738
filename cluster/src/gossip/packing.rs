//! How a gossip message travels: chitchat's digest without what both sides know already.
//!
//! ```text
//! u8 format   u8 kind   u32 mark of the ring
//! varint n, n entries in full:   name, incarnation, address, heartbeat, collected, version
//! varint n, n entries in short:  u32 hash of name, incarnation and address, then heartbeat, collected and version
//! the rest: the blocks of the delta, as chitchat wrote them
//! ```
//!
//! Most entries are about incarnations that the other side knows: four bytes name them, and all of a heartbeat that
//! runs for weeks fits four more. In chitchat's own encoding an entry has some 65 bytes, of which compression finds fewer than this
//! leaves away. A receiver passes over short entries that it cannot resolve, which tells it no more than that the sender
//! knows somebody; it learns who that is from the answer to its own next digest, where everything that it did not name is in full.

use super::native::{Entry, Id, Kind, Reader, put_ip, put_varint};
use crate::{member::is_name, topology::Fnv};
use std::net::{IpAddr, SocketAddr};

const FORMAT: u8 = 1;

/// chitchat keeps what it writes within a datagram, and packed it is hardly ever longer. A link would carry four times as much,
/// and what is read of it costs time.
pub(super) const BYTES_MAX: usize = 64 << 10;

/// The fewest bytes of an entry, for the check of a count before anything is allocated.
const FULL_MIN: usize = 1 + 1 + 1 + 4 + 1 + 2 + 3;
const SHORT_MIN: usize = 4 + 3;

/// Four bytes that name an incarnation.
pub(super) fn short(id: &Id) -> u32 {
    let mut hash = Fnv::default();
    hash.add(id.name.as_bytes());
    hash.add(&[0xff]);
    hash.add(&id.incarnation.to_le_bytes());
    match id.address.ip() {
        IpAddr::V4(ip) => hash.add(&ip.octets()),
        IpAddr::V6(ip) => hash.add(&ip.octets()),
    }
    hash.add(&id.address.port().to_le_bytes());
    hash.mixed() as u32
}

/// Four bytes that name a ring: messages of another one are not read.
pub(super) fn mark(ring: &str) -> u32 {
    let mut hash = Fnv::default();
    hash.add(ring.as_bytes());
    hash.mixed() as u32
}

/// An entry about an incarnation that the other side is taken to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Short {
    pub(super) hash: u32,
    pub(super) heartbeat: u64,
    pub(super) collected: u64,
    pub(super) version: u64,
}

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Packed<'a> {
    pub(super) kind: Kind,
    pub(super) mark: u32,
    pub(super) full: Vec<Entry>,
    pub(super) short: Vec<Short>,
    pub(super) delta: &'a [u8],
}

/// Why a message was not read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Unpackable {
    /// Longer than anything that a member sends.
    Length,
    Format,
    /// More entries than there can be members, or than there are bytes for.
    Count,
    Entry,
}

impl Packed<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 32 * self.full.len() + 12 * self.short.len() + self.delta.len());
        bytes.extend([FORMAT, self.kind.code()]);
        bytes.extend(self.mark.to_le_bytes());
        put_varint(&mut bytes, self.full.len() as u64);
        for Entry { id, heartbeat, collected, version } in &self.full {
            put_varint(&mut bytes, id.name.len() as u64);
            bytes.extend(id.name.as_bytes());
            put_varint(&mut bytes, id.incarnation);
            put_ip(&mut bytes, id.address.ip());
            bytes.extend(id.address.port().to_le_bytes());
            [*heartbeat, *collected, *version].into_iter().for_each(|number| put_varint(&mut bytes, number));
        }
        put_varint(&mut bytes, self.short.len() as u64);
        for Short { hash, heartbeat, collected, version } in &self.short {
            bytes.extend(hash.to_le_bytes());
            [*heartbeat, *collected, *version].into_iter().for_each(|number| put_varint(&mut bytes, number));
        }
        bytes.extend(self.delta);
        bytes
    }
}

/// Reads a message with at most so many entries.
pub(super) fn unpack(bytes: &[u8], entries_max: usize) -> Result<Packed<'_>, Unpackable> {
    if bytes.len() > BYTES_MAX {
        return Err(Unpackable::Length);
    }
    let mut rest = Reader(bytes);
    let (kind, mark) = head(&mut rest).ok_or(Unpackable::Format)?;

    let count = |rest: &mut Reader<'_>, before: usize, least: usize| {
        let count = rest.varint().and_then(|count| usize::try_from(count).ok()).ok_or(Unpackable::Count)?;
        let fits = count <= entries_max.saturating_sub(before) && count <= rest.0.len() / least;
        if fits { Ok(count) } else { Err(Unpackable::Count) }
    };
    let fulls = count(&mut rest, 0, FULL_MIN)?;
    let mut full = Vec::with_capacity(fulls);
    for _ in 0..fulls {
        full.push(full_entry(&mut rest).ok_or(Unpackable::Entry)?);
    }
    let shorts = count(&mut rest, fulls, SHORT_MIN)?;
    let mut short = Vec::with_capacity(shorts);
    for _ in 0..shorts {
        short.push(short_entry(&mut rest).ok_or(Unpackable::Entry)?);
    }
    Ok(Packed { kind, mark, full, short, delta: rest.0 })
}

fn head(rest: &mut Reader<'_>) -> Option<(Kind, u32)> {
    if rest.u8()? != FORMAT {
        return None;
    }
    Some((Kind::from_code(rest.u8()?)?, rest.u32()?))
}

fn full_entry(rest: &mut Reader<'_>) -> Option<Entry> {
    let length = usize::try_from(rest.varint()?).ok()?;
    let name = std::str::from_utf8(rest.take(length)?).ok().filter(|name| is_name(name))?;
    let incarnation = rest.varint()?;
    let address = SocketAddr::new(rest.ip()?, rest.u16()?);
    let id = Id { name: name.into(), incarnation, address };
    Some(Entry { id, heartbeat: rest.varint()?, collected: rest.varint()?, version: rest.varint()? })
}

fn short_entry(rest: &mut Reader<'_>) -> Option<Short> {
    Some(Short { hash: rest.u32()?, heartbeat: rest.varint()?, collected: rest.varint()?, version: rest.varint()? })
}

#[cfg(test)]
mod tests;
