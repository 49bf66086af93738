//! No secret is shown: not in problems, not in what is described, not in what is debugged.

use crate::{BASE, Files};
use shoal_config::Problem;

const SECRET: &str = "hunter2hunter2hunter2";

#[track_caller]
fn check_hidden(files: &Files) {
    let loaded = files.load("shoal.toml");
    let mut shown: Vec<String> = loaded.problems.iter().map(Problem::render).collect();
    shown.extend(loaded.problems.iter().map(|problem| problem.to_json().to_string()));
    shown.push(format!("{loaded:?}"));
    if let Some(gateway) = &loaded.gateway {
        shown.push(gateway.describe().to_string());
    }
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_token_comes_from_outside_and_stays_hidden() {
    let main = format!("[admin]\ntoken = {{ file = \"token\" }}\n[node]\nname = {{ env = \"NAME\" }}\n{BASE}");
    let files = Files::new(&[("shoal.toml", &main), ("token", &format!("{SECRET}\n"))]).env("NAME", "west-1");
    check_hidden(&files);
    let gateway = files.load("shoal.toml").gateway.expect("there is no problem");
    assert_eq!(gateway.admin.token.as_ref().map(|token| token.reveal()), Some(SECRET));
    assert_eq!(&*gateway.node.name, "west-1");
    assert_eq!(gateway.describe()["admin"]["token"], "••••");
}

#[test]
fn an_unset_variable_takes_its_default() {
    let main = format!("[node]\nregion = {{ env = \"REGION\", default = \"west\" }}\n{BASE}");
    assert_eq!(&*crate::gateway(&main).node.region, "west");
}

#[test]
fn a_header_from_outside_is_not_shown_and_is_sent() {
    let main = format!("{BASE}request = {{ set = {{ authorization = {{ env = \"KEY\" }}, x-plain = \"yes\" }} }}\n");
    let files = Files::new(&[("shoal.toml", &main)]).env("KEY", SECRET);
    check_hidden(&files);
    let gateway = files.load("shoal.toml").gateway.expect("there is no problem");
    let route = gateway.routes.get("base").expect("base is a route");
    assert_eq!(route.request.headers.set[0].1.as_bytes(), SECRET.as_bytes());
    assert_eq!(route.describe()["request"]["set"]["x-plain"], "yes");
}

#[test]
fn a_secret_that_was_written_into_the_file_is_not_repeated() {
    let lines = [
        format!("[admin]\ntoken = \"{SECRET}\"\n"),
        format!("[admin]\ntoken = {{ env = \"X\", default = \"{SECRET}\", fil = 1 }}\n"),
        format!("admin = {{ token = \"{SECRET}\", nonsense = 1 }}\n"),
        format!("[admin]\ntoken = \"{SECRET}\n"),
        format!("[admin]\ntoken = {SECRET}\n"),
        format!("[service.x]\nendpoints = [\"http://user:{SECRET}@host\"]\n"),
        format!("[[route]]\nmatch = \"/x\"\nrequest = {{ set = {{ authorization = \"{SECRET}\", te = \"x\" }} }}\n"),
        format!("[[route]]\nmatch = \"/x\"\nrequest = {{ set = {{ authorization = \"{SECRET} }} }}\n"),
    ];
    for line in lines {
        check_hidden(&Files::new(&[("shoal.toml", &format!("{line}{BASE}"))]));
    }
}

#[test]
fn an_empty_token_is_refused_and_a_short_one_warned_about() {
    let load = |content: &str| {
        let main = format!("[admin]\ntoken = {{ file = \"token\" }}\n{BASE}");
        crate::shorts(&Files::new(&[("shoal.toml", &main), ("token", content)]).load("shoal.toml"))
    };
    assert_eq!(load("\n"), ["shoal.toml:2:9 E3003"]);
    assert_eq!(load("short"), ["shoal.toml:2:9 W4007"]);
}
