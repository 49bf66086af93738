use super::*;
use proptest::{prelude::any, prop_assert, proptest};

type Change = fn(&mut Identity, &mut Hello);

fn me() -> Me {
    Me {
        cluster: "shop".into(),
        node: "a1".into(),
        generation: 7,
        region: "eu".into(),
        zone: "eu-1".into(),
        address: "192.0.2.1:7946".parse().expect("an address"),
        secrets: [1; 8],
        also: vec![[2; 8]],
        build: "0.1.0".into(),
    }
}

fn them() -> (Identity, Hello) {
    let identity = Identity { node: "b1".into(), region: Some("us".into()) };
    let theirs = Me { node: "b1".into(), region: "us".into(), address: "192.0.2.2:7946".parse().expect("an address"), ..me() };
    (identity, greeting(&theirs, 3))
}

#[test]
fn a_peer_of_our_cluster_is_believed_what_its_certificate_says() {
    let (identity, hello) = them();
    let peer = judge(&me(), &identity, &hello).expect("nothing is wrong with it");
    assert_eq!(
        peer,
        Peer {
            node: "b1".into(),
            generation: 7,
            region: "us".into(),
            zone: "eu-1".into(),
            address: "192.0.2.2:7946".parse().expect("an address"),
            build: "0.1.0".into(),
            protocol: 1
        }
    );
}

#[test]
fn what_varies_between_peers_that_may_link_is_let_through() {
    let good: [(&str, Change); 6] = [
        ("a certificate without a region", |identity, _| identity.region = None),
        ("a newer build that still speaks ours", |_, hello| hello.protocol_max = 9),
        ("a secret that we hold and do not use yet", |_, hello| hello.secrets = u64::from_be_bytes([2; 8])),
        ("no zone", |_, hello| hello.zone.clear()),
        ("an IPv6 address", |_, hello| hello.address = "[2001:db8::1]:7946".into()),
        ("a name of several labels", |identity, hello| {
            identity.node = "b1.eu.example".into();
            hello.node = "b1.eu.example".into();
        }),
    ];
    for (what, change) in good {
        let (mut identity, mut hello) = them();
        change(&mut identity, &mut hello);
        assert!(judge(&me(), &identity, &hello).is_ok(), "{what}");
    }
}

#[test]
fn each_thing_that_is_wrong_has_its_reason_and_names_both() {
    let bad: [(Reason, &str, Change); 20] = [
        (Reason::Cluster, "a1 is of the cluster shop, b1 of the cluster store", |_, hello| hello.cluster = "store".into()),
        (Reason::Protocol, "b1 (0.1.0) speaks 2 to 3: upgrade one release at a time", |_, hello| {
            (hello.protocol_min, hello.protocol_max) = (2, 3);
        }),
        (Reason::Protocol, "speaks 0 to 0", |_, hello| (hello.protocol_min, hello.protocol_max) = (0, 0)),
        (Reason::Protocol, "speaks 5 to 1", |_, hello| (hello.protocol_min, hello.protocol_max) = (5, 1)),
        (Reason::Name, "b1 has a certificate of that name and calls itself c1", |_, hello| hello.node = "c1".into()),
        (Reason::Name, "b1 has a certificate of that name and calls itself a1", |_, hello| hello.node = "a1".into()),
        (Reason::Name, "two nodes are called a1", |identity, hello| {
            identity.node = "a1".into();
            hello.node = "a1".into();
            hello.generation = 8;
        }),
        (Reason::Name, "letters, digits", |_, hello| hello.node = "b1 evil".into()),
        (Reason::Name, "letters, digits", |identity, _| identity.node = "-b1".into()),
        (Reason::Name, "letters, digits", |_, hello| hello.node = "b".repeat(64)),
        (Reason::Itself, "a1 has reached itself at 192.0.2.2:7946", |identity, hello| {
            identity.node = "a1".into();
            hello.node = "a1".into();
        }),
        (Reason::Region, "b1 has a certificate of the region us and says eu", |_, hello| hello.region = "eu".into()),
        (Reason::Region, "letters, digits", |_, hello| hello.region = "u\ns".into()),
        (Reason::Region, "letters, digits", |_, hello| hello.zone = "z".repeat(64)),
        (Reason::Secrets, "b1 uses a secret that a1 does not hold (0909090909090909, not 0101010101010101)", |_, hello| {
            hello.secrets = u64::from_be_bytes([9; 8]);
        }),
        (Reason::Generation, "b1 does not say", |_, hello| hello.generation = 0),
        (Reason::Address, "reached at nowhere,", |_, hello| hello.address = "nowhere".into()),
        (Reason::Address, "reached at 0.0.0.0:7946,", |_, hello| hello.address = "0.0.0.0:7946".into()),
        (Reason::Address, "reached at 192.0.2.2:0,", |_, hello| hello.address = "192.0.2.2:0".into()),
        (Reason::Malformed, "longer than 63", |_, hello| hello.build = "x".repeat(64)),
    ];
    for (reason, part, change) in bad {
        let (mut identity, mut hello) = them();
        change(&mut identity, &mut hello);
        let refusal = judge(&me(), &identity, &hello).expect_err(part);
        assert_eq!(refusal.reason(), reason, "{}", refusal.message);
        assert!(refusal.message.contains(part), "{part:?} is not in {:?}", refusal.message);
    }
}

#[test]
fn who_is_introduced_is_read_as_it_was_told_up_to_a_bound_and_only_if_it_can_be_dialed() {
    let members: Vec<SocketAddr> = (1..=5).map(|last| ([192, 0, 2, last], 7946).into()).collect();
    let hello = introducing(greeting(&me(), 0), &members);
    assert_eq!(introduced(&hello).collect::<Vec<_>>(), members[..INTRODUCED_MAX]);
    assert_eq!(introduced(&greeting(&me(), 0)).count(), 0);
    for (told, dialed) in
        [("", ""), ("x", ""), ("0.0.0.0:7 192.0.2.1:0 [2001:db8::1]:7946", "[2001:db8::1]:7946"), ("  192.0.2.1:1  ", "192.0.2.1:1")]
    {
        let hello = Hello { introduced: told.to_owned(), ..greeting(&me(), 0) };
        let read: Vec<String> = introduced(&hello).map(|address| address.to_string()).collect();
        assert_eq!(read.join(" "), dialed, "{told:?}");
    }
}

#[test]
fn a_refusal_is_one_line_on_either_side() {
    let address = "192.0.2.2:7946".parse().expect("an address");
    let said = refusal(Reason::Cluster, "a1 is of the cluster shop, b1 of the cluster store");
    let ours = Refused::new(true, Some("b1".into()), address, &said);
    assert_eq!(ours.to_string(), "refused b1 at 192.0.2.2:7946: a1 is of the cluster shop, b1 of the cluster store");
    let theirs = Refused::new(false, None, address, &Refusal { reason: 99, message: "no\r\n2026 INFO all is well".repeat(90) });
    assert_eq!(theirs.reason, Reason::Unspecified);
    let line = theirs.to_string();
    assert!(line.starts_with("refused by a peer without a known name at 192.0.2.2:7946: no??2026"), "{line}");
    assert!(line.len() < 400 && !line.contains(['\n', '\r']), "{line}");
}

proptest! {
    #[test]
    fn whatever_a_hello_says_the_answer_is_a_peer_that_is_who_it_is_or_one_line(
        texts in proptest::array::uniform7("\\PC{0,70}|eu|us|shop|b1|a1|[\\x00-\\x7f]{0,20}|192\\.0\\.2\\.2:[0-9]{1,6}"),
        numbers in any::<[u64; 4]>(),
        node in "\\PC{0,70}|b1|a1",
    ) {
        let [cluster, named, region, zone, address, build, introduced] = texts;
        let [generation, secrets, protocol_min, protocol_max] = numbers;
        let (protocol_min, protocol_max) = (protocol_min as u32 % 3, protocol_max as u32 % 3);
        let secrets = if secrets % 2 == 0 { u64::from_be_bytes([1; 8]) } else { secrets };
        let hello = Hello {
            cluster,
            node: named,
            region,
            zone,
            address,
            build,
            generation,
            secrets,
            protocol_min,
            protocol_max,
            dial: 1,
            introduced,
        };
        prop_assert!(super::introduced(&hello).count() <= INTRODUCED_MAX);
        match judge(&me(), &Identity { node: node.as_str().into(), region: None }, &hello) {
            Ok(peer) => prop_assert!(*peer.node == node && hello.node == node && node != "a1" && hello.cluster == "shop"),
            Err(refusal) => prop_assert!(!refusal.message.contains('\n') && refusal.message.chars().count() <= 240),
        }
    }
}
