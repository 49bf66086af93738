//! The manual and the schema say what the reader does.

use serde_json::Value;
use std::path::Path;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

#[test]
#[expect(clippy::disallowed_methods, reason = "this test reads and, when asked to, writes a page of the repository")]
fn the_page_about_configuration_is_current() {
    let manual = shoal_config::manual();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(Path::new(PATH), &manual).expect("the page can be written");
    }
    let page = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(page == manual, "docs/configuration.md is old: run `UPDATE_DOCS=1 cargo test -p shoal-config`");
}

/// Visits every key of a schema with what it says about it.
fn keys(schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        visit(name, key);
        keys(key, visit);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            keys(&schema[inner], visit);
        }
    }
    schema["anyOf"].as_array().into_iter().flatten().for_each(|choice| keys(choice, visit));
}

#[test]
fn every_key_and_every_default_is_in_the_manual() {
    let manual = shoal_config::manual();
    let mut count = 0;
    keys(&shoal_config::schema(), &mut |name, key| {
        count += 1;
        assert!(key["description"].as_str().is_some_and(|text| text.ends_with(['.', ')', '`'])), "{name}: {key}");
        // References to the environment and to files have a line for all of them.
        if ["env", "file", "default"].contains(&name) {
            return;
        }
        let row = manual.lines().any(|line| {
            line.contains(&format!("{name}` |"))
                || line == format!("## `[{name}]`")
                || line == format!("## `[[{name}]]`")
                || line == format!("## `[{name}.NAME]`")
        });
        assert!(row, "{name} is not in the manual");
        if let Some(default) = key.get("default").filter(|default| ![serde_json::json!({}), serde_json::json!([])].contains(default)) {
            let default = default.to_string().replace(',', ", ");
            assert!(
                manual.lines().any(|line| line.contains(&format!("{name}` |")) && line.contains(&format!("`{default}`"))),
                "{name} = {default}"
            );
        }
    });
    assert!(count > 120, "only {count} keys");
}

#[test]
fn the_schema_refuses_unknown_keys_everywhere() {
    fn check(schema: &Value) {
        if schema["properties"].is_object() {
            assert_eq!(schema["additionalProperties"], false, "{schema}");
        }
        match schema {
            Value::Object(object) => object.values().for_each(check),
            Value::Array(array) => array.iter().for_each(check),
            _ => {}
        }
    }
    let schema = shoal_config::schema();
    check(&schema);
    assert_eq!(schema["properties"]["route"]["items"]["required"], serde_json::json!(["match"]));
    assert_eq!(schema["properties"]["node"]["properties"]["max_connections"]["default"], 50000);
}
