//! What counts of what a resolver says.

use super::ADDRESSES_MAX;
use cluster::dns::{Absence, Answer, Record, RecordKind};
use std::sync::Arc;

/// Records of one answer that are looked at; a resolver that is lied to should not fill our memory.
const RECORDS_MAX: usize = 4 * ADDRESSES_MAX;

/// An SRV record that names a target, in the order of RFC 2782.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) target: Arc<str>,
    pub(super) port: u16,
    pub(super) weight: u16,
}

impl Service {
    pub(super) fn of(record: &Record) -> Option<Self> {
        match record {
            Record::Srv { priority, weight, port, target } => {
                Some(Self { priority: *priority, target: Arc::clone(target), port: *port, weight: *weight })
            }
            Record::Address(_) => None,
        }
    }
}

/// An answer with what belongs to the question, in an order of its own; without any of that, it says that there is nothing.
pub(super) fn sensible(kind: RecordKind, answer: Answer) -> Answer {
    let Answer::Records { records, ttl } = answer else { return answer };
    let belongs = |record: &Record| match (kind, record) {
        (RecordKind::A, Record::Address(ip)) => ip.is_ipv4() && !ip.is_unspecified(),
        (RecordKind::Aaaa, Record::Address(ip)) => ip.is_ipv6() && !ip.is_unspecified(),
        (RecordKind::Srv, Record::Srv { port, target, .. }) => *port > 0 && !target.is_empty() && **target != *".",
        _ => false,
    };
    let mut records: Vec<Record> = records.into_iter().take(RECORDS_MAX).filter(belongs).collect();
    records.sort();
    records.dedup();
    if records.is_empty() { Answer::Nothing(Absence::NoRecord) } else { Answer::Records { records, ttl } }
}
