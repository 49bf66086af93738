//! Between chitchat and the wire: packs what this node's chitchat says, and judges what others say before it hears it.
//!
//! chitchat exchanges three messages: a Syn with a digest, a SynAck with a digest and what the first digest lacks, an Ack with what
//! the second one lacks. On the way out a digest loses what the other side knows, on the way in it is made whole again. What comes
//! in has been written by an authenticated member, which may be wrong or lie. It is refused or cut down to what cannot
//! break chitchat, and never touches this node's own state. It can still say wrong things of third members, because gossip is
//! passing on: name members that do not exist (up to the bound of the roster), move a third member's heartbeat or write over its
//! facts (until that member sees it and starts a new incarnation, which it does by itself), and claim a newer
//! incarnation of it. What it says of itself is its own business, within the lengths that hold for all.

use super::{
    delta,
    native::{self, Entry, Id, Kind},
    packing::{self, Packed, Short, Unpackable, short},
    roster::{Admission, Roster},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Whoever has come within this time is named in full in every digest.
const NEW_FOR: Duration = Duration::from_secs(5);

/// In a ring of up to so many, each round reaches the three peers that chitchat chooses; in a larger one, fewer, so that what a
/// node sends in a second stays the same.
const FULL_FAN_OUT: usize = 180;

/// A digest may name so many times the members that are known, and some.
const ENTRIES_FACTOR: usize = 4;
const ENTRIES_SPARE: usize = 256;

/// More than any member's version or heartbeat: chitchat has nothing to send to who claims this version.
const NOTHING_NEWER: u64 = u64::MAX;

pub(super) struct Scribe {
    /// What chitchat calls the ring.
    ring: String,
    mark: u32,
    roster: Roster,
    /// The newest heartbeat and version of this node's own state that any message can have told.
    told: (u64, u64),
    /// Somebody said more of this node than it has ever told.
    forged: bool,
    /// Which part of a Syn has been earned, in thousandths.
    credit: usize,
    counts: Counts,
}

/// What was not let through, and why.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Messages that are no messages of this ring, or of this release or the ones around it.
    pub unreadable: u64,
    /// Messages that are longer than any member sends them, or with more entries than there can be members.
    pub oversized: u64,
    /// Names of incarnations for which there was no room.
    pub crowded_out: u64,
    /// Claims about this node that it never made.
    pub forged: u64,
    /// Members and changes left out of deltas.
    pub left_out: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.unreadable += other.unreadable;
        self.oversized += other.oversized;
        self.crowded_out += other.crowded_out;
        self.forged += other.forged;
        self.left_out += other.left_out;
    }
}

/// The digest of a Syn, as far as its answer depends on it: heartbeat and version of each incarnation that it names.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Heard(BTreeMap<u32, (u64, u64)>);

/// A message that chitchat may see.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Judged {
    pub(super) native: Vec<u8>,
    /// Of a Syn.
    pub(super) heard: Option<Heard>,
}

/// To whom a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recipient<'a> {
    Member(SocketAddr),
    /// Whoever it reaches.
    Anyone,
    /// Who sent the Syn that is answered.
    Asker(&'a Heard),
}

impl Scribe {
    pub(super) fn new(ring: String, me: Id, now: Instant) -> Self {
        let mark = packing::mark(&ring);
        Self { ring, mark, roster: Roster::new(me, now), told: (0, 0), forged: false, credit: 0, counts: Counts::default() }
    }

    pub(super) fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// This node's own state has this version from now on: a delta may tell it before any digest does.
    pub(super) fn writes(&mut self, version: u64) {
        self.told.1 = self.told.1.max(version);
    }

    pub(super) fn is_forged(&self) -> bool {
        self.forged
    }

    /// What goes onto the wire for a message of this node's chitchat; `None` if it is not worth it.
    pub(super) fn pack(&mut self, message: &[u8], recipient: Recipient<'_>, now: Instant) -> Option<Vec<u8>> {
        let message = native::read(message)?;
        if message.kind != Kind::Ack {
            self.roster.observe(&message.digest, now);
        }
        if message.kind == Kind::Syn && !self.is_worthwhile(recipient) {
            return None;
        }
        let (mut full, mut shorts) = (Vec::new(), Vec::new());
        for entry in message.digest {
            if entry.id == *self.roster.me() {
                self.told = (self.told.0.max(entry.heartbeat), self.told.1.max(entry.version));
            }
            if self.roster.is_muted(&entry.id) {
                continue;
            }
            let hash = short(&entry.id);
            let known = self.roster.resolve(hash);
            let heard = match recipient {
                Recipient::Asker(heard) => heard.0.get(&hash),
                Recipient::Member(_) | Recipient::Anyone => None,
            };
            let in_short = match (recipient, heard) {
                // Who asks has at least this: that an entry is missing tells it so.
                (_, Some((heartbeat, version))) if *heartbeat >= entry.heartbeat && entry.version >= *version => continue,
                (Recipient::Asker(_), heard) => heard.is_some() && known.is_some(),
                (Recipient::Member(_) | Recipient::Anyone, _) => {
                    entry.id != *self.roster.me() && known.is_some_and(|known| now.saturating_duration_since(known.since) >= NEW_FOR)
                }
            };
            if in_short {
                shorts.push(Short { hash, heartbeat: entry.heartbeat, collected: entry.collected, version: entry.version });
            } else {
                full.push(entry);
            }
        }
        let packed = Packed { kind: message.kind, mark: self.mark, full, short: shorts, delta: message.delta };
        Some(packed.bytes())
    }

    /// Makes a message whole for this node's chitchat, without what it must not see. `None` for one that is not read.
    pub(super) fn judge(&mut self, bytes: &[u8], now: Instant) -> Option<Judged> {
        let entries_max = ENTRIES_FACTOR * self.roster.len() + ENTRIES_SPARE;
        let packed = match packing::unpack(bytes, entries_max) {
            Ok(packed) if packed.mark == self.mark => packed,
            Err(Unpackable::Length | Unpackable::Count) => {
                self.counts.oversized += 1;
                return None;
            }
            Ok(_) | Err(Unpackable::Format | Unpackable::Entry) => {
                self.counts.unreadable += 1;
                return None;
            }
        };
        let heard = (packed.kind == Kind::Syn).then(|| {
            let full = packed.full.iter().map(|entry| (short(&entry.id), (entry.heartbeat, entry.version)));
            let short = packed.short.iter().map(|entry| (entry.hash, (entry.heartbeat, entry.version)));
            Heard(full.chain(short).collect())
        });

        let mut digest = Vec::with_capacity(packed.full.len() + packed.short.len());
        for entry in packed.full {
            self.check_own(&entry.id, entry.heartbeat, entry.version);
            match self.roster.admit(&entry.id, now) {
                Admission::Welcome | Admission::Known => digest.push(entry),
                Admission::Full => self.counts.crowded_out += 1,
                Admission::Muted | Admission::Outdated => {}
            }
        }
        for Short { hash, heartbeat, collected, version } in packed.short {
            let Some(known) = self.roster.resolve(hash) else { continue };
            let id = known.id.clone();
            self.check_own(&id, heartbeat, version);
            if !self.roster.is_muted(&id) {
                digest.push(Entry { id, heartbeat, collected, version });
            }
        }
        self.fill(packed.kind, &mut digest);

        let wanted = |id: &Id| *id != *self.roster.me() && self.roster.knows(id) && !self.roster.is_muted(id);
        let judged = match packed.kind {
            Kind::Syn => Ok(delta::Judged { blocks: Vec::new(), left_out: 0 }),
            Kind::SynAck | Kind::Ack => delta::judge(packed.delta, wanted),
        };
        let Ok(delta::Judged { blocks, left_out }) = judged else {
            self.counts.unreadable += 1;
            return None;
        };
        self.counts.left_out += left_out;
        Some(Judged { native: native::write(packed.kind, &self.ring, &digest, &blocks), heard })
    }

    /// Adds who is not mentioned, so that chitchat does not send what is not wanted: the muted always, and to who answers
    /// whatever it leaves out, because it leaves out what is the same on both sides.
    fn fill(&self, kind: Kind, digest: &mut Vec<Entry>) {
        let silent = |id: &Id| Entry { id: id.clone(), heartbeat: 0, collected: 0, version: NOTHING_NEWER };
        match kind {
            Kind::Syn => digest.extend(self.roster.muted().filter(|id| self.roster.knows(id)).map(silent)),
            Kind::SynAck => {
                let named: BTreeSet<Id> = digest.iter().map(|entry| entry.id.clone()).collect();
                digest.extend(self.roster.ids().filter(|id| !named.contains(id)).map(silent));
            }
            Kind::Ack => {}
        }
    }

    fn check_own(&mut self, id: &Id, heartbeat: u64, version: u64) {
        if id == self.roster.me() && (heartbeat > self.told.0 || version > self.told.1) {
            self.forged = true;
            self.counts.forged += 1;
        }
    }

    fn is_worthwhile(&mut self, recipient: Recipient<'_>) -> bool {
        match recipient {
            Recipient::Anyone | Recipient::Asker(_) => true,
            Recipient::Member(address) => {
                self.credit += (1_000 * FULL_FAN_OUT / self.roster.len().max(1)).min(1_000);
                let earned = self.credit >= 1_000;
                if earned {
                    self.credit -= 1_000;
                }
                earned && self.roster.is_worthwhile(address)
            }
        }
    }
}

#[cfg(test)]
mod tests;
