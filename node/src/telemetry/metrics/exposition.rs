//! Writes the Prometheus text format, version 0.0.4.
//!
//! Cells are collected shelf by shelf under its lock, and written after it was let go: a route that needs its first
//! handle never waits for a scrape.

use super::{Cell, Counter, FAMILIES, Kind, METRICS_SERIES, Metrics, Unit, lock};
use crate::telemetry::histogram::Snapshot;
use std::{fmt::Write, sync::atomic::Ordering::Relaxed};

/// What a scraper is told.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn render(metrics: &Metrics) -> String {
    // Asking for it first makes it count itself.
    let series = metrics.gauge(&METRICS_SERIES, &[]);
    series.set(metrics.series.load(Relaxed) as f64);

    let mut page = Page(String::with_capacity(metrics.series.load(Relaxed) * 100 + FAMILIES.len() * 200));
    for shelf in &metrics.shelves {
        let family = shelf.family;
        let cells: Vec<_> = lock(&shelf.series).iter().map(|(values, cell)| (values.clone(), cell.clone())).collect();
        page.head(family.name, family.kind, family.help());
        for (values, cell) in cells {
            let labels = family.labels.iter().zip(&values).map(|(label, value)| (label.name, &**value));
            page.series(family.name, family.unit, &labels_text(labels), &cell);
        }
    }
    let foreign: Vec<_> = lock(&metrics.foreign)
        .iter()
        .map(|(name, family)| (name.clone(), family.kind, family.help.clone(), family.series.clone()))
        .collect();
    for (name, kind, help, series) in foreign {
        page.head(&name, kind, &help);
        for (labels, cell) in series {
            let labels = labels_text(labels.iter().map(|(name, value)| (&**name, &**value)));
            page.series(&name, Unit::Count, &labels, &cell);
        }
    }
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        if !help.is_empty() {
            self.put(format_args!("# HELP {name} "));
            for character in help.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '\n' => self.0.push_str("\\n"),
                    _ => self.0.push(character),
                }
            }
            self.0.push('\n');
        }
        self.put(format_args!("# TYPE {name} {}\n", kind.name()));
    }

    fn series(&mut self, name: &str, unit: Unit, labels: &str, cell: &Cell) {
        match cell {
            Cell::Counter(counter) => self.counter(name, unit, labels, counter),
            Cell::Gauge(gauge) => {
                self.line_start(name, "", labels);
                self.float(gauge.get());
            }
            Cell::Histogram(histogram) => self.histogram(name, labels, &histogram.snapshot()),
        }
    }

    fn counter(&mut self, name: &str, unit: Unit, labels: &str, counter: &Counter) {
        self.line_start(name, "", labels);
        match unit {
            Unit::Seconds => self.seconds(counter.get()),
            Unit::Count | Unit::Bytes => self.put(format_args!("{}", counter.get())),
        }
        self.0.push('\n');
    }

    fn histogram(&mut self, name: &str, labels: &str, snapshot: &Snapshot) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (index, count) in snapshot.cumulative.iter().enumerate() {
            self.put(format_args!("{name}_bucket{{{labels}{comma}le=\""));
            match snapshot.bounds.get(index) {
                Some(bound) => self.seconds(*bound),
                None => self.0.push_str("+Inf"),
            }
            self.put(format_args!("\"}} {count}\n"));
        }
        self.line_start(name, "_sum", labels);
        self.seconds(snapshot.sum);
        self.0.push('\n');
        self.line_start(name, "_count", labels);
        self.put(format_args!("{}\n", snapshot.count()));
    }

    fn line_start(&mut self, name: &str, suffix: &str, labels: &str) {
        match labels {
            "" => self.put(format_args!("{name}{suffix} ")),
            _ => self.put(format_args!("{name}{suffix}{{{labels}}} ")),
        }
    }

    fn float(&mut self, value: f64) {
        match value {
            f64::INFINITY => self.0.push_str("+Inf\n"),
            f64::NEG_INFINITY => self.0.push_str("-Inf\n"),
            _ => self.put(format_args!("{value}\n")),
        }
    }

    /// Nanoseconds as seconds, exactly, without zeros at the end.
    fn seconds(&mut self, nanos: u64) {
        self.put(format_args!("{}", nanos / 1_000_000_000));
        let fraction = nanos % 1_000_000_000;
        if fraction > 0 {
            self.put(format_args!(".{fraction:09}"));
            self.0.truncate(self.0.trim_end_matches('0').len());
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes whatever is written");
    }
}

/// `a="1",b="2"`, with backslash, quote and line feed escaped.
fn labels_text<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                _ => text.push(character),
            }
        }
        text.push('"');
    }
    text
}

/// A name as the format allows it: letters, digits and underscores, not beginning with a digit.
pub(super) fn name(name: &str) -> String {
    let mut name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}
