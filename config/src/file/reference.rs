//! Values that stand elsewhere: in the environment, in a file, or at a path.

use super::{
    reader::{Node, Read, Reader, Words},
    section::section,
    shape::Shape,
};
use crate::{Secret, document::Span, problem::codes};
use std::{path::PathBuf, sync::Arc};
use toml::de::DeValue;

section! {
    /// Where a value comes from that does not stand in the file itself.
    Reference {
        /// The name of an environment variable.
        env: Words,
        /// What to take where the variable is not set.
        default: Words,
        /// A file whose content is the value, without the line break at its end.
        file: Words,
    }
}

impl Reference {
    /// Returns the value, and whether it came from outside.
    fn resolve(self, at: Span, r: &mut Reader<'_>) -> Option<String> {
        match (self.env, self.file) {
            (Some(name), None) => {
                let value = r.env(&name).or_else(|| self.default.map(|default| default.to_string()));
                if value.is_none() {
                    r.found
                        .error(codes::MISSING_ENV, name.at, format!("the environment variable `{}` is not set", name.value))
                        .help("set it, or add `default = \"…\"`");
                }
                value
            }
            (None, Some(file)) => {
                let content = r.read_file(&r.resolve(&file), file.at)?;
                match String::from_utf8(content) {
                    Ok(text) => Some(text.trim_end_matches(['\n', '\r']).to_string()),
                    Err(_) => {
                        r.found.error(codes::NOT_UTF8, file.at, format!("`{}` is not UTF-8 text", file.value));
                        None
                    }
                }
            }
            _ if self.meta.all_sound() => {
                r.found
                    .error(codes::EXCLUSIVE_KEYS, at, "a reference names either `env` or `file`")
                    .help("write { env = \"NAME\" } or { file = \"/path\" }");
                None
            }
            _ => None,
        }
    }
}

/// Text that may also come from the environment or a file.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) text: Arc<str>,
    /// What comes from outside may be secret.
    pub(crate) referred: bool,
}

impl Read for Outside {
    fn shape() -> Shape {
        Shape::Any(vec![Words::shape(), Reference::shape()])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => {
                let text = Reference::read(node, r)?.resolve(node.at, r)?;
                Some(Self { text: text.into(), referred: true })
            }
            DeValue::String(text) => Some(Self { text: Arc::from(&**text), referred: false }),
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

/// Only from outside, so that the file can be shown around.
impl Read for Secret {
    fn shape() -> Shape {
        Reference::shape()
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        if !node.value.is_table() {
            r.documents.hide(node.at);
            let key = r.key();
            r.found
                .error(codes::SECRET_IN_FILE, node.at, format!("`{key}` is a secret and does not belong into the file"))
                .help("write { env = \"NAME\" } or { file = \"/path\" }");
            return None;
        }
        let reference = Reference::read(node, r)?;
        if let Some(default) = &reference.default {
            r.documents.hide(default.at);
        }
        let secret = reference.resolve(node.at, r)?;
        if secret.is_empty() {
            let key = r.key();
            r.found.error(codes::EMPTY_SECRET, node.at, format!("`{key}` is empty"));
            return None;
        }
        Some(Self::new(secret))
    }
}

section! {
    /// A file.
    FileTable {
        /// Its path; relative ones start at the folder of this file.
        file: Words = required,
    }
}

/// A file that somebody will read: a certificate, a key.
#[derive(Clone, Debug)]
pub(crate) struct Input(pub(crate) PathBuf);

impl Read for Input {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::text("a path", "/etc/shoal/cert.pem"), FileTable::shape()])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let (path, at) = match node.value {
            DeValue::String(path) => (Arc::from(&**path), node.at),
            DeValue::Table(_) => {
                let file = FileTable::read(node, r)?.file?;
                (file.value, file.at)
            }
            _ => return r.wrong_type(node, &Self::shape()),
        };
        let path = r.resolve(&path);
        r.is_readable(&path, at).map(|()| Self(path))
    }
}

/// A path where shoal itself writes.
#[derive(Clone, Debug)]
pub(crate) struct Output(pub(crate) PathBuf);

impl Read for Output {
    fn shape() -> Shape {
        Shape::text("a path", "/var/lib/shoal")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let path = r.text(node, &Self::shape())?;
        if path.is_empty() {
            let key = r.key();
            r.found.error(codes::EMPTY, node.at, format!("`{key}` is empty"));
            return None;
        }
        Some(Self(r.resolve(path)))
    }
}
