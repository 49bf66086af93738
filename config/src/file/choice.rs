//! Values that may be written in more than one way.

use super::{
    AccessLogTable, HashTable, OutputTable, TlsTable,
    reader::{Node, Read, Reader},
    shape::Shape,
    value::unknown_word,
};
use std::path::PathBuf;
use toml::de::DeValue;

/// TLS, or that none is meant.
#[derive(Clone, Debug)]
pub(crate) enum TlsChoice {
    None,
    Tls(Box<TlsTable>),
}

impl Read for TlsChoice {
    fn shape() -> Shape {
        Shape::Any(vec![TlsTable::shape(), Shape::Words(&["none"])])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) if text == "none" => Some(Self::None),
            DeValue::String(text) => unknown_word(text, &["none"], node.at, r),
            DeValue::Table(_) => TlsTable::read(node, r).map(|table| Self::Tls(Box::new(table))),
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum BalanceChoice {
    PeakEwma,
    RoundRobin,
    LeastRequests,
    Hash(HashTable),
}

impl BalanceChoice {
    const WORDS: &[&str] = &["peak_ewma", "round_robin", "least_requests"];
}

impl Read for BalanceChoice {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(Self::WORDS), HashTable::shape()])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) => match &**text {
                "peak_ewma" => Some(Self::PeakEwma),
                "round_robin" => Some(Self::RoundRobin),
                "least_requests" => Some(Self::LeastRequests),
                text => unknown_word(text, Self::WORDS, node.at, r),
            },
            DeValue::Table(_) => HashTable::read(node, r).map(Self::Hash),
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum AccessLogChoice {
    Off,
    Stdout,
    File(PathBuf),
}

impl Read for AccessLogChoice {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(&["stdout", "off"]), OutputTable::shape()])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) => match &**text {
                "off" => Some(Self::Off),
                "stdout" => Some(Self::Stdout),
                text => unknown_word(text, &["stdout", "off"], node.at, r),
            },
            DeValue::Table(_) => OutputTable::read(node, r)?.file.map(|file| Self::File(file.value.0)),
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

impl AccessLogTable {
    /// Headers whose values are never written, whatever a file says.
    pub(crate) const ALWAYS_REDACTED: [&str; 4] = ["authorization", "cookie", "set-cookie", "x-api-key"];
}
