//! Every mistake is found where it was made, in the main file as in an include, and nothing is said twice.

use crate::{BASE, Files, shorts};

/// Puts a snippet into a main file and into an include, beside [`BASE`], and expects the same findings in both:
/// `line:column CODE`, counted in the snippet.
#[track_caller]
fn check(snippet: &str, expected: &[&str]) {
    let main = Files::new(&[("shoal.toml", &format!("{snippet}\n{BASE}"))]).load("shoal.toml");
    let found: Vec<String> = shorts(&main).into_iter().map(|problem| problem.replace("shoal.toml:", "")).collect();
    assert_eq!(found, expected, "in the main file\n{snippet}\n{:#?}", main.problems);

    let base = format!("include = [\"routes.d/*.toml\"]\n{BASE}");
    let include = Files::new(&[("shoal.toml", &base), ("routes.d/a.toml", snippet)]).load("shoal.toml");
    let found: Vec<String> = shorts(&include).into_iter().map(|problem| problem.replace("routes.d/a.toml:", "")).collect();
    assert_eq!(found, expected, "in an include\n{snippet}\n{:#?}", include.problems);

    let served = expected.iter().all(|problem| problem.contains(" W"));
    assert_eq!((main.gateway.is_some(), include.gateway.is_some()), (served, served));
}

/// One route with these lines in it, beginning at line 1.
fn route(lines: &str) -> String {
    format!("[[route]]\n{lines}")
}

#[test]
fn nothing_is_wrong_with_nothing() {
    check("", &[]);
}

#[test]
fn a_file_that_is_not_toml() {
    check("[service.x]\nendpoints = [\"http://x\"\n\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n", &["2:24 E1001"]);
    check("[[route]]\nmatch = \"/x\nservice = \"hello\"\n", &["2:12 E1001"]);
    check("[[route]]\nmatch = /x\nservice = hello\n", &["2:9 E1001", "3:11 E1001"]);
    check("[[route]]\nmatch \"/x\"\nservice = \"hello\"\n", &["2:7 E1001"]);
    check("[service.x\nendpoints = [\"http://x\"]\n\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n", &["1:11 E1001"]);
    check("[service.x]\nendpoints = [\"http://x\"]\nendpoints = [\"http://y\"]\n", &["3:1 E1002"]);
    check("[service.x]\nendpoints = [\"http://x\"]\n[service.x]\nretyr = 1\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n", &["3:10 E1002"]);
}

#[test]
fn faults_of_syntax_do_not_hide_others() {
    check(
        "[[route]]\nmatch = \"/x\nservce = \"hello\"\n[[route]]\nmatch = \"/y\"\nservice = \"hallo\"\n[limit.z]\nrate = 5\n",
        &["2:12 E1001", "3:1 E1103", "6:11 E2001", "8:8 E1101"],
    );
}

#[test]
fn unknown_keys() {
    check(&route("match = \"/x\"\nservice = \"hello\"\nretires = 1\n"), &["4:1 E1103"]);
    check(&route("match = \"/x\"\nservce = \"hello\"\n"), &["3:1 E1103"]);
    check(&route("mtch = \"/x\"\nservice = \"hello\"\n"), &["2:1 E1103"]);
    check(&route("match = \"/x\"\nrespond = { status = 200, bdy = \"\" }\n"), &["3:27 E1103"]);
    check("[servise.x]\nendpoints = [\"http://x\"]\n", &["1:2 E1103"]);
    check("[service.x]\nendpont = [\"http://x\"]\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n", &["2:1 E1103"]);
    check(
        "[service.x]\nendpoints = [\"http://x\"]\n[service.x.retry]\nmaxx = 1\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n",
        &["4:1 E1103"],
    );
}

#[test]
fn wrong_types() {
    check(&route("match = 1\nservice = \"hello\"\n"), &["2:9 E1101"]);
    check(&route("match = \"/x\"\nservice = [\"hello\"]\n"), &["3:11 E1101"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nallow = \"10.0.0.0/8\"\n"), &["4:9 E1101"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nwebsocket = \"yes\"\n"), &["4:13 E1101"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nlimit = [1, \"slow\", 2]\n"), &["4:10 E1101", "4:21 E1101"]);
    check("node = 1\n", &["1:8 E1101"]);
    check("telemetry = []\n", &["1:13 E1101"]);
    check("[limit]\nx = 1\n", &["2:5 E1101"]);
}

#[test]
fn bad_quantities() {
    check("[limit.x]\nrate = \"100 per second\"\n[[route]]\nmatch = \"/x\"\nservice = \"hello\"\nlimit = [\"x\"]\n", &["2:8 E1104"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nmax_body = \"1 Meg\"\n"), &["4:12 E1104"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\ndeadlines = { connect = 5 }\n"), &["4:25 E1101"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\ndeadlines = { connect = \"5\" }\n"), &["4:25 E1104"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\ndeadlines = { connect = \"0s\" }\n"), &["4:25 E1105"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nretry = { max = 11, budget = \"120%\" }\n"), &["4:17 E1105", "4:30 E1104"]);
    check("[listen.x]\nbind = \"127.0.0.1:1\"\nmax_connections = 0\nbounds = { head_size = \"1KiB\" }\n", &["3:19 E1105", "4:24 E1105"]);
}

#[test]
fn missing_keys() {
    check(&route("service = \"hello\"\n"), &["1:1 E1102"]);
    check("[service.x]\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n", &["1:1 E1102"]);
    check("[limit.x]\n[[route]]\nmatch = \"/x\"\nservice = \"hello\"\nlimit = \"x\"\n", &["1:1 E1102"]);
    check("[listen.x]\n", &["1:1 E1102"]);
    check(&route("match = \"/x\"\n"), &["1:1 E1118"]);
    check(&route("match = \"/x\"\nsplit = [{ weight = 1 }]\n"), &["3:10 E1102"]);
}

#[test]
fn names_of_what_does_not_exist() {
    check(&route("match = \"/x\"\nservice = \"hallo\"\n"), &["3:11 E2001"]);
    check(&route("match = \"/x\"\nsplit = [{ service = \"hello\" }, { service = \"y\" }]\n"), &["3:45 E2001"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nlimit = [\"slow\", \"fast\"]\n"), &["4:18 E2002"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nlisten = [\"mian\"]\n"), &["4:11 E2003"]);
}

#[test]
fn the_same_name_twice() {
    let twice = "[[route]]\nid = \"x\"\nmatch = \"/x\"\nservice = \"hello\"\n[[route]]\nid = \"x\"\nmatch = \"/y\"\nservice = \"hello\"\n";
    check(twice, &["6:6 E2011"]);
    check(&twice.replace("/y", "/x"), &["6:6 E2011"]);
    check("[listen.x]\nbind = \"127.0.0.1:1\"\n[listen.y]\nbind = [\"[::1]:1\", \"127.0.0.1:1\"]\n", &["4:20 E2012"]);
    check("[listen.x]\nbind = [\"127.0.0.1:1\", \"0.0.0.0:1\", \"[::]:1\"]\ntls = \"none\"\n", &["2:24 E2012"]);
    check("[listen.x]\nbind = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n", &[]);
    check("[listen.x]\nbind = [\"127.0.0.1:9901\"]\n", &["2:9 E2012"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nlimit = [\"slow\", \"slow\"]\n"), &["4:18 E1002"]);
    check(&route("match = \"/x\"\nsplit = [{ service = \"hello\" }, { service = \"hello\" }]\n"), &["3:45 E2011"]);
}

#[test]
fn ties_between_routes() {
    let pair = "[[route]]\nid = \"a\"\nmatch = \"GET /t/{x}\"\nservice = \"hello\"\n[[route]]\nid = \"b\"\nmatch = \"GET,PUT /t/{y}\"\nservice = \"hello\"\n";
    check(pair, &["7:9 E2041"]);
    check(&pair.replace("id = \"b\"", "priority = 1"), &["3:9 W4003"]);
}

#[test]
fn bad_matches() {
    check(&route("match = \"* /x\"\nservice = \"hello\"\n"), &["2:10 E1202"]);
    check(&route("match = \"GET *.x.*/x\"\nservice = \"hello\"\n"), &["2:14 E1203"]);
    check(&route("match = \"GET ünder.example/a//b\"\nservice = \"hello\"\n"), &["2:14 E1203"]);
    check(&route("match = \"GET /ä/**/b\"\nservice = \"hello\"\n"), &["2:17 E1205"]);
    check(&route("match = \"GET /a/../b\"\nservice = \"hello\"\n"), &["2:17 E1204"]);
    check(&route("match = \"hello\"\nservice = \"hello\"\n"), &["2:10 E1201"]);
    check(&route("match = \"/x/{a}\"\nservice = \"hello\"\nrequest = { path = \"/y/{b}\" }\n"), &["4:24 E1206"]);
    check(&route("match = \"/x/{a}\"\nservice = \"hello\"\npath_regex = \"(\"\n"), &["4:14 E1113"]);
    check(
        &route("match = \"/x\"\nservice = \"hello\"\nheaders = { x_y = \"1\", host = \"h\", x-y = { regex = \"(\" } }\n"),
        &["4:13 E1111", "4:24 E1112", "4:52 E1113"],
    );
}

#[test]
fn secrets_and_files_that_are_not_there() {
    check("[admin]\ntoken = { env = \"NOT_SET\" }\n", &["2:17 E3002"]);
    check("[admin]\ntoken = { file = \"/not/there\" }\n", &["2:18 E3001"]);
    check("[admin]\ntoken = { env = \"NOT_SET\", file = \"/x\" }\n", &["2:9 E1118"]);
    check("[admin]\ntoken = \"hunter2\"\n", &["2:9 E3004"]);
    check("[node]\nregion = { env = \"NOT_SET\" }\n", &["2:18 E3002"]);
    check("[listen.x]\nbind = \"127.0.0.1:1\"\ntls = { cert = \"c.pem\", key = { file = \"k.pem\" } }\n", &["3:16 E3001", "3:40 E3001"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nrequest = { set = { x-key = { env = \"NOT_SET\" } } }\n"), &["4:37 E3002"]);
}

#[test]
fn bad_networks_and_addresses() {
    check(&route("match = \"/x\"\nservice = \"hello\"\ndeny = [\"10.0.0.0/33\", \"10.1.0.0/8\", \"::1\"]\n"), &["4:9 E1107", "4:24 E1107"]);
    check("[node]\ntrusted_proxies = [\"office\"]\n", &["2:20 E1107"]);
    check("[listen.x]\nbind = [\"127.0.0.1:1\", \"localhost:8080\"]\n", &["2:24 E1108"]);
    check(
        "[service.x]\nendpoints = [\"http://x/y\", \"x:1\"]\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n",
        &["2:23 E1109", "2:29 E1109"],
    );
}

#[test]
fn headers_that_nobody_may_touch() {
    check(
        &route(
            "match = \"/x\"\nservice = \"hello\"\nrequest = { set = { host = \"x\", x_y = \"1\" }, remove = [\"connection\", \"te\"] }\n",
        ),
        &["4:21 E1112", "4:33 E1111", "4:56 E1112", "4:70 E1112"],
    );
    check(
        &route("match = \"/x\"\nservice = \"hello\"\nresponse = { add = { \"proxy-status\" = \"x\", a = \"1\\n\" } }\n"),
        &["4:22 E1112", "4:48 E1120"],
    );
    check(&route("match = \"/x\"\nservice = \"hello\"\nresponse = { set = { A = \"1\", a = \"2\" } }\n"), &["4:31 E1002"]);
}

#[test]
fn keys_that_exclude_each_other() {
    check(&route("match = \"/x\"\nservice = \"hello\"\nrespond = { status = 200 }\n"), &["4:11 E1118"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nsticky = \"client_ip\"\n"), &["4:10 E1118"]);
    check(&route("match = \"/x\"\nredirect = { to = \"/y\", scheme = \"https\" }\n"), &["3:34 E1118"]);
    check(&route("match = \"/x\"\nredirect = {}\n"), &["3:12 E1118"]);
    check(&route("match = \"/x\"\nredirect = { to = \"/y?z=1\" }\n"), &["3:19 E2023"]);
    check(&route("match = \"/x/**\"\nservice = \"hello\"\nrequest = { path = \"/y\", strip_prefix = \"/x\" }\n"), &["4:41 E1118"]);
    check(&route("match = \"/x/**\"\nservice = \"hello\"\nrequest = { strip_prefix = \"/y\" }\n"), &["4:28 E2024"]);
    check(&route("match = \"/x\"\nrespond = { status = 204, body = \"x\" }\n"), &["3:34 E2023"]);
    check(&route("match = \"/x\"\nrespond = { status = 100 }\n"), &["3:22 E1116"]);
}

#[test]
fn parts_that_do_not_fit() {
    let used = "[[route]]\nmatch = \"/x\"\nservice = \"x\"\n";
    check(&format!("[service.x]\nendpoints = [\"h2c://a\", \"http://b\"]\n{used}"), &["2:25 E2022"]);
    check(&format!("[service.x]\nendpoints = []\n{used}"), &["2:13 E1119"]);
    check(&format!("[service.x]\nendpoints = [{{ url = \"http://a\", weight = 0 }}]\n{used}"), &["2:13 E2021"]);
    check(&format!("[service.x]\nendpoints = [\"http://a\", \"http://a:80\"]\n{used}"), &["2:26 E2011"]);
    check(&format!("[service.x]\nendpoints = [\"http://a\"]\nretry = {{ backoff_min = \"1s\" }}\n{used}"), &["3:25 E2023"]);
    check(&route("match = \"/x\"\nsplit = [{ service = \"hello\", weight = 0 }]\n"), &["3:9 E2021"]);
    check("[admin]\nbind = \"0.0.0.0:9901\"\n", &["2:8 E2051"]);
    check("[service.\"a b\"]\nendpoints = [\"http://a\"]\n[[route]]\nmatch = \"/x\"\nservice = \"a b\"\n", &["1:10 E1110"]);
}

#[test]
fn endpoints_that_are_nowhere_or_in_two_places() {
    let used = "[[route]]\nmatch = \"/x\"\nservice = \"x\"\n";
    let service = |lines: &str| format!("[service.x]\n{lines}\n{used}");
    check(&service("discovery = { name = \"a.internal\", port = 80 }"), &[]);
    check(&service("discovery = { kind = \"srv\", name = \"_http._tcp.a\", scheme = \"https\" }\ntls = { server_name = \"a\" }"), &[]);
    check(&service("endpoints = [\"http://a:80\"]\ndiscovery = { ttl_max = \"5s\" }"), &[]);
    check(&service("endpoints = [\"http://a:80\"]\ndiscovery = { name = \"b\", port = 1 }"), &["3:22 E1118"]);
    check(&service("discovery = { ttl_max = \"5s\" }"), &["2:13 E1102"]);
    check(&service("discovery = { nme = \"a\", port = 1 }"), &["2:15 E1103"]);
    check(&service("discovery = { name = \"a\" }"), &["2:13 E1102"]);
    check(&service("discovery = { name = \"a\", port = \"80\" }"), &["2:34 E1101"]);
    check(&service("discovery = { kind = \"srv\", name = \"a\", port = 1 }"), &["2:48 E1118"]);
    check(&service("discovery = { kind = \"consul\", name = \"a\" }"), &["2:22 E1106"]);
    check(&service("discovery = { name = \"10.0.0.1\", port = 1 }"), &["2:22 E1203"]);
    check(&service("discovery = { name = \"http://a\", port = 1 }"), &["2:22 E1203"]);
    check(&service("discovery = { name = \"a\", port = 0 }"), &["2:34 E1105"]);
    check(&service("discovery = { name = \"a\", port = 1, ttl_min = \"2m\" }"), &["2:47 E2023"]);
    check(&service("discovery = { name = \"a\", port = 1, ttl_min = \"0s\" }"), &["2:47 E1105"]);
    check(&service("discovery = { name = \"a\", port = 1, family = \"ipv5\" }"), &["2:46 E1106"]);
    check(&service("discovery = { name = \"a\", port = 1, scheme = \"h2c\" }\nprotocol = \"h1\""), &["2:46 E2022"]);
    check(&service("endpoints = [\"http://a:80\"]\ndiscovery = { kind = \"srv\" }"), &["3:22 E1102"]);
    check(&service("endpoints = [\"http://127.0.0.1:80\"]\ndiscovery = { ttl_max = \"5s\" }"), &["3:13 W4006"]);
}

#[test]
fn a_spread_that_makes_no_sense() {
    let used = "[[route]]\nmatch = \"/x\"\nservice = \"x\"\n";
    let service = |lines: &str| format!("[service.x]\nendpoints = [\"http://a\"]\n{lines}\n{used}");
    check(&service("panic_threshold = \"0%\"\nslow_start = { window = \"0s\" }\nlocality = { spill = 1, hysteresis = \"0s\" }"), &[]);
    check(&service("panic_threshold = 50"), &["3:19 E1101"]);
    check(&service("panic_threshold = \"101%\""), &["3:19 E1104"]);
    check(&service("slow_start = { windw = \"1s\" }"), &["3:16 E1103"]);
    check(&service("slow_start = { weight_min = 10 }"), &["3:29 E1101"]);
    check(&service("locality = { spill = 0.9, hysteresis = 30 }"), &["3:22 E1105", "3:40 E1101"]);
    check(&service("pool = { warm = 600 }"), &["3:17 E2023"]);
    check(&service("pool = { warm = 9, max_connections = 8 }"), &["3:17 E2023"]);
    check(&service("pool = { warm = -1 }"), &["3:17 E1105"]);
    let endpoint = |keys: &str| format!("[service.x]\nendpoints = [{{ url = \"http://a\", {keys} }}]\n{used}");
    check(&endpoint("region = \"north\", zone = \"2\", priority = 1"), &[]);
    check(&endpoint("priority = 128"), &["2:45 E1105"]);
    check(&endpoint("region = \"\""), &["2:43 E1119"]);
    check(&endpoint("zone = 1"), &["2:41 E1101"]);
    check(&endpoint("drain = \"yes\""), &["2:42 E1101"]);
    check(&endpoint("drain = true"), &["2:13 W4006"]);
}

#[test]
fn resolvers_and_drills() {
    check("[node]\ndns = [\"10.0.0.10\", \"[2001:db8::1]:5353\", \"::1\"]\n[drills]\nallow = true\n", &[]);
    check("[node]\ndns = [\"ns.internal:53\", \"10.0.0.10:0\", \"0.0.0.0\"]\n", &["2:8 E1108", "2:26 E1108", "2:41 E1108"]);
    check("[drills]\nallow = \"yes\"\n", &["2:9 E1101"]);
    check("[drills]\nalow = true\n", &["2:1 E1103"]);
}

#[test]
fn what_belongs_to_a_later_version() {
    check(
        "[limit.x]\nrate = \"1/s\"\nscope = \"cluster\"\n[[route]]\nmatch = \"/x\"\nservice = \"hello\"\nlimit = \"x\"\n",
        &["3:9 E1117"],
    );
    check("[listen.x]\nbind = \"127.0.0.1:1\"\nserve = [\"health\", \"auth\"]\n", &["3:20 E1117"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nlimit = \"1/s per principal\"\n"), &["4:18 E1117"]);
    check("version = 2\n", &["1:11 E1004"]);
}

#[test]
fn what_is_served_nevertheless() {
    check("[listen.x]\nbind = \"0.0.0.0:80\"\n", &["2:8 W4002"]);
    check("[listen.x]\nbind = \"0.0.0.0:80\"\ntls = \"none\"\n", &[]);
    check("[service.x]\nendpoints = [\"http://x\"]\n[limit.x]\nrate = \"1/s\"\n", &["1:10 W4004", "3:8 W4004"]);
    check(&route("match = \"/a;b\"\nservice = \"hello\"\n"), &["2:9 W4003"]);
    check(&route("match = \"/x\"\npath_regex = \"/y\"\nservice = \"hello\"\n"), &["2:9 W4003"]);
    check(&route("match = \"/x\"\nrespond = {}\nretry = { max = 2 }\n"), &["4:9 W4006"]);
}

#[test]
fn words_keys_and_limits_that_do_not_exist() {
    check(&route("match = \"/x\"\nservice = \"hello\"\nsemicolon = \"kep\"\n"), &["4:13 E1106"]);
    check(&route("match = \"/x\"\nservice = \"hello\"\nlimit = [\"1/s\", \"1/s per ip\"]\n"), &["4:11 E1115", "4:26 E1114"]);
    check("[telemetry]\naccess_log = { to = \"stdot\" }\n", &["2:21 E1106"]);
}

#[test]
fn a_split_whose_services_disagree_is_told_who_decides() {
    let services = "[service.x]\nendpoints = [\"http://x\"]\ndeadlines = { idle = \"1s\" }\n";
    let split = "[[route]]\nmatch = \"/x\"\nsplit = [{ service = \"hello\" }, { service = \"x\" }]\n";
    check(&format!("{services}{split}deadlines = {{ connect = \"2s\" }}\n"), &["7:13 W4008"]);
    check(&format!("{services}{split}deadlines = {{ connect = \"2s\", idle = \"1m\" }}\n"), &[]);
}

#[test]
fn a_gateway_without_a_door_or_a_way_is_warned_about() {
    let found = |text: &str| shorts(&Files::new(&[("shoal.toml", text)]).load("shoal.toml"));
    assert_eq!(found(""), ["shoal.toml:1:1 W4005"]);
    assert_eq!(found("[listen.x]\nbind = \"127.0.0.1:1\"\n"), ["shoal.toml:1:1 W4005"]);
}

#[test]
fn ten_kinds_of_mistakes_in_one_file_are_ten_problems() {
    let snippet = r#"[listen.a]
bind = "127.0.0.1"
[service.b]
endpoints = ["http://b:99999"]
[limit.c]
rate = "ten"
[[route]]
match = "GET /c/{id}/*"
service = "b"
[[route]]
match = "/d"
service = "bb"
limit = ["c", "d", "1/s per path:x"]
[[route]]
match = "/e"
timeout = "1s"
service = "b"
[[route]]
match = "/f"
service = "b
[[route]]
match = "/g"
max_body = 1
allow = ["10.0.0.0/8", "x"]
service = "b"
"#;
    check(
        snippet,
        &[
            "2:8 E1108",
            "4:24 E1109",
            "6:8 E1104",
            "8:22 E1205",
            "12:11 E2001",
            "13:15 E2002",
            "13:29 E1206",
            "16:1 E1103",
            "20:13 E1001",
            "23:12 E1101",
            "24:24 E1107",
        ],
    );
}

/// A file with one of everything, to be damaged.
const EVERYTHING: &str = r#"
version = 1
include = ["routes.d/*.toml"]
[node]
name = { env = "NAME", default = "n" }
drain = { wait = "1s" }
trusted_proxies = ["10.0.0.0/8"]
[listen.main]
bind = ["127.0.0.1:8080", "[::1]:8080"]
tls = { cert = "c", key = { file = "k" } }
bounds.head_size = "16KiB"
[service.a]
endpoints = ["https://ä.example", { url = "http://b:1", weight = 2, region = "r", priority = 1, drain = true }]
discovery = { ttl_max = "5s" }
locality.spill = 1.2
balance = { hash = "cookie:sid", bound = 1.5 }
[service.a.retry]
statuses = [502, 503]
[limit.l]
rate = "100/s"
key = ["client_ip", "path:id"]
[[route]]
match = "GET,PUT shop.example.com/v1/{id}/**" # comment
split = [{ service = "a", weight = 1 }]
headers = { x-a = "1", "x-b" = { regex = "a+" } }
limit = ["l", "1/min burst 3 per header:x-a,path:id"]
request = { set = { x-c = "ü" }, path = "/{id}" }
[[route]]
match = "/old"
redirect = { to = "https://x/y{z}", status = 302 }
[admin]
token = { file = "t" }
[telemetry]
access_log = { to = "off", success = "5%" }
"#;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(600))]

    #[test]
    fn no_damage_to_a_file_is_too_much(damage in proptest::collection::vec((0usize..2000, 0usize..6, "[\\[\\]{}\"'=.,#/*a1 \n\t\u{e4}-]{0,3}"), 1..6)) {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for (at, cut, put) in damage {
            let at = at % text.len();
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        let lines: Vec<&str> = text.split('\n').collect();
        let loaded = Files::new(&[("shoal.toml", &text), ("c", ""), ("k", ""), ("t", "0123456789abcdef")]).load("shoal.toml");
        for problem in &loaded.problems {
            let line = lines.get(problem.place.line as usize - 1).map(|line| line.chars().count());
            proptest::prop_assert!(line.is_some_and(|line| problem.place.column as usize <= line + 1), "{}\n{}", problem.render(), text);
            problem.to_json();
            proptest::prop_assert!(shoal_config::explain_code(problem.code).is_some());
        }
        proptest::prop_assert_eq!(loaded.gateway.is_none(), loaded.problems.iter().any(|problem| problem.is_error()));
    }
}
