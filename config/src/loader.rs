//! From files to a gateway. Nothing else in this crate opens a file or looks at the environment, and this does so only
//! through the [`Source`] that it is given.

use crate::{
    Gateway, Problem, Revision, check,
    document::{Parsed, Span, Spanned},
    file::{Reader, Root, reason},
    problem::codes,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use toml::de::{DeTable, DeValue};

/// Where files and the environment come from.
pub trait Source {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The files in a folder, in any order, each with the folder in front.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    fn env(&self, name: &str) -> Option<String>;
}

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// There is one only if no problem is an error.
    pub gateway: Option<Gateway>,
    /// In the order of files and places.
    pub problems: Vec<Problem>,
    /// Every file that was read or named, whether or not it could be: what to watch.
    pub files: Vec<PathBuf>,
    /// Folders whose content decides what is included.
    pub folders: Vec<PathBuf>,
}

/// Reads a file and everything that it names.
pub fn load(path: &Path, source: &dyn Source) -> Loaded {
    let mut loading = Loading::new(source);
    match source.read(path) {
        Ok(content) => loading.main(path, content),
        Err(error) => {
            loading.reader.referred.insert(path.to_path_buf());
            loading.reader.documents.add(path, "".into());
            let message = format!("`{}` cannot be read: {}", path.display(), reason(&error));
            loading.reader.found.error(codes::UNREADABLE_FILE, Span::new(0, 0..0), message);
        }
    }
    loading.finish()
}

/// Reads a text as if it stood in a file of that name. Relative paths in it start at the name's folder.
pub fn load_text(name: &Path, text: &str, source: &dyn Source) -> Loaded {
    let mut loading = Loading::new(source);
    loading.main(name, text.as_bytes().to_vec());
    loading.finish()
}

/// The files of this machine, with an environment that was captured before.
#[derive(Clone, Debug, Default)]
pub struct OsSource {
    env: BTreeMap<String, String>,
}

impl OsSource {
    pub fn new(env: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { env: env.into_iter().collect() }
    }
}

impl Source for OsSource {
    #[expect(clippy::disallowed_methods, reason = "this is the source that a command line without a world reads from")]
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

struct Loading<'s> {
    source: &'s dyn Source,
    reader: Reader<'s>,
    /// The main file's content first.
    roots: Vec<Root>,
    folders: BTreeSet<PathBuf>,
}

impl<'s> Loading<'s> {
    fn new(source: &'s dyn Source) -> Self {
        Self { source, reader: Reader::new(source), roots: Vec::new(), folders: BTreeSet::new() }
    }

    fn main(&mut self, path: &Path, content: Vec<u8>) {
        self.file(path, content);
        let includes = self.roots.first().map(|root| root.include.value.clone()).unwrap_or_default();
        let mut included = BTreeSet::from([path.to_path_buf()]);
        for pattern in includes {
            for path in self.matches(&pattern) {
                if !included.insert(path.clone()) {
                    continue;
                }
                if let Some(content) = self.reader.read_file(&path, pattern.at) {
                    self.file(&path, content);
                }
            }
        }
        for root in self.roots.iter().skip(1) {
            if let Some(at) = root.include.first().map(|_| root.include.at) {
                let finding = self.reader.found.error(codes::NESTED_INCLUDE, at, "an included file cannot include others");
                finding.help("move it to the `include` of the main file");
            }
        }
    }

    /// The files that a pattern stands for, in the order of their names.
    fn matches(&mut self, pattern: &Spanned<Arc<str>>) -> Vec<PathBuf> {
        let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        if folder.contains('*') || name.is_empty() || pattern.contains("**") {
            let finding = self.reader.found.error(codes::BAD_INCLUDE, pattern.at, format!("`{}` names no files", pattern.value));
            finding.help("`*` may stand only in the name of a file, as in \"routes.d/*.toml\"");
            return Vec::new();
        }
        let path = self.reader.resolve_from(pattern.at.file, pattern);
        if !name.contains('*') {
            return vec![path];
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let listed = self.source.list(&folder);
        self.folders.insert(folder.clone());
        let mut found = match listed {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let message = format!("`{}` cannot be read: {}", folder.display(), reason(&error));
                self.reader.found.error(codes::UNREADABLE_FILE, pattern.at, message);
                return Vec::new();
            }
        };
        found.retain(|path| path.file_name().and_then(|file| file.to_str()).is_some_and(|file| !file.starts_with('.') && glob(name, file)));
        found.sort();
        if found.is_empty() {
            self.reader.found.warning(codes::EMPTY_INCLUDE, pattern.at, format!("`{}` matches no file", pattern.value));
        }
        found
    }

    fn file(&mut self, path: &Path, content: Vec<u8>) {
        let r = &mut self.reader;
        r.referred.insert(path.to_path_buf());
        let text: Arc<str> = match String::from_utf8(content) {
            Ok(text) if text.len() < u32::MAX as usize => text.into(),
            Ok(_) => {
                let file = r.documents.add(path, "".into());
                r.found.error(codes::UNREADABLE_FILE, Span::new(file, 0..0), "a configuration file of 4 GiB cannot be read");
                return;
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let file = r.documents.add(path, text.into());
                r.lost_header = true;
                r.found.error(codes::NOT_UTF8, Span::new(file, at..at + 1), "this is not UTF-8 text").help("save the file as UTF-8");
                return;
            }
        };
        let file = r.documents.add(path, Arc::clone(&text));
        if let Ok(table) = DeTable::parse(&text) {
            self.roots.extend(r.file::<Root>(file, &DeValue::Table(table.into_inner())));
            return;
        }
        let parsed = Parsed::new(&text);
        for fault in parsed.faults {
            if let Some(secret) = secret(&text, fault.at.start) {
                r.documents.hide(Span::new(file, secret));
            }
            let code = if fault.duplicate { codes::DUPLICATE_KEY } else { codes::SYNTAX };
            let at = Span::new(file, fault.at.clone());
            let finding = match secret(&text, fault.at.start).filter(|secret| secret.start < fault.at.end) {
                Some(_) => r.found.error(code, at, "this secret is not written as a value"),
                None => r.found.error(code, at, fault.message).help_if(fault.help),
            };
            if let Some(earlier) = fault.earlier {
                finding.also(Span::new(file, earlier));
            }
        }
        r.lost_header |= parsed.lost_header;
        r.documents.damage(file, parsed.damaged);
        let table = DeTable::parse(&parsed.text).expect("a text without its faults is TOML");
        self.roots.extend(r.file::<Root>(file, &DeValue::Table(table.into_inner())));
    }

    fn finish(mut self) -> Loaded {
        let gateway = check::check(self.roots, &mut self.reader);
        let files: Vec<PathBuf> = self.reader.referred.iter().cloned().collect();
        let sound = self.reader.found.errors() == 0;
        let gateway = gateway.filter(|_| sound).map(|mut gateway| {
            gateway.revision = Revision::of(self.reader.documents.texts());
            gateway.files.clone_from(&files);
            gateway.sources = self.reader.documents.sources();
            gateway
        });
        let problems = self.reader.found.into_problems(&self.reader.documents);
        Loaded { gateway, problems, files, folders: self.folders.into_iter().collect() }
    }
}

/// What may be a secret on a line that cannot be parsed: everything behind a key that usually has one.
fn secret(text: &str, at: usize) -> Option<Range<usize>> {
    const KEYS: [&str; 7] = ["token", "authorization", "cookie", "api-key", "password", "secret", "default"];
    let begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let line = text[begin..end].to_ascii_lowercase();
    let key = KEYS.iter().filter_map(|key| line.find(key)).min()?;
    let equals = line[key..].find('=')?;
    Some(begin + key + equals + 1..end)
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn glob(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return left.is_empty() };
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.len() >= last.len() && left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("x", "x", true),
            ("x", "xy", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
