//! The text of configuration files, and how a byte in one becomes a line and a column.
//!
//! A file that is not quite TOML is still read as far as it can be: [`Parsed`] names each fault once, at the place
//! where it was made, and holds the text with the faulty statements blanked, so that what remains can be checked and
//! every other byte stays where it was.

mod repair;

pub(crate) use repair::Parsed;

use crate::Place;
use std::{ops::Range, path::Path, path::PathBuf, sync::Arc};

/// A piece of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: u32, range: Range<usize>) -> Self {
        // The loader refuses files of 4 GiB, long before which nobody could edit one.
        Self { file, start: range.start as u32, end: range.end as u32 }
    }
}

/// A value and where it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) at: Span,
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[derive(Debug)]
struct Document {
    path: Arc<PathBuf>,
    text: Arc<str>,
    /// Where each line begins.
    lines: Vec<u32>,
    /// What must not be shown.
    secrets: Vec<Range<usize>>,
    /// Sections in which something could not be parsed: what is missing there may only seem to be.
    damaged: Vec<Range<usize>>,
}

/// All files that were opened, the first being the main one.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    all: Vec<Document>,
}

impl Documents {
    pub(crate) fn add(&mut self, path: &Path, text: Arc<str>) -> u32 {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at as u32 + 1)).collect();
        self.all.push(Document { path: Arc::new(path.to_path_buf()), text, lines, secrets: Vec::new(), damaged: Vec::new() });
        self.all.len() as u32 - 1
    }

    pub(crate) fn path(&self, file: u32) -> &Path {
        &self.all[file as usize].path
    }

    /// The file that was named first, and those that it includes.
    pub(crate) fn sources(&self) -> Vec<(PathBuf, Arc<str>)> {
        self.all.iter().map(|document| ((*document.path).clone(), Arc::clone(&document.text))).collect()
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|document| &*document.text)
    }

    pub(crate) fn text(&self, at: Span) -> &str {
        self.all[at.file as usize].text.get(at.start as usize..at.end as usize).unwrap_or_default()
    }

    /// Never shows what stands there.
    pub(crate) fn hide(&mut self, at: Span) {
        self.all[at.file as usize].secrets.push(at.start as usize..at.end as usize);
    }

    pub(crate) fn damage(&mut self, file: u32, sections: Vec<Range<usize>>) {
        self.all[file as usize].damaged.extend(sections);
    }

    pub(crate) fn is_damaged(&self, at: Span) -> bool {
        self.all[at.file as usize].damaged.iter().any(|section| section.contains(&(at.start as usize)))
    }

    /// The part of a string's value that `range` counts bytes of, or the whole string where escapes hide it.
    pub(crate) fn within(&self, at: Span, value: &str, range: Range<usize>) -> Span {
        let written = self.text(at);
        let quoted = written.len() == value.len() + 2 && written.get(1..written.len() - 1) == Some(value);
        if !quoted || range.end > value.len() {
            return at;
        }
        Span { file: at.file, start: at.start + 1 + range.start as u32, end: at.start + 1 + range.end as u32 }
    }

    pub(crate) fn place(&self, at: Span) -> Place {
        let document = &self.all[at.file as usize];
        let (line, begin) = document.line_of(at.start as usize);
        let column = document.text[begin..].char_indices().take_while(|(offset, _)| begin + offset < at.start as usize).count();
        Place { file: Arc::clone(&document.path), line: line as u32 + 1, column: column as u32 + 1 }
    }

    /// How many characters of its first line a span covers; at least 1.
    pub(crate) fn length(&self, at: Span) -> u32 {
        let document = &self.all[at.file as usize];
        let (line, _) = document.line_of(at.start as usize);
        let end = document.line_end(line).min(at.end as usize);
        document.text.get(at.start as usize..end).map_or(1, |text| text.chars().count().max(1) as u32)
    }

    /// The line a span begins on, with secrets masked character by character.
    pub(crate) fn line(&self, at: Span) -> String {
        let document = &self.all[at.file as usize];
        let (line, begin) = document.line_of(at.start as usize);
        let text = &document.text[begin..document.line_end(line)];
        let hidden = |at: usize| document.secrets.iter().any(|secret| secret.contains(&at));
        text.char_indices().map(|(offset, c)| if hidden(begin + offset) { '•' } else { c }).collect()
    }
}

impl Document {
    /// The number of a line, from 0, and where it begins.
    fn line_of(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|begin| *begin as usize <= at) - 1;
        (line, self.lines[line] as usize)
    }

    /// Without its line break.
    fn line_end(&self, line: usize) -> usize {
        let begin = self.lines[line] as usize;
        let next = self.lines.get(line + 1).map_or(self.text.len(), |next| *next as usize);
        begin + self.text[begin..next].trim_end_matches(['\n', '\r']).len()
    }
}
