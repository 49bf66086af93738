//! What libraries say through the `metrics` facade.
//!
//! Declared families keep their kind and labels. Other families are taken in with names that the format allows, while
//! there is room for them. Whatever does not fit is counted as dropped and shown nowhere.

use super::{Cell, Counter, FAMILIES, Gauge, Kind, Label, Metrics, exposition, lock};
use crate::telemetry::histogram;
use metrics::{Key, KeyName, Metadata, Recorder, SharedString};
use std::{collections::BTreeMap, sync::atomic::AtomicU64};

/// A family that is not declared here.
pub(super) struct Foreign {
    pub(super) kind: Kind,
    pub(super) help: String,
    pub(super) series: BTreeMap<Vec<(String, String)>, Cell>,
}

impl Recorder for Metrics {
    fn describe_counter(&self, key: KeyName, _: Option<metrics::Unit>, help: SharedString) {
        self.describe(key.as_str(), Kind::Counter, &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<metrics::Unit>, help: SharedString) {
        self.describe(key.as_str(), Kind::Gauge, &help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<metrics::Unit>, help: SharedString) {
        self.describe(key.as_str(), HISTOGRAM, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        match self.foreign_cell(key, Kind::Counter) {
            Some(Cell::Counter(Counter(cell))) => metrics::Counter::from_arc::<AtomicU64>(cell),
            _ => metrics::Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        match self.foreign_cell(key, Kind::Gauge) {
            Some(Cell::Gauge(Gauge(cell))) => metrics::Gauge::from_arc(cell),
            _ => metrics::Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        match self.foreign_cell(key, HISTOGRAM) {
            Some(Cell::Histogram(cell)) => metrics::Histogram::from_arc(cell),
            _ => metrics::Histogram::noop(),
        }
    }
}

const HISTOGRAM: Kind = Kind::Histogram(&histogram::REQUEST);

impl Metrics {
    fn describe(&self, name: &str, kind: Kind, help: &str) {
        let name = exposition::name(name);
        if FAMILIES.iter().any(|family| family.name == name) {
            return;
        }
        if let Some(foreign) = self.foreign_family(&mut lock(&self.foreign), name, kind) {
            help.clone_into(&mut foreign.help);
        }
    }

    /// A family weighs one series, so that descriptions are bounded as well.
    fn foreign_family<'a>(&self, families: &'a mut BTreeMap<String, Foreign>, name: String, kind: Kind) -> Option<&'a mut Foreign> {
        if !families.contains_key(&name) && !self.reserve(1) {
            self.dropped.add(1);
            return None;
        }
        let foreign = families.entry(name).or_insert_with(|| Foreign { kind, help: String::new(), series: BTreeMap::new() });
        (foreign.kind.name() == kind.name()).then_some(foreign)
    }

    fn foreign_cell(&self, key: &Key, kind: Kind) -> Option<Cell> {
        let name = exposition::name(key.name());
        if let Some(family) = FAMILIES.iter().find(|family| family.name == name) {
            let value = |label: &Label| key.labels().find(|given| given.key() == label.name).map(metrics::Label::value);
            let values: Option<Vec<&str>> = family.labels.iter().map(value).collect();
            return match values {
                Some(values) if values.len() == key.labels().len() && family.kind.name() == kind.name() => Some(self.cell(family, &values)),
                _ => {
                    self.dropped.add(1);
                    None
                }
            };
        }
        let mut labels: Vec<_> = key.labels().map(|label| (exposition::name(label.key()), label.value().to_owned())).collect();
        labels.sort();
        labels.dedup_by(|a, b| a.0 == b.0);
        let mut families = lock(&self.foreign);
        let Some(foreign) = self.foreign_family(&mut families, name, kind) else {
            self.dropped.add(1);
            return None;
        };
        if let Some(cell) = foreign.series.get(&labels) {
            return Some(cell.clone());
        }
        let cell = Cell::new(kind);
        if !self.reserve(kind.weight()) {
            self.dropped.add(1);
            return None;
        }
        foreign.series.insert(labels, cell.clone());
        Some(cell)
    }
}
