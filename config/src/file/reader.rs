//! Reads tables with the place of every value, and goes on after each problem.

use super::shape::Shape;
use crate::{
    Source,
    document::{Documents, Span, Spanned},
    problem::{Findings, codes},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};
use toml::de::{DeTable, DeValue};

/// A type that a value in a file can be read as.
pub(crate) trait Read: Sized {
    fn shape() -> Shape;

    /// Returns nothing once the reader has been told what is wrong.
    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self>;
}

/// A value and its place.
#[derive(Clone, Copy)]
pub(crate) struct Node<'v> {
    pub(crate) value: &'v DeValue<'v>,
    pub(crate) at: Span,
}

/// What reading needs beside the value itself, and what it leaves behind.
pub(crate) struct Reader<'s> {
    source: &'s dyn Source,
    pub(crate) documents: Documents,
    pub(crate) found: Findings,
    /// Files that the configuration names, whether or not they could be read.
    pub(crate) referred: BTreeSet<PathBuf>,
    /// Whether something that is defined may seem not to be, because its header could not be read.
    pub(crate) lost_header: bool,
    /// The file being read.
    file: u32,
    /// A default has no place of its own: it takes that of the table it is missing in.
    fixed: Option<Span>,
    /// The keys that lead to the value being read.
    path: Vec<String>,
    /// Defaults that were needed before, parsed.
    defaults: HashMap<&'static str, Rc<DeValue<'static>>>,
    /// Why a file cannot be read, asked once for each.
    readable: BTreeMap<PathBuf, Option<String>>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s dyn Source) -> Self {
        Self {
            source,
            documents: Documents::default(),
            found: Findings::default(),
            referred: BTreeSet::new(),
            lost_header: false,
            file: 0,
            fixed: None,
            path: Vec::new(),
            defaults: HashMap::new(),
            readable: BTreeMap::new(),
        }
    }

    /// Reads a whole file, already parsed.
    pub(crate) fn file<T: Read>(&mut self, file: u32, value: &DeValue<'_>) -> Option<T> {
        self.file = file;
        T::read(Node { value, at: Span::new(file, 0..0) }, self)
    }

    /// What a table is that nobody wrote.
    pub(crate) fn absent<T: Read>(&mut self, at: Span) -> T {
        let outer = self.fixed.replace(at);
        let table = DeValue::Table(DeTable::new());
        let value = T::read(Node { value: &table, at }, self);
        self.fixed = outer;
        value.expect("a table that may be absent has no required key")
    }

    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        self.fixed.unwrap_or_else(|| Span::new(self.file, range))
    }

    pub(crate) fn wrong_type<T>(&mut self, node: Node<'_>, expected: &Shape) -> Option<T> {
        let found = match node.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let key = self.key();
        self.found.error(codes::WRONG_TYPE, node.at, format!("`{key}` is {}, not {found}", expected.expected()));
        None
    }

    /// The key that the value being read belongs to.
    pub(crate) fn key(&self) -> String {
        self.path.last().cloned().unwrap_or_default()
    }

    /// What the table being read is called: `[service.hello]`, or `retry` of it.
    fn table_name(&self) -> String {
        let named = |len: usize| self.path.len() >= len;
        let (header, len) = match self.path.first().map(String::as_str) {
            None => return "the file".to_string(),
            Some("route") => ("[[route]]".to_string(), 1),
            Some(kind @ ("listen" | "service" | "limit")) if named(2) => (format!("[{kind}.{}]", self.path[1]), 2),
            Some(section) => (format!("[{section}]"), 1),
        };
        if self.path.len() > len { format!("`{}` of {header}", self.path[len..].join(".")) } else { header }
    }

    pub(crate) fn text<'v>(&mut self, node: Node<'v>, expected: &Shape) -> Option<&'v str> {
        match node.value {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type(node, expected),
        }
    }

    /// Reads something below `key` of the value being read.
    pub(crate) fn below<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(plain(key).to_string());
        let value = read(self);
        self.path.pop();
        value
    }

    pub(crate) fn env(&self, name: &str) -> Option<String> {
        self.source.env(name)
    }

    /// A path as seen from the folder of the file that is being read.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.resolve_from(self.file, path)
    }

    pub(crate) fn resolve_from(&self, file: u32, path: &str) -> PathBuf {
        self.documents.path(file).parent().unwrap_or(Path::new("")).join(path)
    }

    pub(crate) fn read_file(&mut self, path: &Path, at: Span) -> Option<Vec<u8>> {
        self.referred.insert(path.to_path_buf());
        match self.source.read(path) {
            Ok(content) => Some(content),
            Err(error) => self.unreadable(path, at, &reason(&error)),
        }
    }

    /// Whether a file can be read by whoever will need its content.
    pub(crate) fn is_readable(&mut self, path: &Path, at: Span) -> Option<()> {
        self.referred.insert(path.to_path_buf());
        if !self.readable.contains_key(path) {
            let why = self.source.read(path).err().map(|error| reason(&error));
            self.readable.insert(path.to_path_buf(), why);
        }
        match self.readable[path].clone() {
            None => Some(()),
            Some(why) => self.unreadable(path, at, &why),
        }
    }

    fn unreadable<T>(&mut self, path: &Path, at: Span, why: &str) -> Option<T> {
        self.found
            .error(codes::UNREADABLE_FILE, at, format!("`{}` cannot be read: {why}", path.display()))
            .help("relative paths start at the folder of the file that names them");
        None
    }
}

/// An error of the system in lower case and without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        io::ErrorKind::IsADirectory => "it is a folder".to_string(),
        _ => error.to_string().to_lowercase(),
    }
}

/// Where a table was written, and which of its keys are not to be relied on.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) at: Span,
    bad: Vec<&'static str>,
    /// A key was not known, so that any other may only seem to be absent.
    unknown: bool,
}

impl Meta {
    /// Whether what was read under these keys is what was meant, so that more can be said about it.
    pub(crate) fn sound(&self, keys: &[&str]) -> bool {
        !self.unknown && !self.bad.iter().any(|bad| keys.contains(bad))
    }

    pub(crate) fn all_sound(&self) -> bool {
        !self.unknown && self.bad.is_empty()
    }
}

/// Takes one key after the other out of a table; what is left in the end is unknown.
pub(crate) struct TableReader<'v> {
    table: &'v DeTable<'v>,
    keys: &'static [&'static str],
    meta: Meta,
}

impl<'v> TableReader<'v> {
    pub(crate) fn open(node: Node<'v>, r: &mut Reader<'_>, keys: &'static [&'static str]) -> Option<Self> {
        match node.value {
            DeValue::Table(table) => Some(Self { table, keys, meta: Meta { at: node.at, bad: Vec::new(), unknown: false } }),
            _ => r.wrong_type(node, &Shape::Named(Box::new(Shape::Boolean))),
        }
    }

    pub(crate) fn optional<T: Read>(&mut self, key: &'static str, r: &mut Reader<'_>) -> Option<Spanned<T>> {
        let value = self.table.get(plain(key))?;
        let node = Node { value: value.get_ref(), at: r.span(value.span()) };
        let errors = r.found.errors();
        let value = r.below(key, |r| T::read(node, r));
        if r.found.errors() > errors {
            self.meta.bad.push(plain(key));
        }
        value.map(|value| Spanned { value, at: node.at })
    }

    pub(crate) fn required<T: Read>(&mut self, key: &'static str, r: &mut Reader<'_>) -> Option<Spanned<T>> {
        if !self.table.contains_key(plain(key)) {
            self.meta.bad.push(plain(key));
            // It may be misspelt, or have been part of what could not be parsed: either has been said already.
            let misspelt = self.unknown(r).iter().any(|(unknown, _)| near(unknown, [plain(key)]).is_some());
            if !misspelt && !r.documents.is_damaged(self.meta.at) {
                let table = r.table_name();
                let key = plain(key);
                r.found
                    .error(codes::MISSING_KEY, self.meta.at, format!("`{key}` is missing in {table}"))
                    .help(format!("add `{key} = …`: {}", T::shape().expected()));
            }
            return None;
        }
        self.optional(key, r)
    }

    /// A default stands in for a value that is wrong, too: that it is wrong has been said.
    pub(crate) fn with_default<T: Read>(&mut self, key: &'static str, default: &'static str, r: &mut Reader<'_>) -> Spanned<T> {
        if let Some(value) = self.optional(key, r) {
            return value;
        }
        let at = self.meta.at;
        let parse = || Rc::new(DeValue::parse(default).expect("every default is TOML").into_inner());
        let parsed = Rc::clone(r.defaults.entry(default).or_insert_with(parse));
        let outer = r.fixed.replace(at);
        let value = r.below(key, |r| T::read(Node { value: &parsed, at }, r));
        r.fixed = outer;
        Spanned { value: value.expect("every default can be read"), at }
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(mut self, r: &mut Reader<'_>) -> Meta {
        for (key, at) in self.unknown(r) {
            self.meta.unknown = true;
            let table = r.table_name();
            let known = self.keys.iter().map(|key| plain(key));
            let near = near(&key, known.clone()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let elsewhere = super::tables_with(&key);
            let help = match &elsewhere[..] {
                [] => format!("the keys here are {}", known.collect::<Vec<_>>().join(", ")),
                tables => format!("`{key}` is a key of {}", tables.join(", ")),
            };
            r.found.error(codes::UNKNOWN_KEY, at, format!("unknown key `{key}` in {table}{near}")).help(help);
        }
        self.meta
    }

    fn unknown(&self, r: &Reader<'_>) -> Vec<(String, Span)> {
        let known = |key: &str| self.keys.iter().any(|known| plain(known) == key);
        let unknown = self.table.keys().filter(|key| !known(key.get_ref()));
        unknown.map(|key| (key.get_ref().to_string(), r.span(key.span()))).collect()
    }
}

/// A name as it is written in files: Rust wants `r#match` for `match`.
pub(crate) fn plain(key: &str) -> &str {
    key.strip_prefix("r#").unwrap_or(key)
}

/// Returns the word nearest to what was written, if any is near enough to be meant.
pub(crate) fn near<'w>(written: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let length = written.chars().count();
    let reach = 1 + length / 3;
    let near = words.into_iter().map(|word| (distance(written, word), word));
    // Names that share no letter are not near, however short they are.
    near.filter(|(distance, word)| *distance <= reach && *distance < length.max(word.chars().count())).min().map(|(_, word)| word)
}

/// Levenshtein's distance, two neighbours that were swapped counting once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Text that lives as long as anyone needs it.
pub(crate) type Words = Arc<str>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_near_and_another_word_is_not() {
        let keys = ["retry", "service", "max_body", "path"];
        for (written, expected) in [
            ("retires", Some("retry")),
            ("sevrice", Some("service")),
            ("maxbody", Some("max_body")),
            ("Path", Some("path")),
            ("timeout", None),
            ("x", None),
        ] {
            assert_eq!(near(written, keys), expected, "{written}");
        }
    }
}
