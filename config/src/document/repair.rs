//! Finds each syntax error once, and what of a file can still be believed.
//!
//! One missing bracket makes a parser stumble over everything behind it. So the text is taken as statements (a header, or
//! a key with its value): the first fault is put down to the statement that is not TOML by itself, that statement is
//! blanked, and the rest is parsed again.

use std::ops::Range;
use toml::de::DeTable;

/// More than anyone would read; each costs a parse of the whole file.
const FAULTS_MAX: usize = 50;

/// A statement that is not TOML.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// Where a duplicate was written first.
    pub(crate) earlier: Option<Range<usize>>,
    pub(crate) duplicate: bool,
}

/// A file as far as it could be understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The file with every faulty statement blanked; valid TOML.
    pub(crate) text: String,
    pub(crate) faults: Vec<Fault>,
    /// The sections, from header to header, that lost a statement.
    pub(crate) damaged: Vec<Range<usize>>,
    /// Whether a header could not be read, so that something defined may seem not to be.
    pub(crate) lost_header: bool,
}

impl Parsed {
    pub(crate) fn new(text: &str) -> Self {
        let mut parsed = Self { text: text.to_string(), faults: Vec::new(), damaged: Vec::new(), lost_header: false };
        while let Some(error) = first_error(&parsed.text) {
            if parsed.faults.len() == FAULTS_MAX {
                parsed.blank(0..text.len());
                parsed.lost_header = true;
                break;
            }
            parsed.put_down(text, error);
        }
        parsed
    }

    /// Puts an error down to a statement and blanks it.
    fn put_down(&mut self, original: &str, error: Error) {
        let lines = lines(&self.text);
        let culprit = culprit(&self.text, &lines, &error);
        let statement = byte_range(&lines, &culprit);
        let kind = kind(&self.text[lines[culprit.start].clone()]);
        let alone = if error.duplicate() || statement.contains(&error.at.start) {
            None
        } else {
            // An error that was noticed later is described as the statement by itself gives it.
            first_error(&self.text[statement.clone()])
                .map(|inner| Error { at: inner.at.start + statement.start..inner.at.end + statement.start, ..inner })
        };
        let error = alone.unwrap_or(error);

        // What is missing at the end of a statement is missing behind its last character, not somewhere below.
        let end = statement.start + self.text[statement.clone()].trim_end().len();
        let at = if error.at.start > end { end..end } else { error.at.start..error.at.end.clamp(error.at.start, end.max(error.at.start)) };

        let section = section(&self.text, &lines, culprit.start);
        let earlier = if error.duplicate() { earlier(original, &self.text, &lines, &culprit, &section, kind) } else { None };
        let blanked = if kind == Some(Kind::Header) { byte_range(&lines, &section) } else { statement };
        self.lost_header |= kind == Some(Kind::Header) && !error.duplicate();
        self.faults.push(error.fault(at, &self.text, earlier));
        self.damaged.push(byte_range(&lines, &section));
        self.blank(blanked);
    }

    fn blank(&mut self, range: Range<usize>) {
        let blank: String =
            self.text[range.clone()].chars().flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8())).collect();
        self.text.replace_range(range, &blank);
    }
}

struct Error {
    at: Range<usize>,
    message: String,
}

impl Error {
    fn duplicate(&self) -> bool {
        self.message == "duplicate key"
    }

    fn fault(self, at: Range<usize>, text: &str, earlier: Option<Range<usize>>) -> Fault {
        let word = text[at.clone()].trim();
        let (message, help) = if self.duplicate() {
            (format!("`{word}` is written twice"), Some("take one of them away, or rename it".to_string()))
        } else if word.starts_with(|c: char| c.is_alphabetic()) && !self.message.contains("key") {
            (format!("`{word}` is no value; a string needs quotes"), Some(format!("write \"{word}\"")))
        } else if self.message.starts_with("string values must be quoted") && word.is_empty() {
            ("a value is missing".to_string(), None)
        } else {
            (self.message.clone(), None)
        };
        Fault { at, message, help, earlier, duplicate: self.duplicate() }
    }
}

fn first_error(text: &str) -> Option<Error> {
    let (_, errors) = DeTable::parse_recoverable(text);
    errors
        .into_iter()
        .map(|error| Error { at: error.span().unwrap_or_default(), message: error.message().to_string() })
        .min_by_key(|error| error.at.start)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    Key,
}

/// What a line begins, judged by itself; a line that begins nothing continues what is above it.
fn kind(line: &str) -> Option<Kind> {
    let line = line.trim();
    let mut inside = line.trim_start_matches('[').trim_start().chars();
    let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'');
    if line.starts_with('[') && !line.contains(',') && inside.next().is_some_and(name) {
        return Some(Kind::Header);
    }
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && key.chars().all(|c| name(c) || c == '.')).then_some(Kind::Key)
}

/// The byte ranges of lines, each with its line break.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut begin = 0;
    let mut lines: Vec<Range<usize>> = text
        .split_inclusive('\n')
        .map(|line| {
            begin += line.len();
            begin - line.len()..begin
        })
        .collect();
    if lines.is_empty() {
        lines.push(0..0);
    }
    lines
}

fn byte_range(lines: &[Range<usize>], range: &Range<usize>) -> Range<usize> {
    lines[range.start].start..lines[range.end - 1].end
}

/// The lines of the statement that an error is to be put down to.
fn culprit(text: &str, lines: &[Range<usize>], error: &Error) -> Range<usize> {
    let line = lines.partition_point(|line| line.start <= error.at.start).max(1) - 1;
    let kind_of = |line: usize| kind(&text[lines[line].clone()]);
    let statement = |line: usize| {
        let Some(start) = (0..=line).rev().find(|line| kind_of(*line).is_some()) else { return line..line + 1 };
        let next = (start + 1..lines.len()).find(|line| kind_of(*line).is_some()).unwrap_or(lines.len());
        let end = start + extent(&text[byte_range(lines, &(start..next))]);
        // Below a statement that has ended, what begins none is one by itself.
        if line < end { start..end } else { line..line + 1 }
    };
    let broken = |range: &Range<usize>| first_error(&text[byte_range(lines, range)]).is_some();

    let here = statement(line);
    if error.duplicate() {
        return here;
    }
    // An error at the very beginning of a statement is usually the fault of the one above that does not end.
    let beginning = lines[here.start].start + text[lines[here.start].clone()].find(['=', ']']).unwrap_or(0);
    let above = (here.start > 0).then(|| statement(here.start - 1));
    if let Some(above) = above
        && error.at.start <= beginning
        && broken(&above)
    {
        return above;
    }
    if broken(&here) {
        return here;
    }
    let mut before = here.start;
    while before > 0 {
        let statement = statement(before - 1);
        if broken(&statement) {
            return statement;
        }
        before = statement.start;
    }
    here
}

/// How many lines a statement at the beginning of `text` has: up to where its brackets and quotes are closed.
fn extent(text: &str) -> usize {
    let mut depth = 0usize;
    let mut block: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let mut step = c.len_utf8();
            if let Some(quotes) = block {
                if rest.starts_with(quotes) {
                    block = None;
                    step = quotes.len();
                }
            } else if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| rest.starts_with(quotes)) {
                block = Some(quotes);
                step = quotes.len();
            } else {
                match c {
                    '[' | '{' => depth += 1,
                    ']' | '}' => depth = depth.saturating_sub(1),
                    '#' => break,
                    '"' | '\'' => step += rest[1..].find(c).map_or(rest.len() - 1, |end| end + 1),
                    _ => {}
                }
            }
            rest = &rest[step..];
        }
        if depth == 0 && block.is_none() {
            return index + 1;
        }
    }
    text.lines().count()
}

/// The lines of the section a line is in, from its header to before the next.
fn section(text: &str, lines: &[Range<usize>], line: usize) -> Range<usize> {
    let header = |line: &usize| kind(&text[lines[*line].clone()]) == Some(Kind::Header);
    let start = (0..=line).rev().find(header).unwrap_or(0);
    let end = (line + 1..lines.len()).find(header).unwrap_or(lines.len());
    start..end
}

/// Where the same header, or the same key in the same section, stands above.
fn earlier(
    original: &str,
    text: &str,
    lines: &[Range<usize>],
    culprit: &Range<usize>,
    section: &Range<usize>,
    kind_of: Option<Kind>,
) -> Option<Range<usize>> {
    let name = |line: &Range<usize>| -> String {
        let line = &text[line.clone()];
        let name = match kind_of {
            Some(Kind::Header) => line.split('#').next().unwrap_or_default().trim().trim_matches(['[', ']']),
            _ => line.split('=').next().unwrap_or_default(),
        };
        name.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect()
    };
    let wanted = name(&lines[culprit.start]);
    let from = if kind_of == Some(Kind::Header) { 0 } else { section.start };
    let line = (from..culprit.start).find(|line| kind(&text[lines[*line].clone()]) == kind_of && name(&lines[*line]) == wanted)?;
    let begin = lines[line].start;
    let written = &original[lines[line].clone()];
    let indent = written.len() - written.trim_start_matches([' ', '\t', '[']).len();
    let end = written.find(['=', ']']).map_or(written.len(), |end| written[..end].trim_end().len());
    Some(begin + indent..begin + end.max(indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each fault as `line:column message`, and what is left.
    fn check(text: &str, faults: &[&str], left: &[&str]) {
        let parsed = Parsed::new(text);
        let found: Vec<String> = parsed
            .faults
            .iter()
            .map(|fault| {
                let line = text[..fault.at.start].matches('\n').count() + 1;
                let column = fault.at.start - text[..fault.at.start].rfind('\n').map_or(0, |at| at + 1) + 1;
                format!("{line}:{column} {}", fault.message)
            })
            .collect();
        assert_eq!(found, faults, "{text}");
        assert!(DeTable::parse(&parsed.text).is_ok(), "{text}");
        let remaining: Vec<&str> = parsed.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(remaining, left, "{text}");
        assert_eq!(parsed.text.len(), text.len());
    }

    #[test]
    fn a_sound_file_is_left_alone() {
        check("a = 1\n[s]\nb = [\n 1,\n]\n", &[], &["a = 1", "[s]", "b = [", "1,", "]"]);
    }

    #[test]
    fn what_does_not_end_is_a_fault_where_it_should_have_ended() {
        check("a = [\"x\"\nb = 1\n[s]\nd = 1\n", &["1:9 unclosed array, expected `]`"], &["b = 1", "[s]", "d = 1"]);
        check("a = [1,\n 2\n\n[[s]]\nd = 1\n", &["2:3 unclosed array, expected `]`"], &["[[s]]", "d = 1"]);
        check("a = { x = 1\n[t]\nc = 1\n", &["1:12 unclosed inline table, expected `}`"], &["[t]", "c = 1"]);
        check("a = \"x\nb = 1\n", &["1:7 invalid basic string, expected `\"`"], &["b = 1"]);
        check("a = 1\nb = \"\"\"x\nc = 1\n", &["2:9 invalid multi-line basic string, expected `\"`"], &["a = 1", "c = 1"]);
        check("a = [1,", &["1:8 unclosed array, expected `]`"], &[]);
    }

    #[test]
    fn every_fault_is_found_once() {
        check(
            "a =\nb\nc = nope\n= 3\nd = 1\n",
            &[
                "1:4 a value is missing",
                "2:2 key with no value, expected `=`",
                "3:5 `nope` is no value; a string needs quotes",
                "4:1 unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
            ],
            &["d = 1"],
        );
    }

    #[test]
    fn a_broken_header_takes_its_section_with_it() {
        let text = "[s\na = 1\n[t]\nb = 2\n";
        check(text, &["1:3 unclosed table, expected `]`"], &["[t]", "b = 2"]);
        assert!(Parsed::new(text).lost_header);
    }

    #[test]
    fn a_duplicate_knows_the_first() {
        let text = "[ s ]\na = 1\na = 2\n[t]\n[\"s\"]\nb = 2\n";
        check(text, &["3:1 `a` is written twice", "5:2 `\"s\"` is written twice"], &["[ s ]", "a = 1", "[t]"]);
        let earlier: Vec<_> = Parsed::new(text).faults.into_iter().map(|fault| fault.earlier.map(|at| &text[at])).collect();
        assert_eq!(earlier, [Some("a"), Some("s")]);
    }
}
