//! What a value may look like, said once: errors, the manual and the JSON Schema all read it.

use crate::ByteSize;

/// The form of a value.
#[derive(Clone)]
pub(crate) enum Shape {
    Text(Text),
    /// One of these strings.
    Words(&'static [&'static str]),
    Boolean,
    Whole {
        min: i64,
        max: i64,
    },
    /// A size in bytes with its unit.
    Size {
        min: ByteSize,
        max: ByteSize,
    },
    Number {
        min: f64,
        max: f64,
    },
    List(Box<Shape>),
    /// A table whose keys are names that the operator chooses.
    Named(Box<Shape>),
    Table(Table),
    /// Any of these; the first is the usual one.
    Any(Vec<Shape>),
}

#[derive(Clone, Copy)]
pub(crate) struct Text {
    /// With its article: `a duration`.
    pub(crate) what: &'static str,
    pub(crate) example: &'static str,
    /// A regular expression for editors; the reader is the judge.
    pub(crate) pattern: Option<&'static str>,
}

/// A table with fixed keys.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) doc: &'static [&'static str],
    pub(crate) keys: fn() -> Vec<Key>,
}

pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    pub(crate) shape: Shape,
    /// As it would be written.
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
}

impl Shape {
    pub(crate) fn text(what: &'static str, example: &'static str) -> Self {
        Self::Text(Text { what, example, pattern: None })
    }

    pub(crate) fn list(of: Shape) -> Self {
        Self::List(Box::new(of))
    }

    /// What an error says is expected: `a duration like "250ms"`.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text(text) => format!("{} like \"{}\"", text.what, text.example),
            Self::Words(words) => one_of(words.iter().map(|word| format!("\"{word}\""))),
            Self::Boolean => "true or false".to_string(),
            Self::Whole { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Size { .. } => "a size like \"64KiB\"".to_string(),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::List(of) => format!("a list, each entry {}", of.expected()),
            Self::Named(_) | Self::Table(_) => "a table".to_string(),
            Self::Any(shapes) => shapes.iter().map(Self::expected).collect::<Vec<_>>().join(", or "),
        }
    }

    /// The table that this is, or is a list or a choice of.
    pub(crate) fn table(&self) -> Option<Table> {
        match self {
            Self::Table(table) => Some(*table),
            Self::List(of) | Self::Named(of) => of.table(),
            Self::Any(shapes) => shapes.iter().find_map(Self::table),
            _ => None,
        }
    }
}

pub(crate) fn one_of(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
