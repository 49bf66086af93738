//! Which pairs of routes are ties, and which of them never get a turn.

use crate::{Files, shorts};

/// Routes as the lines after `[[route]]`; what is found, by code alone.
#[track_caller]
fn check(routes: &[&str], expected: &[&str]) {
    let mut text = "[listen.main]\nbind = \"127.0.0.1:1\"\n[listen.b]\nbind = \"127.0.0.1:2\"\n".to_string();
    for route in routes {
        text += &format!("[[route]]\nrespond = {{}}\n{route}\n");
    }
    let loaded = Files::new(&[("shoal.toml", &text)]).load("shoal.toml");
    let found: Vec<&str> = loaded.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(found, expected, "{text}\n{:?}", shorts(&loaded));
}

#[test]
fn equal_routes_are_a_tie() {
    check(&["match = \"/a\"", "match = \"/a\""], &["E2041"]);
    check(&["match = \"/a/{x}\"", "match = \"/a/{y}\""], &["E2041"]);
    check(&["match = \"/a/**\"", "match = \"/a/{y=**}\""], &["E2041"]);
    check(&["match = \"GET /a\"", "match = \"GET,PUT /a\""], &["E2041"]);
    check(&["match = \"*.x.com/a\"", "match = \"*.X.com/a\""], &["E2041"]);
    check(&["match = \"/a\"\nheaders = { b = \"1\" }", "match = \"/a\"\nheaders = { c = \"1\" }"], &["E2041"]);
    check(&["match = \"/a\"\npath_regex = \"/.\"", "match = \"/a\"\npath_regex = \"/a\""], &["E2041"]);
    check(&["match = \"/a\"", "match = \"/a\"", "match = \"/a\""], &["E2041", "E2041"]);
}

#[test]
fn what_is_more_specific_in_anything_is_no_tie() {
    check(&["match = \"/a\"", "match = \"/b\""], &[]);
    check(&["match = \"/a\"", "match = \"/a/\""], &[]);
    check(&["match = \"/a\"", "match = \"x.com/a\"", "match = \"*.com/a\""], &[]);
    check(&["match = \"/a\"", "match = \"/{x}\"", "match = \"/**\""], &[]);
    check(&["match = \"/a\"", "match = \"GET /a\""], &[]);
    check(&["match = \"/a\"", "match = \"/a\"\nheaders = { b = \"1\" }"], &[]);
    check(&["match = \"/a\"", "match = \"/a\"\nquery = { b = \"1\" }"], &[]);
    check(&["match = \"/{x}\"", "match = \"/{x}\"\npath_regex = \"/a\""], &[]);
}

#[test]
fn what_excludes_each_other_is_no_tie() {
    check(&["match = \"GET /a\"", "match = \"PUT /a\""], &[]);
    check(&["match = \"/a\"\nlisten = [\"main\"]", "match = \"/a\"\nlisten = [\"b\"]"], &[]);
    check(&["match = \"/a\"\nheaders = { b = \"1\" }", "match = \"/a\"\nheaders = { B = \"2\" }"], &[]);
    check(&["match = \"/a\"\nquery = { b = \"1\" }", "match = \"/a\"\nquery = { b = \"2\" }"], &[]);
    check(&["match = \"/a\"\nheaders = { b = { present = true } }", "match = \"/a\"\nheaders = { b = { present = false } }"], &[]);
    check(&["match = \"/a\"\nheaders = { b = \"1\" }", "match = \"/a\"\nheaders = { b = { regex = \"[2-9]\" } }"], &[]);
}

#[test]
fn a_priority_decides_a_tie_only_if_it_differs() {
    check(&["match = \"/a\"\nheaders = { b = \"1\" }\npriority = 1", "match = \"/a\"\nheaders = { c = \"1\" }"], &[]);
    check(&["match = \"/a\"\nheaders = { b = \"1\" }\npriority = 0", "match = \"/a\"\nheaders = { c = \"1\" }"], &["E2041"]);
}

#[test]
fn a_route_that_never_gets_a_turn_is_warned_about() {
    check(&["match = \"/a\"\npriority = 1", "match = \"/a\""], &["W4003"]);
    check(&["match = \"GET /a\"", "match = \"GET,PUT /a\"\npriority = 1"], &["W4003"]);
    check(&["match = \"GET,PUT /a\"", "match = \"GET /a\"\npriority = 1"], &[]);
    check(&["match = \"/a\"\nheaders = { b = \"1\" }", "match = \"/a\"\nheaders = { b = { present = true } }\npriority = 1"], &["W4003"]);
    check(&["match = \"/a\"\npath_regex = \"/.*\"", "match = \"/a\""], &["W4003"]);
    check(&["match = \"/a\"\npriority = 1\nlisten = [\"b\"]", "match = \"/a\""], &[]);
}
