//! Every file in examples/ is a configuration that a node would serve, and the shortest one does what it shows.

#![expect(clippy::disallowed_methods, reason = "reading the examples is what this test is for")]

use config::OsSource;
use shoal_tests::{
    Caller, Gateway, Origin,
    certificates::Authority,
    gateway::whole,
    peers::{printed, run},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").join("examples")
}

/// A copy of the examples with the certificates and secrets that they name, which are not kept beside them.
fn copied() -> (Authority, PathBuf) {
    let authority = Authority::new();
    let copy = authority.folder().join("examples");
    fs::create_dir_all(copy.join("certs")).expect("a folder");
    let files = authority.issue("gateway", &["localhost", "shop.example.com"]);
    fs::copy(&files.cert, copy.join("certs/gateway.pem")).expect("a copy");
    fs::copy(&files.key, copy.join("certs/gateway.key")).expect("a copy");
    fs::write(copy.join("operator.token"), "0123456789abcdef0123456789abcdef").expect("a file");
    for file in texts(&folder()) {
        fs::copy(&file, copy.join(file.file_name().expect("a file has a name"))).expect("a copy");
    }
    (authority, copy)
}

fn texts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut texts: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    texts.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    texts.sort();
    texts
}

#[test]
fn every_example_is_without_a_problem() {
    let (_authority, copy) = copied();
    let texts = texts(&copy);
    assert!(texts.len() >= 5, "{texts:?}");
    for text in texts {
        let loaded = config::load(&text, &OsSource::new(std::iter::empty()));
        // The first file that anybody writes listens everywhere and need not say that it does so in the clear.
        let shortest = text.ends_with("minimal.toml");
        let counts = |problem: &&config::Problem| problem.is_error() || !shortest;
        let problems: String = loaded.problems.iter().filter(counts).map(config::Problem::render).collect();
        assert!(problems.is_empty(), "{problems}");
        assert!(loaded.gateway.is_some(), "{}", text.display());
    }
}

/// The example with addresses that are free on this machine.
fn moved(name: &str, replaced: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(folder().join(name)).expect("the example is there");
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    whole(&text)
}

#[tokio::test]
async fn ten_lines_answer_their_curl() {
    let origin = Origin::saying("200 OK", "hello from the service\n").await;
    let text = moved("minimal.toml", &[("0.0.0.0:8080", "127.0.0.1:0"), ("127.0.0.1:3000", &origin.address.to_string())]);
    let gateway = Gateway::start(&text).await;
    let url = format!("http://{}/hello/world", gateway.main());
    if let Some(output) = run("curl", &["-sS", "-m", "10", "-i", &url]).await {
        let said = printed(&output);
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nhello from the service\n"), "{said}");
        assert!(said.contains("q=10;w=1") && said.contains(";r=9;"), "{said}");
    }
    let mut caller = Caller::connect(gateway.main()).await;
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(caller.get("/hello/world").await.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&429), "ten a second, and no more: {statuses:?}");
    caller.get("/goodbye").await.refuses(404, "E4040");
}

#[tokio::test]
async fn what_the_rewrites_say_is_what_the_endpoint_sees() {
    let (users, files) = (Origin::ok().await, Origin::ok().await);
    let text = moved(
        "rewrites.toml",
        &[
            ("127.0.0.1:8080", "127.0.0.1:0"),
            ("127.0.0.1:9000", &users.address.to_string()),
            ("127.0.0.1:9001", &files.address.to_string()),
        ],
    );
    let gateway = Gateway::start(&text).await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.get("/v2/users/7?debug=1").await.status, 200);
    let seen = users.request();
    assert_eq!(seen.target, "/internal/user/7?source=gateway");
    assert_eq!(seen.fields.get("host"), Some(users.address.to_string().as_str()));
    assert_eq!(caller.get("/files/a/b").await.status, 200);
    assert_eq!(files.request().target, "/a/b");
    let moved = caller.get("/old/users/7?x=1").await;
    assert_eq!((moved.status, moved.fields.get("location")), (301, Some("http://shop.test/v2/users/7?x=1")));
}

#[tokio::test]
async fn one_node_serves_both_of_its_listeners() {
    let (authority, copy) = copied();
    let shop = Origin::ok().await;
    let mut text = moved(
        "one-node.toml",
        &[("127.0.0.1:8080", "127.0.0.1:0"), ("127.0.0.1:8443", "127.0.0.1:0"), ("127.0.0.1:9000", &shop.address.to_string())],
    );
    for file in ["certs/gateway.pem", "certs/gateway.key"] {
        text = text.replace(file, &copy.join(file).display().to_string());
    }
    let gateway = Gateway::start(&text).await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
    let mut plain = Caller::connect(gateway.listener("plain")).await;
    assert_eq!(plain.ask(ask("/anything")).await.status, 200);
    let to_tls = plain.ask(ask("/account/x")).await;
    assert_eq!((to_tls.status, to_tls.fields.get("location")), (308, Some("https://shop.example.com:8443/account/x")));
    let mut secure = authority.call(gateway.listener("secure"), "shop.example.com").await;
    let account = secure.ask(ask("/account/x")).await;
    assert_eq!((account.status, account.fields.get("strict-transport-security")), (200, Some("max-age=31536000")));
    assert_eq!(secure.ask(ask("/robots.txt")).await.text(), "User-agent: *\nDisallow: /account/\n");
}
