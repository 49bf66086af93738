//! What a reload is said to change.

use crate::{BASE, gateway};
use shoal_config::diff;

#[track_caller]
fn check(before: &str, after: &str, expected: &str) {
    assert_eq!(diff(&gateway(before), &gateway(after)).to_string(), expected);
}

#[test]
fn moving_things_around_changes_nothing() {
    let moved = format!("# A comment.\n\n[node]\nname = \"node\"\n{BASE}");
    check(BASE, &moved, "nothing");
    assert_ne!(gateway(BASE).revision, gateway(&moved).revision);
    assert_eq!(gateway(BASE).revision, gateway(BASE).revision);
}

#[test]
fn each_part_is_told_apart() {
    let more = "[listen.b]\nbind = \"127.0.0.1:1\"\n[[route]]\nid = \"new\"\nmatch = \"/new\"\nservice = \"hello\"\n";
    check(BASE, &format!("{BASE}{more}"), "listeners +1, routes +1");
    check(&format!("{BASE}{more}"), BASE, "listeners -1, routes -1");
    check(BASE, &BASE.replace(":3000", ":3001"), "services ~1");
    check(BASE, &BASE.replace("1/min", "2/min"), "routes ~1, limits ~1");
    check(BASE, &BASE.replace("[\"slow\"]", "[\"slow\", \"1/s per host\"]"), "routes ~1");
    check(BASE, &format!("{BASE}max_body = \"2MiB\"\n"), "routes ~1");
    check(BASE, &format!("{BASE}headers = {{ a = {{ regex = \"x\" }} }}\n"), "routes ~1");
    check(BASE, &BASE.replace("id = \"base\"", "id = \"other\""), "routes +1 -1");
    check(
        BASE,
        &format!("[node]\nname = \"x\"\n[admin]\nenabled = false\n[telemetry]\nmax_series = 500\n{BASE}"),
        "node, admin, telemetry",
    );
}

#[test]
fn what_is_described_has_its_place_and_its_defaults() {
    let gateway = gateway(BASE);
    let all = gateway.describe();
    assert_eq!(all["services"][0]["deadlines"]["connect"], "1s");
    assert_eq!(all["services"][0]["deadlines"]["total"], "none");
    assert_eq!(all["listeners"][0]["bounds"]["head_size"], "32KiB");
    assert_eq!(all["limits"][0]["rate"], "1/min");
    let route = gateway.routes.get("base").expect("base is a route").describe();
    assert_eq!(route["match"], "/base");
    assert_eq!(route["service"], "hello");
    assert_eq!(route["max_body"], "1MiB");
    assert_eq!(route["place"]["line"], 11);
    assert_eq!(route, all["routes"][0]);
}
