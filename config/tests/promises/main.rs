//! What the language of configuration promises to those who write it.

mod changes;
mod cluster;
mod includes;
mod judging;
mod manual;
mod mistakes;
mod overlaps;
mod routing;
mod secrets;
mod values;

use shoal_config::{Gateway, Loaded, Problem, Source, load};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Files and an environment that exist only in a test.
#[derive(Default)]
struct Files {
    files: BTreeMap<PathBuf, Vec<u8>>,
    env: BTreeMap<String, String>,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, content)| (PathBuf::from(path), content.as_bytes().to_vec())).collect();
        Self { files, env: BTreeMap::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_string(), value.to_string());
        self
    }

    fn load(&self, path: &str) -> Loaded {
        load(Path::new(path), self)
    }
}

impl Source for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let files: Vec<PathBuf> = self.files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect();
        if files.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(files) }
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

/// A small gateway without a problem, in sections that can follow or precede others.
const BASE: &str = r#"
[listen.main]
bind = "127.0.0.1:8080"

[service.hello]
endpoints = ["http://127.0.0.1:3000"]

[limit.slow]
rate = "1/min"

[[route]]
id = "base"
match = "/base"
service = "hello"
limit = ["slow"]
"#;

/// A problem in few words: `file:line:column CODE`.
fn short(problem: &Problem) -> String {
    format!("{} {}", problem.place, problem.code)
}

fn shorts(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(short).collect()
}

/// The gateway of a text that has no error.
fn gateway(text: &str) -> Gateway {
    let loaded = Files::new(&[("shoal.toml", text)]).load("shoal.toml");
    let rendered: Vec<String> = loaded.problems.iter().map(Problem::render).collect();
    loaded.gateway.unwrap_or_else(|| panic!("{}", rendered.join("\n")))
}
