//! What belongs to a configuration, across files.

use crate::{BASE, Files, shorts};
use std::path::Path;

#[test]
fn includes_are_read_in_the_order_of_their_names_and_only_if_they_match() {
    let main = format!("include = [\"routes.d/*.toml\", \"one.toml\"]\n{BASE}");
    let route = |path: &str| format!("[[route]]\nmatch = \"{path}\"\nservice = \"hello\"\n");
    let loaded = Files::new(&[
        ("/etc/shoal/shoal.toml", &main),
        ("/etc/shoal/routes.d/b.toml", &route("/b")),
        ("/etc/shoal/routes.d/a.toml", &route("/a")),
        ("/etc/shoal/routes.d/a.toml.bak", "not toml"),
        ("/etc/shoal/routes.d/.hidden.toml", "not toml"),
        ("/etc/shoal/one.toml", &route("/one")),
    ])
    .load("/etc/shoal/shoal.toml");
    assert_eq!(shorts(&loaded), [""; 0]);
    let gateway = loaded.gateway.expect("there is no problem");
    let ids: Vec<&str> = gateway.routes.iter().map(|route| route.id.as_str()).collect();
    assert_eq!(ids, ["base", "a", "b", "one"]);
    let place = &gateway.routes.get("b").expect("b is a route").place;
    assert_eq!(place.to_string(), "/etc/shoal/routes.d/b.toml:1:1");
    let files: Vec<&Path> = loaded.files.iter().map(|file| file.as_path()).collect();
    assert_eq!(
        files,
        ["/etc/shoal/one.toml", "/etc/shoal/routes.d/a.toml", "/etc/shoal/routes.d/b.toml", "/etc/shoal/shoal.toml"].map(Path::new)
    );
    assert_eq!(loaded.folders, [Path::new("/etc/shoal/routes.d")]);
}

#[track_caller]
fn check(include: &str, files: &[(&str, &str)], expected: &[&str]) {
    let main = format!("include = {include}\n{BASE}");
    let mut all = vec![("shoal.toml", main.as_str())];
    all.extend(files);
    let loaded = Files::new(&all).load("shoal.toml");
    assert_eq!(shorts(&loaded), expected);
}

#[test]
fn an_include_that_matches_nothing_is_only_a_warning() {
    check("[\"routes.d/*.toml\"]", &[], &["shoal.toml:1:12 W4001"]);
    check("[\"routes.d/*.toml\"]", &[("routes.d/a.txt", "")], &["shoal.toml:1:12 W4001"]);
}

#[test]
fn an_include_that_is_named_must_be_there() {
    check("[\"one.toml\"]", &[], &["shoal.toml:1:12 E3001"]);
}

#[test]
fn a_star_stays_within_the_name_of_a_file() {
    check("[\"*/routes.toml\", \"**\", \"routes.d/\"]", &[], &["shoal.toml:1:12 E3006", "shoal.toml:1:29 E3006", "shoal.toml:1:35 E3006"]);
}

#[test]
fn an_include_cannot_include() {
    check("[\"one.toml\"]", &[("one.toml", "include = [\"two.toml\"]\n")], &["one.toml:1:11 E3005"]);
}

#[test]
fn the_same_part_in_two_files_is_an_error_that_shows_both() {
    let second = "[listen.main]\nbind = \"127.0.0.1:1\"\n[service.hello]\nendpoints = [\"http://x\"]\n[limit.slow]\nrate = \"1/s\"\n[[route]]\nid = \"base\"\nmatch = \"/y\"\nservice = \"hello\"\n";
    let main = format!("include = [\"one.toml\"]\n{BASE}");
    let loaded = Files::new(&[("shoal.toml", &main), ("one.toml", second)]).load("shoal.toml");
    assert_eq!(shorts(&loaded), ["one.toml:1:9 E2011", "one.toml:3:10 E2011", "one.toml:5:8 E2011", "one.toml:8:6 E2011"]);
    let also: Vec<String> = loaded.problems.iter().map(|problem| problem.also[0].to_string()).collect();
    assert_eq!(also, ["shoal.toml:3:9", "shoal.toml:6:10", "shoal.toml:9:8", "shoal.toml:13:6"]);
}

#[test]
fn a_section_that_there_is_one_of_stands_in_one_file() {
    let main = format!("include = [\"one.toml\"]\n[node]\nname = \"a\"\n{BASE}");
    let loaded = Files::new(&[("shoal.toml", &main), ("one.toml", "[node]\nname = \"b\"\n")]).load("shoal.toml");
    assert_eq!(shorts(&loaded), ["one.toml:1:1 E2011"]);
}

#[test]
fn relative_paths_start_at_the_file_that_names_them() {
    let main = format!("include = [\"sub/tls.toml\"]\n{BASE}");
    let tls = "[listen.tls]\nbind = \"127.0.0.1:8443\"\ntls = { cert = \"c.pem\", key = { file = \"../k.pem\" } }\n";
    let loaded = Files::new(&[("/etc/shoal.toml", &main), ("/etc/sub/tls.toml", tls), ("/etc/sub/c.pem", ""), ("/etc/sub/../k.pem", "")])
        .load("/etc/shoal.toml");
    assert_eq!(shorts(&loaded), [""; 0]);
    let gateway = loaded.gateway.expect("there is no problem");
    let tls = gateway.listeners[1].tls.as_ref().expect("the second listener has TLS");
    assert_eq!(tls.certificates[0].cert, Path::new("/etc/sub/c.pem"));
    assert!(gateway.files.contains(&"/etc/sub/../k.pem".into()));
}

#[test]
fn a_file_that_cannot_be_read_or_is_no_text_is_one_problem() {
    assert_eq!(shorts(&Files::default().load("shoal.toml")), ["shoal.toml:1:1 E3001"]);
    let mut files = Files::default();
    files.files.insert("shoal.toml".into(), b"[node]\nname = \"\xff\"\n".to_vec());
    assert_eq!(shorts(&files.load("shoal.toml")), ["shoal.toml:2:9 E1003"]);
}

#[test]
fn what_was_named_is_watched_even_if_nothing_can_be_served() {
    let loaded = Files::new(&[(
        "shoal.toml",
        "[admin]\ntoken = { file = \"t\" }\n[listen.x]\nbind = \"127.0.0.1:1\"\ntls = { cert = \"c\", key = \"k\" }\n",
    )])
    .load("shoal.toml");
    assert!(loaded.gateway.is_none());
    assert_eq!(loaded.files, ["c", "k", "shoal.toml", "t"].map(std::path::PathBuf::from));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test is about real files")]
fn the_files_of_this_machine_are_a_source() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("the folder can be written");
    write("shoal.toml", &format!("include = [\"r-*.toml\"]\n[node]\nname = {{ env = \"NAME\" }}\n{BASE}"));
    write("r-1.toml", "[[route]]\nmatch = \"/x\"\nservice = \"hello\"\n");
    let source = shoal_config::OsSource::new([("NAME".to_string(), "west-1".to_string())]);
    let loaded = shoal_config::load(&folder.path().join("shoal.toml"), &source);
    assert_eq!(shorts(&loaded), [""; 0]);
    let gateway = loaded.gateway.expect("there is no problem");
    assert_eq!((gateway.routes.len(), &*gateway.node.name), (2, "west-1"));
}
