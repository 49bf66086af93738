//! The numbers of one node.
//!
//! [`Metrics`] hands out cells: a counter, a gauge or a histogram for one set of label values. Whoever asks again for
//! the same values gets the same cell, which is how counts survive a reload. Asking takes a lock and a look-up, so it
//! is done once for each revision (`handles.rs`); counting afterwards is an atomic addition. What exists is declared in
//! `families.rs`.
//!
//! However large its configuration grows, a node makes room for `max_series` lines of series: see [`Values`].

mod cells;
mod exposition;
mod facade;
mod families;
mod handles;
mod process;

pub use cells::{Counter, Gauge, Hold};
pub use exposition::CONTENT_TYPE;
pub use families::*;
pub use handles::*;
pub use process::*;

use self::{cells::Cell, facade::Foreign};
use crate::telemetry::histogram::Histogram;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// What stands in the place of names beyond the cap on series.
pub const OTHER: &str = "_other";

/// What stands in the place of a route where no route matched.
pub const NONE: &str = "_none";

/// Every number that one node keeps.
pub struct Metrics {
    shelves: Vec<Shelf>,
    /// Families that came by the `metrics` facade and are not declared here.
    foreign: Mutex<BTreeMap<String, Foreign>>,
    series: AtomicUsize,
    series_max: AtomicUsize,
    /// Held apart from its shelf, because counting a drop must not look for it.
    dropped: Counter,
}

struct Shelf {
    family: &'static Family,
    /// By the values of the labels, in the order of the family's.
    series: Mutex<BTreeMap<Box<[Box<str>]>, Cell>>,
}

impl Metrics {
    pub fn new(series_max: usize) -> Self {
        let shelves: Vec<_> = FAMILIES.iter().map(|family| Shelf { family, series: Mutex::default() }).collect();
        let metrics = Self {
            shelves,
            foreign: Mutex::default(),
            series: AtomicUsize::new(0),
            series_max: AtomicUsize::new(series_max),
            dropped: Counter::default(),
        };
        metrics.series.fetch_add(1, Relaxed);
        lock(&metrics.shelf(&METRICS_SERIES_DROPPED).series).insert(Box::default(), Cell::Counter(metrics.dropped.clone()));
        metrics
    }

    /// A new cap. What exists stays, even if it is more.
    pub fn set_series_max(&self, series_max: usize) {
        self.series_max.store(series_max, Relaxed);
    }

    /// The counter for these values of the family's labels, in their order.
    pub fn counter(&self, family: &'static Family, values: &[&str]) -> Counter {
        match self.cell(family, values) {
            Cell::Counter(counter) => counter,
            _ => unreachable!("{} is a {}", family.name, family.kind.name()),
        }
    }

    pub fn gauge(&self, family: &'static Family, values: &[&str]) -> Gauge {
        match self.cell(family, values) {
            Cell::Gauge(gauge) => gauge,
            _ => unreachable!("{} is a {}", family.name, family.kind.name()),
        }
    }

    pub fn histogram(&self, family: &'static Family, values: &[&str]) -> Arc<Histogram> {
        match self.cell(family, values) {
            Cell::Histogram(histogram) => histogram,
            _ => unreachable!("{} is a {}", family.name, family.kind.name()),
        }
    }

    /// The gauges of a family that there are with this first value, and all their values.
    fn gauges(&self, family: &'static Family, first: &str) -> Vec<(Box<[Box<str>]>, Gauge)> {
        let series = lock(&self.shelf(family).series);
        let told = series.iter().filter(|(values, _)| values.first().is_some_and(|value| **value == *first));
        told.filter_map(|(values, cell)| if let Cell::Gauge(gauge) = cell { Some((values.clone(), gauge.clone())) } else { None }).collect()
    }

    /// Leaves these values as the only ones of the family, at 1: for families that tell something in their labels.
    pub fn inform(&self, family: &'static Family, values: &[&str]) {
        let mut series = lock(&self.shelf(family).series);
        self.series.fetch_sub(series.len(), Relaxed);
        series.clear();
        drop(series);
        self.gauge(family, values).set(1.0);
    }

    /// Takes away the series of nouns that are gone. To be called once a revision serves, with everything that the
    /// revision names; handles of the old revision go on counting, but nobody sees it any more. A series that comes
    /// back begins at zero.
    pub fn retire(&self, mut gone: impl FnMut(Noun, &str) -> bool) {
        for shelf in &self.shelves {
            if !shelf.family.has_names() {
                continue;
            }
            let labels = shelf.family.labels;
            let mut series = lock(&shelf.series);
            let before = series.len();
            series.retain(|values, _| {
                !labels.iter().zip(values).any(|(label, value)| match label.values {
                    Values::Named(noun) => ![OTHER, NONE].contains(&&**value) && gone(noun, value),
                    Values::Derived | Values::Closed => false,
                })
            });
            self.series.fetch_sub((before - series.len()) * shelf.family.kind.weight(), Relaxed);
        }
    }

    /// The Prometheus text format, version 0.0.4. Takes milliseconds where there are many series: not for a thread
    /// that serves requests.
    pub fn render(&self) -> String {
        exposition::render(self)
    }

    fn cell(&self, family: &'static Family, values: &[&str]) -> Cell {
        assert_eq!(values.len(), family.labels.len(), "{} has a value for each label", family.name);
        let key: Box<[Box<str>]> = values.iter().map(|value| Box::from(*value)).collect();
        let mut series = lock(&self.shelf(family).series);
        if let Some(cell) = series.get(&key) {
            return cell.clone();
        }
        if !family.has_names() {
            self.series.fetch_add(family.kind.weight(), Relaxed);
            return series.entry(key).or_insert_with(|| Cell::new(family.kind)).clone();
        }
        if self.reserve(family.kind.weight()) {
            return series.entry(key).or_insert_with(|| Cell::new(family.kind)).clone();
        }
        self.dropped.add(1);
        let other = family.labels.iter().zip(key).map(|(label, value)| match label.values {
            Values::Named(_) | Values::Derived => Box::from(OTHER),
            Values::Closed => value,
        });
        series
            .entry(other.collect())
            .or_insert_with(|| {
                self.series.fetch_add(family.kind.weight(), Relaxed);
                Cell::new(family.kind)
            })
            .clone()
    }

    fn reserve(&self, weight: usize) -> bool {
        let max = self.series_max.load(Relaxed);
        self.series.fetch_update(Relaxed, Relaxed, |series| (series + weight <= max).then_some(series + weight)).is_ok()
    }

    fn shelf(&self, family: &'static Family) -> &Shelf {
        self.shelves.iter().find(|shelf| shelf.family.name == family.name).expect("every family is in the table")
    }
}

impl Family {
    fn has_names(&self) -> bool {
        self.labels.iter().any(|label| matches!(label.values, Values::Named(_)))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} series", self.series.load(Relaxed))
    }
}

/// Nothing that is done under these locks can leave half of it behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
