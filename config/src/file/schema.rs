//! The JSON Schema (2020-12) of a configuration file, for editors that complete and check while one types.

use super::{
    Root,
    manual::text,
    reader::Read,
    shape::{Key, Shape, Table},
};
use serde_json::{Map, Value, json};

/// Returns the schema that `shoal config schema` prints.
pub fn schema() -> Value {
    let mut schema = of(&Root::shape());
    let root = schema.as_object_mut().expect("the schema of a table is an object");
    root.insert("$schema".to_string(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_string(), json!("shoal configuration"));
    schema
}

fn of(shape: &Shape) -> Value {
    match shape {
        Shape::Text(text) => {
            let mut schema = json!({ "type": "string", "examples": [text.example] });
            if let Some(pattern) = text.pattern {
                schema["pattern"] = json!(pattern);
            }
            schema
        }
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Whole { min, max: i64::MAX } => json!({ "type": "integer", "minimum": min }),
        Shape::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Size { .. } => json!({ "type": "string", "examples": ["64KiB"], "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB|KB|MB|GB)$" }),
        Shape::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::List(of) => json!({ "type": "array", "items": self::of(of) }),
        Shape::Named(of) => json!({ "type": "object", "additionalProperties": self::of(of) }),
        Shape::Table(table) => of_table(table),
        Shape::Any(shapes) => json!({ "anyOf": shapes.iter().map(of).collect::<Vec<_>>() }),
    }
}

fn of_table(table: &Table) -> Value {
    let keys = (table.keys)();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_string(), of_key(key))).collect();
    let mut schema = json!({
        "type": "object",
        "description": text(table.doc),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn of_key(key: &Key) -> Value {
    let mut schema = of(&key.shape);
    schema["description"] = json!(text(key.doc));
    if let Some(default) = key.default.and_then(as_json) {
        schema["default"] = default;
    }
    schema
}

/// A default, which is written as TOML, in JSON.
fn as_json(default: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("default = {default}")).ok()?;
    serde_json::to_value(&table["default"]).ok()
}
