//! What is wrong with a configuration: where, why, and what would be right.
//!
//! A problem carries the line it is about, so that it can be shown long after the file has changed, on a terminal
//! ([`Problem::render`]) as well as in an editor ([`Problem::to_json`]).

pub(crate) mod codes;

pub use codes::explain_code;

use crate::document::{Documents, Span};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fmt::{self, Write},
    path::PathBuf,
    sync::Arc,
};

/// Something that an operator should know of before these files are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub severity: Severity,
    /// Names the kind of problem; [`explain_code`] has a paragraph about each.
    pub code: &'static str,
    pub place: Place,
    /// How many characters of the line it is about; at least 1.
    pub length: u32,
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The other places that have a part in it.
    pub also: Vec<Place>,
    /// The line at `place`, with secrets masked; empty where there is none to show.
    pub line: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is served from a configuration that has one.
    Error,
    /// It is served, and probably not as meant.
    Warning,
}

/// Where something was written. Lines and columns count from 1; a column counts characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Place {
    pub file: Arc<PathBuf>,
    pub line: u32,
    pub column: u32,
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Several lines for a terminal: what and where, the line itself with its part underlined, and what would be right.
    pub fn render(&self) -> String {
        let mut text = format!("{}  {} {}\n", self.place, self.code, self.message);
        let also: Vec<String> = self.also.iter().map(|place| format!("also {place}")).collect();
        let also = also.join(", ");
        if self.line.is_empty() {
            if !also.is_empty() {
                text += &format!("   {also}\n");
            }
        } else {
            let number = self.place.line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs are kept, so that the carets stand below what they point at however wide a tab is.
            let indent: String =
                self.line.chars().take(self.place.column as usize - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let carets = "^".repeat(self.length as usize);
            text += &format!("   {number} | {}\n   {margin} | {indent}{carets}", self.line);
            text += if also.is_empty() { "" } else { " " };
            text += &also;
            text.push('\n');
        }
        let help = self.help.as_deref().map(|help| format!("{help}.  ")).unwrap_or_default();
        // Writing into a string cannot go wrong.
        let _ = writeln!(text, "   help: {help}shoal error {}", self.code);
        text
    }

    /// A diagnostic of the Language Server Protocol 3.17, with the file's path under `uri` beside it.
    pub fn to_json(&self) -> Value {
        let start = self.place.column as usize - 1;
        let wide = |characters: usize| self.line.chars().take(characters).map(char::len_utf16).sum::<usize>();
        // Past the end of the line (a missing closing bracket) there are no characters to measure.
        let beyond = (start + self.length as usize).saturating_sub(self.line.chars().count().max(start));
        let end = wide(start + self.length as usize).max(wide(start)) + if self.line.is_empty() { 0 } else { beyond };
        let line = self.place.line - 1;
        let related: Vec<Value> = self
            .also
            .iter()
            .map(|place| {
                let at = json!({ "line": place.line - 1, "character": place.column - 1 });
                json!({
                    "location": { "uri": place.file.display().to_string(), "range": { "start": at, "end": at } },
                    "message": "also here",
                })
            })
            .collect();
        json!({
            "uri": self.place.file.display().to_string(),
            "range": { "start": { "line": line, "character": wide(start) }, "end": { "line": line, "character": end } },
            "severity": match self.severity { Severity::Error => 1, Severity::Warning => 2 },
            "code": self.code,
            "source": "shoal",
            "message": match &self.help {
                Some(help) => format!("{}; {help}", self.message),
                None => self.message.clone(),
            },
            "relatedInformation": related,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A problem while the files are still being read: its places are spans.
#[derive(Debug)]
pub(crate) struct Finding {
    severity: Severity,
    code: &'static str,
    at: Span,
    message: String,
    help: Option<String>,
    also: Vec<Span>,
}

impl Finding {
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn help_if(&mut self, help: Option<String>) -> &mut Self {
        self.help = help;
        self
    }

    pub(crate) fn also(&mut self, at: Span) -> &mut Self {
        self.also.push(at);
        self
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: Vec<Finding>,
    errors: usize,
}

impl Findings {
    pub(crate) fn error(&mut self, code: &'static str, at: Span, message: impl Into<String>) -> &mut Finding {
        self.errors += 1;
        self.push(Severity::Error, code, at, message.into())
    }

    pub(crate) fn warning(&mut self, code: &'static str, at: Span, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Warning, code, at, message.into())
    }

    fn push(&mut self, severity: Severity, code: &'static str, at: Span, message: String) -> &mut Finding {
        self.all.push(Finding { severity, code, at, message, help: None, also: Vec::new() });
        self.all.last_mut().expect("a finding has just been pushed")
    }

    /// How many errors there are, which tells whether what was read in between is sound.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// In the order of files and places in them.
    pub(crate) fn into_problems(mut self, documents: &Documents) -> Vec<Problem> {
        self.all.sort_by_key(|finding| (finding.at, finding.severity));
        self.all
            .into_iter()
            .map(|finding| Problem {
                severity: finding.severity,
                code: finding.code,
                place: documents.place(finding.at),
                length: documents.length(finding.at),
                message: finding.message,
                help: finding.help,
                also: finding.also.into_iter().map(|at| documents.place(at)).collect(),
                line: documents.line(finding.at),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tie() -> Problem {
        let file = Arc::new(PathBuf::from("shop.toml"));
        Problem {
            severity: Severity::Error,
            code: "E2041",
            place: Place { file: Arc::clone(&file), line: 41, column: 9 },
            length: 6,
            message: "two routes match the same requests".to_string(),
            help: Some("give one a method".to_string()),
            also: vec![Place { file, line: 87, column: 9 }],
            line: "\t𝛑 tch = \"/v1\"".to_string(),
        }
    }

    #[test]
    fn the_caret_run_stands_below_what_it_is_about() {
        assert_eq!(
            tie().render(),
            "shop.toml:41:9  E2041 two routes match the same requests\n   \
             41 | \t𝛑 tch = \"/v1\"\n      \
             | \t       ^^^^^^ also shop.toml:87:9\n   \
             help: give one a method.  shoal error E2041\n"
        );
    }

    #[test]
    fn an_editor_gets_ranges_from_zero_in_utf16() {
        let diagnostic = tie().to_json();
        assert_eq!(diagnostic["range"], json!({ "start": { "line": 40, "character": 9 }, "end": { "line": 40, "character": 15 } }));
        assert_eq!(diagnostic["relatedInformation"][0]["location"]["range"]["start"], json!({ "line": 86, "character": 8 }));
        assert_eq!((&diagnostic["severity"], &diagnostic["code"]), (&json!(1), &json!("E2041")));
    }
}
