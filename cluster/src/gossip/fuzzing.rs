//! Doors for a fuzzer: what reads the bytes and the words of other members, without the node around it.
//!
//! Nothing here decides anything. Each door calls the one place that a node calls, and has the way back where there is one.

use super::{
    delta,
    native::{self, Id},
    packing::{self, Packed},
    record,
    scribe::Scribe,
    told::{self, Base, Note},
};
use chitchat::{ChitchatMessage, Deserializable};
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// A message as it travels, taken apart.
pub struct Message<'a>(Packed<'a>);

impl<'a> Message<'a> {
    pub fn read(bytes: &'a [u8], entries_max: usize) -> Option<Self> {
        packing::unpack(bytes, entries_max).ok().map(Self)
    }

    pub fn written(&self) -> Vec<u8> {
        self.0.bytes()
    }
}

/// The blocks of a delta, judged: `None` for what no member writes.
pub fn judge_delta(blocks: &[u8]) -> Option<Vec<u8>> {
    delta::judge(blocks, |_| true).ok().map(|judged| judged.blocks)
}

/// Cuts a message where its delta begins, and unpacks that.
pub fn apart(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let packed = packing::unpack(bytes, usize::MAX).ok()?;
    let (head, blocks) = bytes.split_at(bytes.len() - packed.delta.len());
    Some((head.to_vec(), delta::unpacked(blocks)?))
}

/// Packs operations as blocks that are not compressed.
pub fn blocks(operations: &[u8]) -> Vec<u8> {
    delta::pack(operations)
}

/// The operations in blocks.
pub fn operations(blocks: &[u8]) -> Option<Vec<u8>> {
    delta::unpacked(blocks)
}

/// Who judges messages of a ring before chitchat sees them, as the node `name`.
pub struct Judge(Scribe);

impl Judge {
    pub fn new(ring: &str, name: &str, incarnation: u64, address: SocketAddr, now: Instant) -> Self {
        Self(Scribe::new(ring.to_owned(), Id { name: name.into(), incarnation, address }, now))
    }

    /// What chitchat would be given.
    pub fn judge(&mut self, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.0.judge(bytes, now).map(|judged| judged.native)
    }

    /// How many incarnations it knows.
    pub fn known(&mut self) -> usize {
        self.0.roster().len()
    }
}

/// Whether chitchat reads this, all of it, and it is a message that this node reads too.
pub fn is_native(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    ChitchatMessage::deserialize(&mut rest).is_ok() && rest.is_empty() && native::read(bytes).is_some()
}

/// What one incarnation has told.
#[derive(Default)]
pub struct Told(told::Told);

impl Told {
    /// A key's new value, or that it is gone.
    pub fn take(&mut self, key: &str, value: Option<&str>) {
        self.0.take(key, value);
    }

    /// How many entries are held, over all keys.
    pub fn entries(&self) -> usize {
        let told = &self.0;
        let notes: usize = told.notes.values().map(|note| note.speakers.len() + note.hears.len()).sum();
        let regional: usize = told.regional.values().map(|services| services.len()).sum();
        let lists = told.health.len() + told.forgotten.len() + told.forgotten_regions.len() + told.hears.len();
        lists + told.records.len() + told.notes.len() + notes + told.regional.len() + regional
    }

    /// What it says of itself, written anew, and whether that reads the same.
    pub fn reads_itself(&self, address: SocketAddr) -> bool {
        let Some(facts) = self.0.facts(address) else { return true };
        let mut again = Self::default();
        again.take("f", Some(&Base::text(&facts)));
        again.take("s", Some(&facts.state.name()[..1]));
        again.take("c", Some(&told::cut(&facts.configuration)));
        again.take("l", Some(&facts.load.to_string()));
        for (service, summary) in &facts.health {
            again.take(&format!("h/{service}"), Some(&told::summary_text(*summary)));
        }
        let notes = self.0.notes.values().all(|note| Note::read(&note.text()).as_ref() == Some(note));
        notes && again.0.unreadable == 0 && again.0.facts(address) == Some(facts)
    }
}

/// What is passed on of a member.
#[derive(PartialEq)]
pub struct Record(record::Record);

impl Record {
    pub fn read(text: &str) -> Option<Self> {
        record::Record::read(text).map(Self)
    }

    pub fn text(&self) -> String {
        self.0.text()
    }

    /// Whether merging is the same in both orders.
    pub fn merges(&self, other: &Self) -> bool {
        let (mut one, mut two) = (self.0.clone(), other.0.clone());
        one.merge(&other.0);
        two.merge(&self.0);
        let known = |record: &record::Record| (record.incarnation, record.version, record.heartbeat, record.gone);
        known(&one) == known(&two)
    }
}

/// Operations by which an incarnation says these keys, for a fuzzer to begin with.
pub fn operations_of(name: &str, incarnation: u64, address: SocketAddr, keys: &[(&str, &str)]) -> Vec<u8> {
    let mut operations = vec![delta::NODE];
    native::put_id(&mut operations, &Id { name: Arc::from(name), incarnation, address });
    operations.extend([0; 16]);
    for (version, (key, value)) in (1u64..).zip(keys) {
        operations.push(delta::CHANGE);
        for text in [key, value] {
            operations.extend((text.len() as u16).to_le_bytes());
            operations.extend(text.as_bytes());
        }
        operations.extend(version.to_le_bytes());
        operations.push(0);
    }
    operations
}

/// A message that names this incarnation in full, with a delta.
pub fn message_of(ring: &str, name: &str, incarnation: u64, address: SocketAddr, delta: &[u8]) -> Vec<u8> {
    let id = Id { name: name.into(), incarnation, address };
    let entry = native::Entry { id, heartbeat: 3, collected: 0, version: 0 };
    let kind = if delta.is_empty() { native::Kind::Syn } else { native::Kind::SynAck };
    Packed { kind, mark: packing::mark(ring), full: vec![entry], short: Vec::new(), delta }.bytes()
}
