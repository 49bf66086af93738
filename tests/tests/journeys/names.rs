//! Endpoints with names: whom a node asks for their addresses, and what becomes of requests whatever it is told.

use shoal_tests::{Gateway, NameServer, Origin, dns::Says, get, in_front_of, origin::nobody};

const NAME: &str = "orders.test";

/// A service whose one endpoint is [`NAME`] at the origin's port.
fn named(servers: &str, origin: &Origin) -> String {
    format!("{servers}{}", in_front_of(&format!("http://{NAME}:{}", origin.address.port()), "deadlines = { connect = \"5s\" }"))
}

#[tokio::test]
async fn a_name_is_asked_of_the_servers_that_the_node_names() {
    let origin = Origin::ok().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(30, &["127.0.0.1"]));
    let gateway = Gateway::start(&named(&names.keys(), &origin)).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    assert!(names.asked(NAME) > 0);
}

#[tokio::test]
async fn an_alias_leads_to_an_address() {
    let origin = Origin::ok().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::Alias(30, "a.test".into()));
    names.set("a.test", Says::Alias(30, "b.test".into()));
    names.set("b.test", Says::addresses(30, &["127.0.0.1"]));
    let gateway = Gateway::start(&named(&names.keys(), &origin)).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_datagram_is_fetched_over_tcp() {
    let origin = Origin::ok().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(30, &["127.0.0.1"; 100]));
    let gateway = Gateway::start(&named(&names.keys(), &origin)).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    assert!(names.asked_over_tcp(NAME) > 0);
}

#[tokio::test]
async fn silence_about_one_family_does_not_hide_the_other() {
    let origin = Origin::ok().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::NothingOnIpv6(Box::new(Says::addresses(30, &["127.0.0.1"]))));
    let text = named(&names.keys(), &origin).replace("5s", "1s");
    let gateway = Gateway::start(&text).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_502_until_it_can() {
    let origin = Origin::ok().await;
    let names = NameServer::start().await;
    let gateway = Gateway::start(&named(&names.keys(), &origin)).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
    names.set(NAME, Says::ServerFailure);
    get(gateway.main(), "/").await.refuses(502, "E5020");
    names.set(NAME, Says::addresses(30, &[]));
    get(gateway.main(), "/").await.refuses(502, "E5020");
    names.set(NAME, Says::addresses(30, &["127.0.0.1"]));
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn a_server_that_is_down_leaves_it_to_the_next() {
    let origin = Origin::ok().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(30, &["127.0.0.1"]));
    let servers = format!("[node]\ndns = [\"{}\", \"{}\"]\n\n", nobody().await, names.address);
    let gateway = Gateway::start(&named(&servers, &origin)).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn a_reload_may_name_other_servers() {
    let origin = Origin::ok().await;
    let (before, after) = (NameServer::start().await, NameServer::start().await);
    after.set(NAME, Says::addresses(30, &["127.0.0.1"]));
    let gateway = Gateway::start(&named(&before.keys(), &origin)).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
    gateway.reload(&named(&after.keys(), &origin)).await.expect("the text is good");
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}
