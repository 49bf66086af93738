//! Arguments, and what verbs without a node print and end with.

use super::*;

/// Runs a verb with a file called `shoal.toml` in a folder of its own; `FILE` in the arguments stands for it.
fn perform(arguments: &str, content: &str) -> (Exit, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(FILE);
    RealWorld::new().disk().replace(&file, content.as_bytes()).expect("a file that can be written");
    let file = file.display().to_string();
    let arguments = ["shoal"].into_iter().chain(arguments.split_whitespace());
    let cli = Cli::try_parse_from(arguments.map(|argument| argument.replace("FILE", &file))).expect("arguments that are understood");
    let surroundings = Surroundings { world: Arc::new(RealWorld::new()), environment: Arc::default(), program: "shoal".into() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let performed = cli.verb.perform(&surroundings, &mut Terminal { out: &mut out, err: &mut err });
    let exit = performed.unwrap_or_else(|failure| {
        write!(err, "{failure}").expect("a vector takes everything");
        failure.exit
    });
    let text = |bytes| String::from_utf8(bytes).expect("text").replace(&file, "FILE");
    (exit, text(out), text(err))
}

#[track_caller]
fn check(arguments: &str, content: &str, exit: Exit, begins: &str) {
    let (ended, out, err) = perform(arguments, content);
    assert_eq!(ended, exit, "{out}{err}");
    let said = if out.is_empty() { err } else { out };
    assert!(said.starts_with(begins), "{said}");
}

const GOOD: &str = r#"
[listen.main]
bind = "127.0.0.1:8080"
[service.hello]
endpoints = ["http://127.0.0.1:3000"]
[limit.all]
rate = "5/min"
burst = 2
key = ["client_ip", "header:x-a"]
[[route]]
id = "hello"
match = "GET /hello/{name}"
service = "hello"
limit = ["10/s per client_ip", "all"]
"#;

#[test]
fn arguments_are_what_clap_takes_them_for() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    let understood = |arguments: &str| Cli::try_parse_from(arguments.split_whitespace()).is_ok();
    for good in [
        "shoal run",
        "shoal run -c a.toml",
        "shoal check",
        "shoal validate a.toml -o json --strict",
        "shoal config schema",
        "shoal config show a.toml",
        "shoal explain GET http://a/ -H a:b -H c:d --on a.toml --client-ip ::1 --listener main -o json",
        "shoal explain GET http://a/ --admin https://admin.example --token x",
        "shoal actors tree --depth 2 --under services/shop",
        "shoal actors top -n 5 -o json --token x",
        "shoal actors inspect root/limits --admin :1",
        "shoal actors why limits",
        "shoal drill kill limits",
        "shoal drill stall root/services --for 5s",
        "shoal drill release limits",
        "shoal cluster init -c a.toml --certificate-life 60s --root-key /media/root.key",
        "shoal cluster init --region east --replace",
        "shoal cluster token --region east --signer --expires 1h",
        "shoal keyring new a.json",
        "shoal keyring list --file a.json",
        "shoal keyring add hash --write a.key",
        "shoal keyring use pepper 0a1b2c3d -c a.toml",
        "shoal keyring rotate token --everywhere",
        "shoal proxy :8080 http://127.0.0.1:3000",
        "shoal health",
        "shoal health --url http://127.0.0.1:8080/readyz --within 500ms",
        "shoal demo --for 5s --rate 5",
        "shoal demo --no-traffic",
        "shoal error E2041",
        "shoal version -o json",
    ] {
        assert!(understood(good), "{good}");
    }
    for bad in [
        "shoal",
        "shoal serve",
        "shoal run a.toml",
        "shoal check -o yaml",
        "shoal explain GET",
        "shoal explain GET / --client-ip a",
        "shoal health --within 5",
        "shoal demo --for soon",
        "shoal config",
        "shoal actors",
        "shoal actors inspect",
        "shoal drill kill",
        "shoal drill kill limits --for 5s",
        "shoal drill stall limits --for soon",
        "shoal cluster",
        "shoal cluster init --replace",
        "shoal cluster token --expires soon",
        "shoal keyring add salt",
        "shoal keyring use hash",
        "shoal keyring list --file a.json -c a.toml",
        "shoal keyring add hash --key a --write b",
    ] {
        assert!(!understood(bad), "{bad}");
    }
}

#[test]
fn a_good_file_is_told_what_it_defines() {
    let (exit, out, err) = perform("check FILE", GOOD);
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""), "{out}");
    let (first, rest) = out.split_once('\n').expect("several lines");
    assert!(first.starts_with("FILE is good: 0 warnings, revision "), "{first}");
    let expected = "  \
  1 listener
    main  http://127.0.0.1:8080  h1  h2
  1 service, 1 endpoint
  1 route
  2 limits
    all      5/min burst 2 per client_ip,header:x-a: at most 7 in any 1m for each, on this node
    hello#1  10/s burst 10 per client_ip: at most 20 in any 1s for each, on this node
";
    assert_eq!(rest, expected);
}

#[test]
fn errors_and_strictness_decide_the_exit_code() {
    let unused = format!("{GOOD}[service.other]\nendpoints = [\"http://127.0.0.1:1\"]\n");
    check("check FILE", &unused, Exit::Ok, "FILE:15:");
    check("check FILE --strict", &unused, Exit::Errors, "FILE:15:");
    check("check FILE", "[listen.main]\nbimd = 1\n", Exit::Errors, "FILE:");
    let (exit, out, _) = perform("check FILE -o json", "[listen.main]\nbimd = 1\n");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(exit, Exit::Errors);
    assert_eq!(report["problems"].as_array().map(|problems| problems.len() as u64), report["errors"].as_u64());
    check("check FILE.missing", "", Exit::Errors, "FILE.missing");
    check("run -c FILE", "[listen.main]\nbimd = 1\n", Exit::Errors, "FILE:");
}

#[test]
fn a_certificate_that_cannot_be_served_is_an_error_of_the_file() {
    let listener = |name: &str, port: u16| {
        format!("[listen.{name}]\nbind = \"127.0.0.1:{port}\"\ntls = {{ cert = \"shoal.toml\", key = \"shoal.toml\" }}\n")
    };
    let bad = format!("{GOOD}{}{}", listener("secure", 8443), listener("private", 8444));
    let (exit, out, _) = perform("check FILE", &bad);
    assert_eq!(exit, Exit::Errors);
    for (line, name) in [(15, "secure"), (18, "private")] {
        assert!(out.contains(&format!("FILE:{line}:1  {} [listen.{name}] tls: ", error::TLS)), "{out}");
    }
    assert!(out.ends_with("2 errors, 0 warnings\n"), "{out}");
}

#[test]
fn a_file_can_be_asked_about_a_request() {
    check("explain GET http://127.0.0.1:8080/hello/you --on FILE", GOOD, Exit::Ok, "route      hello");
    let (_, out, _) = perform("explain POST http://127.0.0.1:8080/hello/you --on FILE -o json", GOOD);
    let explanation: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(explanation["verdict"]["code"], "E4040");
    assert_eq!(explanation["others"][0]["reason"], "its method is not POST");
    check("explain GET http://127.0.0.1:8080/ --on FILE --listener other", GOOD, Exit::Usage, "shoal: E6000 there is no listener `other`");
    check("explain GET http://127.0.0.1:8080/ -H nothing --on FILE", GOOD, Exit::Usage, "shoal: E6000 `nothing` is no header");
}

#[test]
fn a_node_that_is_not_there_is_unreachable() {
    // Port 1 is one that nobody without privileges listens on.
    check(
        "explain GET http://127.0.0.1/ --admin 127.0.0.1:1",
        "",
        Exit::Unreachable,
        "shoal: E6005 http://127.0.0.1:1: it cannot be connected to",
    );
    check("health --admin 127.0.0.1:1", "", Exit::Failed, "shoal: E6005");
    for verb in ["actors tree", "actors top", "actors inspect root", "actors why root", "drill kill root"] {
        check(&format!("{verb} --admin 127.0.0.1:1"), "", Exit::Unreachable, "shoal: E6005");
    }
}

#[test]
fn a_node_is_looked_into_and_drilled_from_outside() {
    let source = ::config::OsSource::new([("TOKEN".to_string(), TOKEN.to_string())]);
    let text = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n[telemetry]\naccess_log = { to = \"off\" }\n";
    let gateway = |more: &str| {
        let loaded = ::config::load_text(Path::new("test.toml"), &format!("{text}{more}"), &source);
        loaded.gateway.unwrap_or_else(|| panic!("{:?}", loaded.problems))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let running = runtime.block_on(crate::start(Arc::new(RealWorld::new()), gateway(""))).expect("it starts");
    let admin = running.admin_address().expect("admin is on");
    let asked = |verb: &str| perform(&format!("{verb} --admin {admin} --token {TOKEN}"), "");
    let until = |verb: &str, said: &str| {
        for _ in 0..1_000 {
            let (_, out, err) = asked(verb);
            if out.contains(said) {
                return out;
            }
            assert_eq!(err, "", "{verb}");
        }
        panic!("{verb} never says {said}");
    };

    let tree = until("actors tree --depth 1", "services");
    assert!(tree.lines().any(|line| line.starts_with("├ limits ")) && tree.lines().any(|line| line.starts_with("└ services ")), "{tree}");
    until("actors tree --under limits", "└ shard:63");
    assert_eq!(asked("actors top -n 3").1.lines().count(), 4);
    until("actors inspect limits/shard:07", "\"shard\": 7");
    let json: serde_json::Value = serde_json::from_str(&asked("actors inspect root -o json").1).expect("JSON");
    assert_eq!((&json["id"], &json["kind"]), (&"root".into(), &"supervisor".into()));

    let (exit, _, err) = asked("drill kill limits/shard:07");
    assert!(exit == Exit::Refused && err.starts_with("shoal: E9016"), "{err}");
    runtime.block_on(running.apply(gateway("[drills]\nallow = true\n"))).expect("it is applied");
    assert_eq!(asked("drill kill limits/shard:07").0, Exit::Ok);
    let story = until("actors why limits/shard:07", "life 2");
    assert!(story.contains("panicked during kill: killed by a drill"), "{story}");
    let shop =
        "[service.shop]\nendpoints = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n[[route]]\nmatch = \"/**\"\nservice = \"shop\"\n";
    runtime.block_on(running.apply(gateway(shop))).expect("it is applied");
    assert_eq!(asked("upstreams drain shop 127.0.0.1:1").1, "127.0.0.1:1 of shop drains: nothing is in flight\n");
    assert!(asked("upstreams shop").1.contains("drain_by_hand"));
    let (exit, _, err) = asked("upstreams drain shop 127.0.0.1:2");
    assert!(exit == Exit::Failed && err.starts_with("shoal: E9022") && err.contains("`force`"), "{err}");
    assert_eq!(asked("upstreams drain shop 127.0.0.1:2 --force").0, Exit::Ok);
    assert_eq!(asked("upstreams undrain shop 127.0.0.1:1").1, "127.0.0.1:1 of shop takes requests\n");
    assert!(asked("upstreams undrain shop 127.0.0.1:3").2.starts_with("shoal: E9021"));
    assert!(asked("upstreams drain shed 127.0.0.1:3").2.starts_with("shoal: E9020"));

    let (exit, _, err) = asked("actors why nobody");
    assert!(exit == Exit::Failed && err.starts_with("shoal: E9017"), "{err}");
    let (exit, _, err) = perform(&format!("actors tree --admin {admin} --token wrong"), "");
    assert!(exit == Exit::Refused && err.starts_with("shoal: E6006"), "{err}");
    runtime.block_on(running.drain(Duration::ZERO, Duration::ZERO));
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn small_verbs_answer_at_once() {
    check("version", "", Exit::Ok, "shoal 0.");
    check("error e4290", "", Exit::Ok, "E4290\n  A limit of the route");
    check("error e0000", "", Exit::Failed, "shoal: E6010");
    check("config schema", "", Exit::Ok, "{");
    let (_, shown, _) = perform("config show FILE", GOOD);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["routes"][0]["id"], "hello");
}
