//! Judges what a peer passes on of members' states, before chitchat sees it.
//!
//! chitchat trusts its peers: there are deltas that make it panic (a version that goes back, a key that does not begin with an
//! ASCII character), deltas that grow a thousandfold when they are unpacked, and it would let anyone write over this node's own
//! state. What passes here has none of that. A single bad change is left out, as if its member had not made it; what no
//! chitchat writes makes the whole delta unreadable.

use super::native::{Id, Reader};
use std::collections::BTreeSet;

/// A delta that unpacks to more is read up to here; the rest comes with the next one.
const RAW_MAX: usize = 256 << 10;

/// A block unpacks to no more.
const BLOCK_MAX: usize = u16::MAX as usize;

/// chitchat fills a block with 16 KiB before it begins another one, so that what is read at once is in a quarter of this. A block
/// has a price of its own, even one of three bytes with nothing in it.
const BLOCKS_MAX: usize = 64;

/// A member's own facts and a representative's records are far below.
pub(super) const KEY_MAX: usize = 192;
pub(super) const VALUE_MAX: usize = 4_096;

pub(super) const NODE: u8 = 0;
pub(super) const CHANGE: u8 = 1;
const VERSION: u8 = 2;

const END: u8 = 0;
const COMPRESSED: u8 = 1;
const PLAIN: u8 = 2;

/// The empty delta.
pub(super) const NOTHING: &[u8] = &[END];

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Unreadable;

/// What came out.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Judged {
    /// Blocks for chitchat.
    pub(super) blocks: Vec<u8>,
    /// Members and changes that were left out.
    pub(super) left_out: u64,
}

/// Judges blocks. `wanted` says of whom anything may be said.
pub(super) fn judge(blocks: &[u8], mut wanted: impl FnMut(&Id) -> bool) -> Result<Judged, Unreadable> {
    if blocks == NOTHING {
        return Ok(Judged { blocks: NOTHING.to_vec(), left_out: 0 });
    }
    let (raw, cut) = unpack(blocks)?;
    let mut rest = Reader(&raw);
    let mut kept = Vec::with_capacity(raw.len());
    let mut left_out = 0;
    let mut named = BTreeSet::new();
    let mut progress: Option<Progress> = None;
    while !rest.0.is_empty() {
        let before = rest.0;
        let operation = match Operation::take(&mut rest) {
            Some(operation) => operation,
            // The last one of a delta that was cut is not whole.
            None if cut => break,
            None => return Err(Unreadable),
        };
        let bytes = &before[..before.len() - rest.0.len()];
        match operation {
            Operation::Member(id) => {
                Progress::end(progress.take(), &mut kept);
                let wanted = wanted(&id);
                if !named.insert(id) {
                    return Err(Unreadable);
                }
                if wanted {
                    kept.extend(bytes);
                } else {
                    left_out += 1;
                }
                progress = Some(Progress { wanted, version: 0, kept: 0, closed: false });
            }
            Operation::Change { version, sound } => {
                let member = progress.as_mut().filter(|member| !member.closed && version > member.version).ok_or(Unreadable)?;
                member.version = version;
                if member.wanted && sound {
                    kept.extend(bytes);
                    member.kept += 1;
                } else if member.wanted {
                    left_out += 1;
                }
            }
            Operation::Version => {
                // It stands for a state without changes; beside changes it could take the version back.
                let member = progress.as_mut().filter(|member| !member.closed && member.version == 0).ok_or(Unreadable)?;
                member.closed = true;
                if member.wanted {
                    kept.extend(bytes);
                }
            }
        }
    }
    Progress::end(progress, &mut kept);
    Ok(Judged { blocks: pack(&kept), left_out })
}

/// How far the changes of one member have come.
struct Progress {
    wanted: bool,
    version: u64,
    kept: usize,
    closed: bool,
}

impl Progress {
    /// A member all of whose changes were left out is told as a version without changes, so that they are not sent for ever.
    fn end(member: Option<Self>, kept: &mut Vec<u8>) {
        if let Some(Self { wanted: true, kept: 0, closed: false, version }) = member
            && version > 0
        {
            kept.push(VERSION);
            kept.extend(version.to_le_bytes());
        }
    }
}

enum Operation {
    Member(Id),
    Change { version: u64, sound: bool },
    Version,
}

impl Operation {
    fn take(rest: &mut Reader<'_>) -> Option<Self> {
        match rest.u8()? {
            NODE => {
                let id = rest.id()?;
                let (_collected, _from) = (rest.u64()?, rest.u64()?);
                Some(Self::Member(id))
            }
            CHANGE => {
                let (key, value, version) = (rest.text()?, rest.text()?, rest.u64()?);
                // Set, deleted, or to be deleted after a while.
                let status = rest.u8().filter(|status| *status <= 2)?;
                Some(Self::Change { version, sound: is_sound(key, value, status) })
            }
            VERSION => rest.u64().map(|_| Self::Version),
            _ => None,
        }
    }
}

/// Whether a member of any release would write this. Keys that this release does not know are kept: a newer one may.
fn is_sound(key: &str, value: &str, status: u8) -> bool {
    let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    !key.is_empty() && key.len() <= KEY_MAX && value.len() <= VALUE_MAX && graphic(key) && graphic(value) && status != 2
}

/// The operations of a delta that is not longer than what is read at once.
pub(super) fn unpacked(blocks: &[u8]) -> Option<Vec<u8>> {
    unpack(blocks).ok().filter(|(_, cut)| !cut).map(|(raw, _)| raw)
}

/// The operations as one text of bytes, and whether there was more of it than is read at once.
fn unpack(blocks: &[u8]) -> Result<(Vec<u8>, bool), Unreadable> {
    let mut rest = Reader(blocks);
    let mut raw = Vec::new();
    let mut block = vec![0; BLOCK_MAX];
    for _ in 0..=BLOCKS_MAX {
        let kind = rest.u8().ok_or(Unreadable)?;
        if kind == END {
            return if rest.0.is_empty() { Ok((raw, false)) } else { Err(Unreadable) };
        }
        let length = usize::from(rest.u16().ok_or(Unreadable)?);
        let bytes = rest.take(length).ok_or(Unreadable)?;
        match kind {
            COMPRESSED => {
                let length = zstd::bulk::decompress_to_buffer(bytes, &mut block).map_err(|_| Unreadable)?;
                raw.extend(&block[..length]);
            }
            PLAIN => raw.extend(bytes),
            _ => return Err(Unreadable),
        }
        if raw.len() > RAW_MAX {
            raw.truncate(RAW_MAX);
            return Ok((raw, true));
        }
    }
    Err(Unreadable)
}

/// In blocks that are not compressed: they go no further than to this process's own chitchat.
pub(super) fn pack(raw: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(raw.len() + 16);
    for block in raw.chunks(BLOCK_MAX) {
        blocks.push(PLAIN);
        blocks.extend((block.len() as u16).to_le_bytes());
        blocks.extend(block);
    }
    blocks.push(END);
    blocks
}

#[cfg(test)]
mod tests;
