//! Reads the tree and holds the rules that no compiler knows: who may import whom, where waiting is allowed, what
//! a thing may be called, and what the repository may contain.
//!
//! Nothing here runs the gateway. A rule that needs an exception names the file in the table beside it, so that the
//! exception is read and argued about together with the rule.

#![expect(clippy::disallowed_methods, reason = "reading the tree is what this test is for")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a crate may import of ours, and which outside crates would mean that it does another crate's work.
struct Row {
    folder: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const CRATES: &[Row] = &[
    Row { folder: "proto", ours: &[], never: &["hyper", "ractor", "chitchat", "turmoil"] },
    Row {
        folder: "config",
        ours: &[],
        never: &["tokio", "ractor", "hyper", "hyper-util", "tonic", "chitchat", "rand", "rustls", "tokio-rustls", "turmoil", "libc"],
    },
    Row {
        folder: "cluster",
        ours: &["config", "proto"],
        // hyper-util only for its adapter between tokio's streams and those that tonic wants.
        never: &["ractor", "hyper", "rustls", "tokio-rustls", "turmoil", "libc"],
    },
    Row {
        folder: "actors",
        ours: &["config", "cluster"],
        never: &["hyper", "hyper-util", "tonic", "chitchat", "rustls", "tokio-rustls", "socket2", "turmoil", "libc"],
    },
    Row { folder: "node", ours: &["config", "cluster", "actors", "proto"], never: &["chitchat", "turmoil", "libc"] },
    Row { folder: "simulations", ours: &["config", "cluster", "actors", "proto", "node"], never: &["socket2", "chitchat"] },
    Row { folder: "tests", ours: &["config", "cluster", "node", "proto"], never: &["ractor", "chitchat", "turmoil", "libc"] },
];

/// The folders whose files decide and never wait, and the names of the files in them that may.
const PURE: &[&str] = &["config/", "cluster/", "actors/"];
const SHELLS: &[&str] = &["loader.rs", "gossip.rs", "peers.rs", "store.rs", "redis.rs", "actor.rs", "world.rs"];
/// Parts of a shell that lie in its folder, beside brains that never wait.
const SHELL_PARTS: &[&str] = &[
    "cluster/src/gossip/fuzzing.rs",
    "cluster/src/gossip/ring.rs",
    "cluster/src/gossip/tests.rs",
    "cluster/src/peers/dial.rs",
    "cluster/src/peers/door.rs",
    "cluster/src/peers/leash.rs",
    "cluster/src/peers/link.rs",
    "cluster/src/peers/tests",
    "cluster/src/trust.rs",
];
const WAITING: &[&str] = &["tokio", "ractor", "chitchat", "tonic", "redis", "async"];

/// A file past this many lines has a noun hiding in it, unless it stands in `LONG` with the reason.
const LINES_MAX: usize = 700;
const LONG: &[&str] = &[];

/// Names that say that nobody found the noun.
const EMPTY_NAMES: &[&str] =
    &["core", "common", "types", "type", "util", "utils", "model", "models", "shared", "manager", "helper", "helpers", "misc"];

/// Who may write a status code down. Everyone else passes on what an endpoint or `rejection.rs` decided, or compares.
const STATUS_CODES: &[(&str, &str)] = &[
    ("node/src/request/rejection.rs", "the one list of what shoal answers by itself"),
    ("node/src/cluster/part/inbox.rs", "a peer is told that a member is not reached, in the words of the admin API"),
    ("node/src/request/transform.rs", "redirects and fixed answers have the status that the operator wrote"),
    ("node/src/request.rs", "answers health probes on a listener that serves them"),
    ("node/src/admin", "an API of its own, with answers of its own"),
    ("tests/", "compares what came back"),
    ("simulations/", "compares what came back"),
];

const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".dockerignore",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "actors",
    "bench",
    "clippy.toml",
    "cluster",
    "config",
    "deny.toml",
    "deploy",
    "docs",
    "examples",
    "justfile",
    "node",
    "proto",
    "rustfmt.toml",
    "simulations",
    "tests",
];

/// Folders of machines that the project was built on; written apart so that this file passes its own rule.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/")];

#[test]
fn each_crate_imports_only_what_its_row_allows() {
    let mut found = Vec::new();
    for row in CRATES {
        for (name, package) in imports(row.folder) {
            let ours = CRATES.iter().find(|other| package == package_of(other.folder));
            match ours {
                Some(other) if !row.ours.contains(&other.folder) => found.push(format!("{} imports {}", row.folder, other.folder)),
                Some(other) if name != other.folder => {
                    found.push(format!("{} calls {package} `{name}`, not `{}`", row.folder, other.folder))
                }
                Some(_) => {}
                None if row.never.contains(&package.as_str()) => found.push(format!("{} imports {package}", row.folder)),
                None => {}
            }
        }
    }
    none(found, "the table of crates does not allow it");
}

#[test]
fn every_member_has_a_row_and_every_row_is_a_member() {
    let workspace = manifest("Cargo.toml");
    let members: BTreeSet<&str> =
        workspace["workspace"]["members"].as_array().expect("the workspace lists its members").iter().filter_map(|m| m.as_str()).collect();
    assert_eq!(members, CRATES.iter().map(|row| row.folder).collect());
}

#[test]
fn only_named_shells_wait() {
    let mut found = Vec::new();
    for file in rust().filter(|file| PURE.iter().any(|pure| file.path.starts_with(pure))) {
        if SHELLS.contains(&file.name()) || SHELL_PARTS.iter().any(|part| file.path.starts_with(part)) {
            continue;
        }
        for (number, line) in numbered(&code(&file.text)) {
            for word in words(line).filter(|word| WAITING.contains(word)) {
                found.push(format!("{}:{number} says `{word}`", file.path));
            }
        }
    }
    none(found, &format!("a brain takes the time as an argument and never waits; these may: {}", SHELLS.join(", ")));
}

#[test]
fn a_long_file_is_on_the_list() {
    let mut found = Vec::new();
    let mut long = BTreeSet::new();
    for file in rust() {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            long.insert(file.path.clone());
            if !LONG.contains(&file.path.as_str()) {
                found.push(format!("{} has {lines} lines", file.path));
            }
        }
    }
    found.extend(LONG.iter().filter(|path| !long.contains(**path)).map(|path| format!("{path} is on the list and is not long")));
    none(found, &format!("past {LINES_MAX} lines there is a noun hiding: find it, or list the file with a reason"));
}

#[test]
fn nothing_has_an_empty_name() {
    let mut found = Vec::new();
    for file in rust() {
        let parts = file.path.trim_end_matches(".rs").split('/');
        found.extend(parts.filter(|part| EMPTY_NAMES.contains(part)).map(|part| format!("{} is called `{part}`", file.path)));
        for (number, line) in numbered(&code(&file.text)) {
            let mut before = "";
            for word in words(line) {
                if before == "mod" && EMPTY_NAMES.contains(&word) {
                    found.push(format!("{}:{number} declares `mod {word}`", file.path));
                }
                let declares = ["struct", "enum", "trait", "type"].contains(&before);
                if declares && ["Manager", "Helper", "Util", "Utils"].iter().any(|tail| word.ends_with(tail)) {
                    found.push(format!("{}:{number} declares `{word}`", file.path));
                }
                before = word;
            }
        }
    }
    for row in CRATES {
        let package = package_of(row.folder);
        if EMPTY_NAMES.contains(&package.trim_start_matches("shoal-")) {
            found.push(format!("the package {package}"));
        }
    }
    none(found, "the name says nothing; say what the thing is");
}

#[test]
fn only_the_rejections_know_status_codes() {
    let mut found = Vec::new();
    let may = |file: &File| file.name() == "tests.rs" || STATUS_CODES.iter().any(|(allowed, _)| file.path.starts_with(allowed));
    for file in rust().filter(|file| !may(file)) {
        for (number, line) in numbered(before_tests(&code(&file.text))) {
            if writes_a_status(line) {
                found.push(format!("{}:{number} {}", file.path, line.trim()));
            }
        }
    }
    none(found, "an answer of shoal's own is a variant of Rejection");
}

#[test]
fn a_lifted_lint_says_why() {
    let mut found = Vec::new();
    for file in rust() {
        let code = code(&file.text);
        for (at, attribute) in attributes(&code) {
            let lifts = words(attribute).any(|word| word == "allow" || word == "expect");
            if lifts && !words(attribute).any(|word| word == "reason") {
                found.push(format!("{}:{} #[{attribute}]", file.path, code[..at].matches('\n').count() + 1));
            }
        }
    }
    none(found, "write #[expect(…, reason = \"…\")]");
}

#[test]
fn the_top_level_is_fixed() {
    let tops: BTreeSet<String> = tree().iter().filter_map(|path| path.split('/').next()).map(String::from).collect();
    none(
        tops.into_iter().filter(|top| !TOP_LEVEL.contains(&top.as_str())).collect(),
        "the top level holds the seven crates and the text beside them",
    );
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let mut found = Vec::new();
    for file in texts() {
        for (number, line) in numbered(&file.text) {
            found.extend(
                MACHINE_PATHS.iter().filter(|path| says_path(line, path)).map(|path| format!("{}:{number} says {path}", file.path)),
            );
        }
    }
    none(found, "the repository works in any folder");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    for file in texts().filter(|file| file.path.ends_with(".md")) {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (number, target) in links(&file.text) {
            let outside = target.contains("://") || target.starts_with('#') || target.starts_with("mailto:");
            let path = target.split(['#', '?']).next().unwrap_or_default();
            if !outside && !root().join(folder).join(path).exists() {
                found.push(format!("{}:{number} leads to {target}", file.path));
            }
        }
    }
    none(found, "the page or file does not exist");
}

#[test]
fn the_readme_names_every_page_and_no_other() {
    let readme = read("README.md");
    let named: BTreeSet<String> = readme
        .split(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with("docs/") && word.ends_with(".md"))
        .map(String::from)
        .collect();
    let pages: BTreeSet<String> = tree().into_iter().filter(|path| path.starts_with("docs/") && path.ends_with(".md")).collect();
    assert_eq!(named, pages, "left: named by README.md; right: in docs/");
}

#[test]
fn every_alert_is_about_metrics_that_there_are_and_says_what_to_do() {
    let (alerts, page) = (read("deploy/alerts.yml"), read("docs/metrics.md"));
    let rows: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).filter(|(name, _)| name.contains('_')).collect();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (number, line) in numbered(&alerts) {
        for (at, _) in line.match_indices("shoal_").filter(|(at, _)| !line[..*at].ends_with(word)) {
            let (name, rest) = line[at..].split_at(line[at..].find(|c| !word(c)).unwrap_or(line.len() - at));
            let Some(row) = rows.get(name) else {
                found.push(format!("deploy/alerts.yml:{number}: {name} is not in docs/metrics.md"));
                continue;
            };
            let matchers = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            for label in matchers.split(',').filter_map(|matcher| matcher.split(['=', '!']).next()).filter(|label| !label.is_empty()) {
                if !row.contains(&format!("`{label}`")) {
                    found.push(format!("deploy/alerts.yml:{number}: {name} has no label {label}"));
                }
            }
        }
    }
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 10, "{} rules", rules.len());
    for rule in rules {
        let name = rule.lines().next().unwrap_or_default();
        let lacking = ["expr: ", "severity: ", "summary: \"", "runbook: \""].into_iter().filter(|part| !rule.contains(part));
        found.extend(lacking.map(|part| format!("deploy/alerts.yml: {name} has no {part}")));
        if !rule.contains("shoal_") {
            found.push(format!("deploy/alerts.yml: {name} is about no metric of a node"));
        }
    }
    none(found, "alerts name metrics and labels of docs/metrics.md, and each says what it is and what to do");
}

#[test]
fn comments_and_literals_are_not_code() {
    let check = |text: &str, expected: &str| assert_eq!(code(text).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
    check("a // b", "a");
    check("a /* b /* c */ d */ e", "a e");
    check(r#"f("http://x // y", g)"#, r#"f("", g)"#);
    check(r#"f("\"", async)"#, r#"f("", async)"#);
    check(r###"f(r#"tokio " "#, b"x", br"y") z"###, r###"f("", "", "") z"###);
    check(r"x('\'') 'a: y('/')", "x('') 'a: y('')");
    check("fn f<'a>(x: &'a str) // z", "fn f<'a>(x: &'a str)");
}

#[test]
fn comparing_a_status_is_not_writing_one() {
    let check = |line: &str, expected: bool| assert_eq!(writes_a_status(line), expected, "{line}");
    check("*response.status_mut() = StatusCode::OK;", true);
    check("StatusCode::from_u16(404)", true);
    check("StatusCode::from_u16(written)", false);
    check("if status == StatusCode::OK {", false);
    check("if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {", false);
    check("Response::builder().status(404)", true);
    check("trip.status(404)", true);
    check("response.status()", false);
}

struct File {
    path: String,
    text: String,
}

impl File {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in a folder of the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository with forward slashes: git's own list, or what lies there where this is no clone.
fn tree() -> BTreeSet<String> {
    let git = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root()).output();
    let mut paths = BTreeSet::new();
    match git {
        Ok(listed) if listed.status.success() && !listed.stdout.is_empty() => {
            paths.extend(String::from_utf8_lossy(&listed.stdout).split('\0').filter(|path| !path.is_empty()).map(String::from));
            paths.retain(|path| root().join(path).is_file());
        }
        _ => walk(root(), &mut paths),
    }
    assert!(paths.contains("Cargo.toml"), "{} is no shoal workspace", root().display());
    paths
}

fn walk(folder: &Path, paths: &mut BTreeSet<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.map(|entry| entry.expect("a folder can be read to its end").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() {
            if name != ".git" && name != "target" {
                walk(&entry, paths);
            }
        } else {
            let below: PathBuf = entry.strip_prefix(root()).expect("the walk stays below the root").into();
            paths.insert(below.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn texts() -> impl Iterator<Item = File> {
    tree().into_iter().filter(|path| path != "Cargo.lock").filter_map(|path| {
        let text = fs::read(root().join(&path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())?;
        Some(File { path, text })
    })
}

fn rust() -> impl Iterator<Item = File> {
    texts().filter(|file| file.path.ends_with(".rs"))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn manifest(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn package_of(folder: &str) -> String {
    manifest(&format!("{folder}/Cargo.toml"))["package"]["name"].as_str().expect("a package has a name").into()
}

/// Every dependency of a crate, of whatever kind and for whatever target: the name it uses, and the package behind it.
fn imports(folder: &str) -> BTreeMap<String, String> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let manifest = manifest(&format!("{folder}/Cargo.toml"));
    let workspace = self::manifest("Cargo.toml");
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let tables = targets.into_iter().flat_map(|targets| targets.values().filter_map(|target| target.as_table())).chain([&manifest]);
    let mut imports = BTreeMap::new();
    for table in tables {
        for (name, asked) in KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()).flatten() {
            let inherited = asked.get("workspace").is_some();
            let source = if inherited { &workspace["workspace"]["dependencies"][name.as_str()] } else { asked };
            let package = source.get("package").and_then(|package| package.as_str()).unwrap_or(name);
            imports.insert(name.clone(), package.to_string());
        }
    }
    imports
}

/// The text with comments and the insides of literals blanked out, line for line.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let literal = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
        let starts_a_word = !code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let (true, Some(length)) = (starts_a_word, raw_string(literal)) {
            code.push_str("\"\"");
            rest.len() - literal.len() + length
        } else if literal.starts_with('"') && (starts_a_word || first == '"') {
            code.push_str("\"\"");
            rest.len() - literal.len() + quoted(literal, '"')
        } else if let Some(length) = character(rest) {
            code.push_str("''");
            length
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().filter(|c| *c == '\n'));
        rest = &rest[length..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.bytes().take_while(|byte| *byte == b'#').count();
    let inside = 2 + hashes;
    text[1 + hashes..].starts_with('"').then_some(())?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[inside..].find(&end).map_or(text.len(), |at| inside + at + end.len()))
}

/// The length of a quoted literal with its quotes, escapes taken into account.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let mut chars = inside.chars();
    match chars.next()? {
        '\\' => Some(quoted(text, '\'')),
        one => (chars.next()? == '\'').then_some(2 + one.len_utf8()),
    }
}

/// A file's code up to its test module, which by habit comes last.
fn before_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod ").next().unwrap_or(code)
}

fn writes_a_status(line: &str) -> bool {
    let named = line.match_indices("StatusCode::").any(|(at, path)| {
        let before = line[..at].trim_end_matches("http::").trim_end();
        let compares = before.ends_with("==") || before.ends_with("!=");
        let after = &line[at + path.len()..];
        let after = after.strip_prefix("from_u16(").unwrap_or(after);
        !compares && after.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit())
    });
    named || line.split(".status(").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

/// The insides of every `#[…]` and `#![…]`, with where each begins.
fn attributes(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices('#').filter_map(|(at, _)| {
        let after = code[at + 1..].strip_prefix('!').unwrap_or(&code[at + 1..]).strip_prefix('[')?;
        let mut depth = 1;
        let end = after.find(|c| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            depth == 0
        })?;
        Some((at, &after[..end]))
    })
}

fn says_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c)))
}

/// Targets of inline links outside fenced code, with their line.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut links = Vec::new();
    for (number, line) in numbered(markdown) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let targets = line.split("](").skip(1).filter_map(|after| after.split([')', ' ']).next());
            links.extend(targets.map(|target| (number, target.to_string())));
        }
    }
    links
}
