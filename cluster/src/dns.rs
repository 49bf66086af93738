//! What the world is asked about a name, and what it may say.

use std::{net::IpAddr, sync::Arc, time::Duration};

/// One question to the domain name system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Question {
    /// A name that ends in a dot is meant as it is; any other may be looked for in the search list of the system too.
    pub name: Arc<str>,
    pub kind: RecordKind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordKind {
    A,
    Aaaa,
    Srv,
}

/// What came of asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The least time to live of all records, aliases included.
    Records { records: Vec<Record>, ttl: Duration },
    /// The resolver knows that there is nothing: NXDOMAIN, or no record of the kind.
    Nothing(Absence),
    /// SERVFAIL, REFUSED, no answer in time, an answer that makes no sense: nothing is known.
    Failed(Arc<str>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// NXDOMAIN: the name does not exist, whatever is asked of it.
    NoName,
    /// The name exists, and has no record of this kind.
    NoRecord,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Record {
    Address(IpAddr),
    /// RFC 2782: lower priorities come first, weights share within one. The target ends in a dot, as no search list applies to
    /// it, and `.` alone says that there is no service.
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: Arc<str>,
    },
}

impl Answer {
    /// The addresses that were found, in the order of the answer.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let records = match self {
            Self::Records { records, .. } => records.as_slice(),
            Self::Nothing(_) | Self::Failed(_) => &[],
        };
        records.iter().filter_map(|record| match record {
            Record::Address(ip) => Some(*ip),
            Record::Srv { .. } => None,
        })
    }
}
