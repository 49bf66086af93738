//! Who is let into a cluster, and who is not: both sides say why, and neither minds.

use serde_json::json;
use shoal_tests::{
    Caller, Origin,
    cluster::{Cluster, Node, Seat, all_see_all, together},
    get, in_front_of,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ENDS: &str = "shoal_cluster_cert_not_after_timestamp_seconds";
const RENEWALS: &str = "shoal_cluster_certificate_renewals_total";
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn refused(by: &Node, reason: &str, side: &str) {
    let series = format!("shoal_cluster_links_refused_total{{reason=\"{reason}\",by=\"{side}\"}}");
    by.until_metric(&series, |refused| refused > 0.0).await;
}

/// Sees to it that the stranger does not come in, and that both sides count why. Whoever dials sees the other first, and so is the
/// first who can say no.
async fn is_not_let_in(member: &Node, stranger: &Seat, reason: &str, [to_member, to_stranger]: [&str; 2]) {
    let stranger = stranger.start().await;
    assert_eq!(stranger.post("/v1/members/join", json!({ "address": member.peers().to_string() })).await.status, 202);
    refused(member, reason, to_member).await;
    refused(&stranger, reason, to_stranger).await;
    for node in [member, &stranger] {
        node.until_sees(&[(&node.name, "alive")]).await;
        get(node.main(), "/").await.refuses(404, "E4040");
    }
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let member = ours.enrolled("a", "eu").start().await;
    is_not_let_in(&member, &theirs.enrolled("b", "eu"), "untrusted", ["there", "here"]).await;
}

#[tokio::test]
async fn a_node_with_other_secrets_is_refused_on_both_sides() {
    let cluster = Cluster::new();
    let member = cluster.enrolled("a", "eu").start().await;
    is_not_let_in(&member, &cluster.with_secrets(2).enrolled("b", "eu"), "secrets", ["here", "there"]).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_even_where_nobody_shows_a_certificate() {
    let (ours, theirs) = (Cluster::called("shop", HOUR, 1), Cluster::called("shed", HOUR, 1));
    let member = ours.seat("a", "eu").insecure().start().await;
    is_not_let_in(&member, &theirs.seat("b", "eu").insecure(), "cluster", ["here", "there"]).await;
}

#[tokio::test]
async fn a_node_whose_certificate_has_expired_is_refused_on_both_sides() {
    let life = Duration::from_secs(3);
    let cluster = Cluster::new();
    let (member, brief) = (cluster.enrolled("a", "eu").start().await, cluster.lasting(life).enrolled("b", "eu").start().await);
    let ends = brief.metric(ENDS).await;
    while SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() <= ends + 1.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    brief.post("/v1/members/join", json!({ "address": member.peers().to_string() })).await;
    refused(&member, "untrusted", "here").await;
    refused(&brief, "untrusted", "there").await;
    get(brief.main(), "/").await.refuses(404, "E4040");
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_node_alone() {
    let cluster = Cluster::new();
    let folder = cluster.enrolled("a", "eu").state_dir().to_path_buf();
    for (name, region) in [("b", "eu"), ("a", "us")] {
        let thief = cluster.seat(name, region).remembers_in(Some(folder.clone()));
        let error = thief.try_start().await.err().expect("it does not start").to_string();
        assert!(error.contains("`a` in `eu`") && error.contains(&format!("`{name}` in `{region}`")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_node_without_certificate_or_token_is_told_what_to_do() {
    let cluster = Cluster::new();
    let error = cluster.seat("a", "eu").try_start().await.err().expect("it does not start").to_string();
    for part in ["shoal cluster init", "shoal cluster token", "--insecure-dev"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let exposed = cluster.seat("a", "eu").insecure().with_keys("bind = \"0.0.0.0:0\"\nadvertise = \"192.0.2.7\"");
    let error = exposed.try_start().await.err().expect("it does not start").to_string();
    assert!(error.contains("--insecure-dev") && error.contains("loopback"), "{error}");
}

#[tokio::test]
async fn a_token_is_all_that_a_new_node_needs() {
    let cluster = Cluster::new();
    let founder = cluster.founder("a", "eu");
    let plain = cluster.enrolled("c", "us");
    let (seats, [a, c]) = together([founder, plain]).await;
    let token = cluster.token(&seats[0], "eu", HOUR);
    // Whom it asks cannot sign for the region, and passes it on.
    let joining = cluster.seat("b", "eu").with_token(token.clone()).joins(&c);
    let b = joining.start().await;
    all_see_all(&[&a, &b, &c]).await;
    b.kill().await;
    // Now it has a certificate of its own.
    let b = cluster.seat("b", "eu").joins(&a).start().await;
    all_see_all(&[&a, &b, &c]).await;

    let elsewhere = cluster.seat("d", "us").with_token(token.clone()).try_start().await.err().expect("it does not start");
    assert!(elsewhere.to_string().contains("for region `eu`"), "{elsewhere}");
    let mut namesake = cluster.seat("b2", "eu").remembers_in(None).with_token(token).joins(&a);
    namesake.name = "b".into();
    let namesake = namesake.start().await;
    get(namesake.main(), "/").await.refuses(404, "E4040");
    let shown = namesake.until_page("/v1/actors/root%2Fcluster%2Fcertificate", |actor| actor["inside"]["by"] == "token").await;
    assert_eq!(shown["inside"]["not_after_s"], json!(null), "{shown:#}");
    all_see_all(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn a_token_that_has_expired_lets_nobody_in() {
    let cluster = Cluster::new();
    let founder = cluster.founder("a", "eu");
    let token = cluster.token(&founder, "eu", Duration::ZERO);
    let a = founder.start().await;
    let late = cluster.seat("b", "eu").with_token(token).joins(&a).start().await;
    get(late.main(), "/").await.refuses(404, "E4040");
    let restarted = late.until_page("/v1/actors/root%2Fcluster%2Fcertificate/history", |history| history.to_string().contains("expired"));
    restarted.await;
    a.until_sees(&[("a", "alive")]).await;
}

#[tokio::test]
async fn certificates_are_renewed_and_no_request_minds() {
    let origin = Origin::ok().await;
    let cluster = Cluster::called("shop", Duration::from_secs(9), 1);
    let serving = in_front_of(&origin.url(), "");
    let seats = [cluster.founder("a", "eu"), cluster.enrolled("b", "eu"), cluster.founder("c", "us")];
    let (_seats, nodes) = together(seats.map(|seat| seat.with(&serving))).await;
    // What `b` shows is signed by another node, what the others show by themselves.
    for node in &nodes {
        let renewals = node.metric(RENEWALS).await;
        let ends = node.metric(ENDS).await;
        let mut caller = Caller::connect(node.main()).await;
        while node.metric(RENEWALS).await <= renewals {
            assert_eq!(caller.get("/").await.status, 200);
        }
        assert!(node.metric(ENDS).await > ends);
    }
    let nodes: Vec<&Node> = nodes.iter().collect();
    all_see_all(&nodes).await;
}

#[tokio::test]
async fn of_two_nodes_with_one_name_the_later_is_the_member() {
    let cluster = Cluster::new();
    let (_seats, [a, b, c]) = together(cluster.three()).await;
    let before = a.get("/v1/members/b").await.json()["generation"].as_u64().expect("a number");
    let folder = tempfile::tempdir().expect("a folder");
    let again = cluster.reissued("b", "eu", folder.path()).joins(&a).start().await;
    for node in [&a, &c] {
        node.until_page("/v1/members/b", |member| {
            member["generation"].as_u64() > Some(before) && member["address"] == again.peers().to_string() && member["seen"] == "alive"
        })
        .await;
    }
    // The earlier one is told, and so are the others; it serves.
    refused(&a, "generation", "here").await;
    refused(&b, "generation", "there").await;
    for node in [&a, &b, &c, &again] {
        get(node.main(), "/").await.refuses(404, "E4040");
    }
}

#[tokio::test]
async fn a_peer_port_bears_whatever_comes() {
    for insecure in [false, true] {
        let cluster = Cluster::new();
        let seat = if insecure { cluster.seat("a", "eu").insecure() } else { cluster.enrolled("a", "eu") };
        let a = seat.start().await;
        let noise: Vec<u8> = (0..64 * 1024u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let sent: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\n\n\n\n",
            &noise,
            &[],
        ];
        let mut held = Vec::new();
        for bytes in sent.iter().cycle().take(120) {
            let mut caller = Caller::connect(a.peers()).await;
            // Whoever is turned away is not read from.
            let _ = caller.try_send(bytes).await;
            held.push(caller);
        }
        // Those who say nothing are not waited for by those who have something to say.
        get(a.main(), "/").await.refuses(404, "E4040");
        a.until_metric("shoal_cluster_dropped_total{why=\"turned_away\"}", |away| away > 0.0).await;
        drop(held);
        let b = if insecure { cluster.seat("b", "eu").insecure() } else { cluster.enrolled("b", "eu") };
        let b = b.joins(&a).start().await;
        all_see_all(&[&a, &b]).await;
    }
}

#[tokio::test]
async fn who_speaks_plainly_and_who_speaks_tls_say_that_they_do_not_understand_each_other() {
    let cluster = Cluster::new();
    let secured = cluster.enrolled("a", "eu").start().await;
    let plain = cluster.seat("b", "eu").insecure().joins(&secured).start().await;
    refused(&secured, "untrusted", "here").await;
    plain.until_sees(&[("b", "alive")]).await;
    secured.post("/v1/members/join", json!({ "address": plain.peers().to_string() })).await;
    secured.until_sees(&[("a", "alive")]).await;
}

#[tokio::test]
async fn a_link_ends_with_the_certificate_that_it_was_made_with() {
    // Nobody can sign for its region, so neither certificate is renewed.
    let cluster = Cluster::called("shop", Duration::from_secs(9), 1);
    let (_seats, nodes) = together([cluster.enrolled("a", "eu"), cluster.enrolled("b", "eu")]).await;
    for node in &nodes {
        node.until_metric("shoal_cluster_links{state=\"up\"}", |links| links == 0.0).await;
        get(node.main(), "/").await.refuses(404, "E4040");
    }
}
