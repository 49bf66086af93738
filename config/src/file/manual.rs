//! docs/configuration.md, written from the tables of `file`.

use super::{
    Root,
    reader::Read,
    shape::{Key, Shape, Table, one_of},
};
use crate::ByteSize;
use std::fmt::Write;

/// Returns the page about every key: its type, its default, and what it is for.
pub fn manual() -> String {
    let Shape::Table(root) = Root::shape() else { unreachable!("a file is a table") };
    let mut page = INTRODUCTION.to_string();
    page += "\n## At the top of a file\n";
    let keys = (root.keys)();
    let plain: Vec<Row> = keys.iter().filter(|key| key.shape.table().is_none()).map(|key| row(key, key.name.to_string())).collect();
    page += &table_of(&plain);
    for key in keys {
        let Some(table) = key.shape.table() else { continue };
        page += &format!("\n## `{}`\n\n{}\n", header(key.name, &key.shape), text(key.doc));
        page += &table_of(&flat(&table, ""));
    }
    page + CONCLUSION
}

/// What a table is called where it stands at the top of a file.
pub(crate) fn header(name: &str, shape: &Shape) -> String {
    match shape {
        Shape::List(_) => format!("[[{name}]]"),
        Shape::Named(_) => format!("[{name}.NAME]"),
        _ => format!("[{name}]"),
    }
}

/// Doc comments as one paragraph.
pub(crate) fn text(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

struct Row {
    name: String,
    kind: String,
    default: String,
    what: String,
}

/// The keys of a table and of the tables in it, these with their path in front.
fn flat(table: &Table, before: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for key in (table.keys)() {
        let name = format!("{before}{}", key.name);
        let inner = key.shape.table();
        rows.push(row(&key, name.clone()));
        // References to files and the environment are the same everywhere, and have a section of their own.
        if let Some(inner) = inner.filter(|inner| !is_reference(inner)) {
            let step = match &key.shape {
                Shape::List(_) => "[].",
                Shape::Named(_) => ".NAME.",
                Shape::Any(shapes) if shapes.iter().any(|shape| matches!(shape, Shape::List(_))) => "[].",
                _ => ".",
            };
            rows.extend(flat(&inner, &format!("{name}{step}")));
        }
    }
    rows
}

fn is_reference(table: &Table) -> bool {
    let keys = (table.keys)();
    keys.iter().any(|key| key.name == "env") || (keys.len() == 1 && keys[0].name == "file")
}

fn row(key: &Key, name: String) -> Row {
    let default = match (key.default, key.required) {
        (_, true) => "required".to_string(),
        (Some("{}"), _) | (None, _) => "–".to_string(),
        (Some(default), _) => format!("`{default}`"),
    };
    Row { name, kind: kind(&key.shape), default, what: text(key.doc) }
}

fn table_of(rows: &[Row]) -> String {
    let mut table = "\n| key | type | default | what |\n| --- | --- | --- | --- |\n".to_string();
    for row in rows {
        let cell = |text: &str| text.replace('|', "\\|");
        // Writing into a string cannot go wrong.
        let _ = writeln!(table, "| `{}` | {} | {} | {} |", row.name, cell(&row.kind), cell(&row.default), cell(&row.what));
    }
    table
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Text(text) => text.what.trim_start_matches("a ").trim_start_matches("an ").to_string(),
        Shape::Words(words) => one_of(words.iter().map(|word| format!("`\"{word}\"`"))),
        Shape::Boolean => "`true` or `false`".to_string(),
        Shape::Whole { min, max } if min == max => format!("`{min}`"),
        Shape::Whole { min, max: i64::MAX } => format!("whole number, at least {min}"),
        Shape::Whole { min, max } => format!("whole number, {min} to {max}"),
        Shape::Size { min: ByteSize(0), max: ByteSize(u64::MAX) } => "size".to_string(),
        Shape::Size { min, max } => format!("size, {min} to {max}"),
        Shape::Number { min, max } => format!("number, {min} to {max}"),
        Shape::List(of) => format!("list of: {}", kind(of)),
        Shape::Named(of) => format!("table of names, each: {}", kind(of)),
        Shape::Table(table) if is_reference(table) => match (table.keys)().len() {
            1 => "`{ file }`".to_string(),
            _ => "`{ env }` or `{ file }`".to_string(),
        },
        Shape::Table(_) => "table".to_string(),
        Shape::Any(shapes) => {
            let mut kinds: Vec<String> = shapes.iter().map(kind).collect();
            kinds.dedup();
            kinds.join(", or ")
        }
    }
}

const INTRODUCTION: &str = r#"# Configuration

This page is written from the doc comments in `config/src/file.rs`; a test keeps it current.
`shoal check FILE` finds every mistake in a file and shows its line, `shoal config schema` prints a JSON Schema for editors.

The smallest gateway that does something:

```toml
[listen.main]
bind = "0.0.0.0:8080"

[service.hello]
endpoints = ["http://127.0.0.1:3000"]

[[route]]
match   = "GET /hello/{name}"
service = "hello"
limit   = ["10/s per client_ip"]
```

## How things are written

Files are TOML.
Unknown keys are errors.

| what | how |
| --- | --- |
| durations | `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"` |
| sizes | `"500B"`, `"64KiB"`, `"1MiB"`, `"1GiB"`, and `KB`, `MB`, `GB` for thousands |
| rates | `"100/s"`, `"5/min"`, `"1000/h"`, `"1/d"`, `"1/10s"` |
| shares | `"20%"`, `"0.5%"` |
| networks | `"10.0.0.0/8"`, `"2001:db8::/32"`, or a single address |
| values from outside | `{ env = "NAME" }`, `{ env = "NAME", default = "…" }`, `{ file = "/path" }`, where the type says so |
| paths | relative ones start at the folder of the file that names them |

### Matches

`match = "[METHOD[,METHOD] ][HOST]/PATH"`.
Any method and any host are written by leaving them out; `*.example.com` stands for one or more labels in front of `example.com`.

| segment | meets |
| --- | --- |
| `orders` | exactly that segment |
| `{id}` | any one segment that is not empty |
| `**`, `{rest=**}` | everything that is left, also nothing; only at the end |

`/v1/**` meets `/v1`, `/v1/` and `/v1/x`, but not `/v10`.
`/v1` does not meet `/v1/`: a slash at the end is a segment of its own, an empty one.
Paths are normalised before they are matched: unreserved characters are decoded, dot segments resolved, doubled slashes merged.

The most specific route takes a request, and the order in the file never matters.
Compared are, one after the other: the host (exact, then the longest wildcard, then any), the path segment by segment from the left (literal, then `{name}`, then `**`), whether a method is named, the number of `headers`, the number of `query` parameters, whether there is a `path_regex`, and `priority`.
Two routes of equal rank that can match the same request are an error.

### Keys

What a limit counts apart, a sticky split stays with, or a balancer hashes: `client_ip` (IPv6 by its /64), `header:NAME`, `cookie:NAME`, `path:CAPTURE`, `host`, `route`.
"#;

const CONCLUSION: &str = r#"
## TLS of `[admin]` and `[listen.NAME]`

Both are written alike. Instead of `cert` and `key`, `certificates` lists several pairs; the first is shown to callers that ask for no name or for an unknown one.
"#;
