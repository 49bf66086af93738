//! What `[cluster]` means, and what is wrong with it.

use crate::{BASE, Files, gateway, shorts};
use shoal_config::{Seed, is_dns_label, is_dns_name};

const NODE: &str = "[node]\nname = \"west-1\"\nregion = \"west\"\nzone = \"a\"\nstate_dir = \"/var/lib/shoal\"\n";

/// Lines of `[cluster]`, the first of which is line 7, after a node with nothing to say against it.
#[track_caller]
fn check(lines: &str, expected: &[&str]) {
    let files = [("cert.pem", ""), ("key.pem", ""), ("ca.pem", ""), ("ring", "x"), ("token", "y")];
    let text = format!("{NODE}[cluster]\n{lines}\n{BASE}");
    let loaded = Files::new(&[&files[..], &[("shoal.toml", &text)]].concat()).load("shoal.toml");
    let found: Vec<String> = shorts(&loaded).into_iter().map(|problem| problem.replace("shoal.toml:", "")).collect();
    assert_eq!(found, expected, "{lines}\n{:#?}", loaded.problems);
    assert_eq!(loaded.gateway.is_some(), expected.iter().all(|problem| problem.contains(" W")));
}

#[test]
fn a_node_without_the_section_is_alone() {
    assert_eq!(gateway(BASE).cluster, None);
}

#[test]
fn a_cluster_says_where_nodes_are_found() {
    let text = format!(
        "{NODE}[cluster]\nname = \"shop\"\nbind = \"0.0.0.0:7900\"\nadvertise = \"192.0.2.7\"\n\
         join = [\"192.0.2.8:7900\", \"[2001:db8::1]:7900\", \"one.shop.internal:1\", \"dns:shop.svc:7900\", \"srv:_shoal._tcp.shop.svc\"]\n{BASE}"
    );
    let cluster = gateway(&text).cluster.expect("there is a section");
    assert_eq!((&*cluster.name, cluster.bind.to_string().as_str()), ("shop", "0.0.0.0:7900"));
    assert_eq!(cluster.advertise.to_string(), "192.0.2.7:7900");
    assert!(!cluster.is_local());
    let host = |host: &str, port| Seed::Host { host: host.into(), port };
    let expected = [
        host("192.0.2.8", 7900),
        host("2001:db8::1", 7900),
        host("one.shop.internal", 1),
        Seed::Dns { name: "shop.svc".into(), port: 7900 },
        Seed::Srv { name: "_shoal._tcp.shop.svc".into() },
    ];
    assert_eq!(cluster.join, expected);
    assert_eq!(cluster.join[1].to_string(), "[2001:db8::1]:7900");
}

#[test]
fn an_advertised_address_may_come_from_outside_and_bring_its_port() {
    let text = format!("{NODE}[cluster]\nname = \"shop\"\nbind = \"0.0.0.0:7900\"\nadvertise = {{ env = \"IP\" }}\n{BASE}");
    for (ip, expected) in [("192.0.2.7", "192.0.2.7:7900"), ("192.0.2.7:1", "192.0.2.7:1"), ("2001:db8::1", "[2001:db8::1]:7900")] {
        let loaded = Files::new(&[("shoal.toml", &text)]).env("IP", ip).load("shoal.toml");
        let gateway = loaded.gateway.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        assert_eq!(gateway.cluster.expect("there is a section").advertise.to_string(), expected);
    }
}

#[test]
fn mistakes_are_found_where_they_are() {
    let good = "name = \"shop\"\nbind = \"127.0.0.1:7900\"\n";
    check(good, &[]);
    check("name = \"Shop!\"\nbind = \"127.0.0.1:7900\"\n", &["7:8 E1122"]);
    check("bind = \"127.0.0.1:7900\"\n", &["6:1 E1102"]);
    check("name = \"shop\"\n", &["6:1 E1102"]);
    check("name = \"shop\"\nbind = \"0.0.0.0:7900\"\n", &["8:8 E2052"]);
    check("name = \"shop\"\nbind = \"0.0.0.0:7900\"\nadvertise = \"127.0.0.1\"\n", &["9:13 E2052"]);
    check("name = \"shop\"\nbind = \"0.0.0.0:7900\"\nadvertise = \"west-1\"\n", &["9:13 E1108"]);
    check("name = \"shop\"\nbind = \"127.0.0.1:8080\"\n", &["8:8 E2012"]);
    check("name = \"shop\"\nbind = \"127.0.0.1:9901\"\n", &["8:8 E2012"]);
    for seed in ["west-1", "west-1:0", "west-1:+1", "2001:db8::1:7900", "dns:west", "srv:", "http://west:1"] {
        check(&format!("{good}join = [\"{seed}\"]\n"), &["9:9 E1121"]);
    }
    check(&format!("{good}token = \"abc\"\n"), &["9:9 E3004"]);
    check(&format!("{good}secrets = {{ file = \"ring\" }}\n"), &["9:11 E1118"]);
    let tls = "tls = { cert = \"cert.pem\", key = \"key.pem\", ca = \"ca.pem\" }\n";
    check(&format!("{good}{tls}"), &["9:7 E1102"]);
    check(&format!("{good}{tls}secrets = {{ file = \"ring\" }}\n"), &[]);
    check(&format!("{good}{tls}secrets = {{ file = \"ring\" }}\ntoken = {{ file = \"token\" }}\n"), &["11:9 W4006"]);
    check(&format!("{good}tls = {{ cert = \"cert.pem\" }}\n"), &["9:7 E1102", "9:7 E1102", "9:7 E1102"]);
    check(&format!("{good}seeds = []\n"), &["9:1 E1103"]);
}

#[test]
fn a_node_of_a_cluster_has_a_name_and_a_memory() {
    let cluster = "[cluster]\nname = \"shop\"\nbind = \"127.0.0.1:7900\"\n";
    for (node, expected) in [
        ("", vec!["1:1 E2053", "1:1 W4009"]),
        ("[node]\nstate_dir = \"/s\"\n", vec!["4:1 E2053"]),
        ("[node]\nname = \"node\"\nstate_dir = \"/s\"\n", vec![]),
        ("[node]\nname = \"West 1\"\nstate_dir = \"/s\"\n", vec!["5:8 E1122"]),
        ("[node]\nname = \"west.1\"\nregion = \"West Europe\"\nzone = \"a/b\"\n", vec!["1:1 W4009", "6:10 E1122", "7:8 E1122"]),
    ] {
        let text = format!("{cluster}{node}{BASE}");
        let found = shorts(&Files::new(&[("shoal.toml", &text)]).load("shoal.toml"));
        let found: Vec<String> = found.into_iter().map(|problem| problem.replace("shoal.toml:", "")).collect();
        // Where no [node] is written, the file as a whole is where it is missing.
        let expected: Vec<String> =
            expected.into_iter().map(|it| if node.is_empty() { it.replace("4:1", "1:1") } else { it.into() }).collect();
        assert_eq!(found, expected, "{node}");
    }
}

#[test]
fn there_is_one_cluster() {
    let main = format!("include = [\"more.toml\"]\n{NODE}[cluster]\nname = \"shop\"\nbind = \"127.0.0.1:7900\"\n{BASE}");
    let more = "[cluster]\nname = \"shop\"\nbind = \"127.0.0.1:7901\"\n";
    assert_eq!(shorts(&Files::new(&[("shoal.toml", &main), ("more.toml", more)]).load("shoal.toml")), ["more.toml:1:1 E2011"]);
}

#[test]
fn labels_have_one_form() {
    for (text, label, name) in [
        ("shop", true, true),
        ("west-1", true, true),
        ("1", true, true),
        ("west.1", false, true),
        ("West", false, false),
        ("-a", false, false),
        ("a-", false, false),
        ("a..b", false, false),
        ("a_b", false, false),
        ("", false, false),
        (&"a".repeat(63), true, true),
        (&"a".repeat(64), false, false),
        (&format!("{}.b", "a".repeat(62)), false, false),
    ] {
        assert_eq!((is_dns_label(text), is_dns_name(text)), (label, name), "{text}");
    }
}

#[test]
fn what_all_nodes_should_serve_alike_is_told_apart_from_what_is_a_nodes_own() {
    let of = |node: &str, listen: &str, routes: &str| {
        gateway(&format!("[node]\nname = \"{node}\"\n[listen.main]\nbind = \"{listen}\"\n{routes}")).common()
    };
    let routes = "[[route]]\nmatch = \"/a\"\nrespond = { status = 204 }\nlimit = \"1/s per client_ip\"\n";
    let ours = of("one", "127.0.0.1:1", routes);
    assert_eq!(of("two", "127.0.0.1:2", routes), ours);
    assert_eq!(of("one", "127.0.0.1:1", &format!("# further down\n\n{routes}")), ours);
    assert_ne!(of("one", "127.0.0.1:1", &routes.replace("204", "200")), ours);
    assert_ne!(of("one", "127.0.0.1:1", &routes.replace("1/s", "2/s")), ours);
    assert_ne!(of("one", "127.0.0.1:1", &routes.replace("/a", "/b")), ours);
}
