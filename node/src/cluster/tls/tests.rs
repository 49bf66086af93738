use super::*;
use crate::cluster::{
    authority::{Authority, Request, Root},
    stage::{LIFE, Made, Stage, identity, meet},
};
use ::cluster::store::Signer;
use config::Secret;
use rcgen::{CertificateParams, KeyPair, SanType};

fn refused(why: &str) -> Distrust {
    Distrust::Refused { why: why.into() }
}

/// Both sides' reasons.
async fn parted(caller: &dyn Trust, called: &dyn Trust) -> (Distrust, Distrust) {
    let (connected, accepted) = meet(caller, called).await;
    let reason = |error: io::Error| Distrust::of(&error).unwrap_or_else(|| panic!("{error}")).clone();
    (reason(connected.err().expect("no trust")), reason(accepted.err().expect("no trust")))
}

#[tokio::test]
async fn nodes_of_one_cluster_know_each_other_across_regions() {
    let made = Made::new(&Stage::new());
    let (a, b) = (made.tls(&made.credentials("west", "a.1")), made.tls(&made.credentials("east", "b")));
    assert_eq!(a.identity(), identity("a.1", Some("west")));
    let (connected, accepted) = meet(&a, &b).await;
    let ((mut near, called), (mut far, caller)) = (connected.expect("trust"), accepted.expect("trust"));
    assert_eq!((called, caller), (identity("b", Some("east")), Some(identity("a.1", Some("west")))));
    near.write_all(b"hello").await.expect("an open connection");
    near.flush().await.expect("an open connection");
    let mut heard = [0; 5];
    far.read_exact(&mut heard).await.expect("an open connection");
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn a_node_without_a_certificate_is_let_in_unnamed_by_those_that_its_token_means() {
    let stage = Stage::new();
    let (made, other) = (Made::new(&stage), Made::new(&stage));
    let member = made.tls(&made.credentials("west", "a"));
    let joining = |hash| Joining::new(stage.clone(), made.names(), hash);
    let (connected, accepted) = meet(&joining(made.root.hash()), &member).await;
    assert_eq!(connected.expect("trust").1, identity("a", Some("west")));
    assert_eq!(accepted.expect("trust").1, None);
    let expected = (Distrust::OtherAuthority, refused("our certificate is of another authority"));
    assert_eq!(parted(&joining(other.root.hash()), &member).await, expected);
    let expected = Distrust::NotEnrolled;
    let (_, accepted) = meet(&member, &joining(made.root.hash())).await;
    assert_eq!(accepted.err().as_ref().and_then(Distrust::of), Some(&expected));
}

#[tokio::test]
async fn another_authority_is_refused_on_both_sides() {
    let stage = Stage::new();
    let (made, other) = (Made::new(&stage), Made::new(&stage));
    let (ours, theirs) = (made.credentials("west", "a"), other.credentials("west", "b"));
    let member = made.tls(&ours);
    let stranger = made.tls(&theirs);
    let expected = (Distrust::OtherAuthority, refused("our certificate is of another authority"));
    assert_eq!(parted(&member, &stranger).await, expected);
    // One that believes us is not believed by us.
    let credulous = made.tls(&Credentials { roots: ours.roots.clone(), ..theirs });
    assert_eq!(parted(&credulous, &member).await, (expected.1, expected.0));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let stage = Stage::new();
    let made = Made::new(&stage);
    let old = made.tls(&made.credentials("west", "a"));
    stage.pass(LIFE.as_secs());
    let new = made.tls(&made.credentials("west", "b"));
    assert!(meet(&old, &new).await.1.is_ok(), "it is good to its end");
    stage.pass(1);
    assert_eq!(parted(&old, &new).await, (refused("our certificate is not valid at this time"), Distrust::Expired));
    assert_eq!(parted(&new, &old).await, (Distrust::Expired, refused("our certificate is not valid at this time")));
}

#[tokio::test]
async fn another_cluster_under_the_same_root_is_refused_on_both_sides() {
    let stage = Stage::new();
    let made = Made::new(&stage);
    let member = made.tls(&made.credentials("west", "a"));
    let signer = made.root.authority("bank", "west", LIFE, stage.wall()).expect("an authority");
    let theirs = Authority::open("bank", &signer).and_then(|authority| authority.first("b", stage.wall())).expect("a certificate");
    let stranger = Tls::new(stage.clone(), Names::Own { cluster: "bank".into() }, &theirs).expect("good certificates");
    let (bank, shop) = (Distrust::OtherCluster { theirs: "bank".into() }, Distrust::OtherCluster { theirs: "shop".into() });
    let (caller, called) = parted(&stranger, &member).await;
    assert_eq!((caller, called), (refused("our certificate is of cluster `bank`"), bank.clone()));
    let (caller, called) = parted(&member, &stranger).await;
    assert_eq!((caller, called), (refused("our certificate is of cluster `shop`"), shop));
}

#[tokio::test]
async fn the_authority_of_one_region_vouches_for_no_node_of_another() {
    let stage = Stage::new();
    let made = Made::new(&stage);
    let member = made.tls(&made.credentials("west", "a"));
    // Whoever has stolen the key of the east says that it is that of the west.
    let stolen = Signer { region: "west".into(), ..made.signer("east") };
    let forged = Authority::open("shop", &stolen).and_then(|authority| authority.first("b", stage.wall())).expect("a certificate");
    let (caller, called) = parted(&made.tls(&forged), &member).await;
    assert!(matches!((&caller, &called), (Distrust::Refused { .. }, Distrust::Unusable(_))), "{caller:?} {called:?}");
    let (caller, called) = parted(&member, &made.tls(&forged)).await;
    assert!(matches!((&caller, &called), (Distrust::Unusable(_), Distrust::Refused { .. })), "{caller:?} {called:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_and_keeps_the_links_there_are_to_the_end_of_the_old() {
    let stage = Stage::new();
    let made = Made::new(&stage);
    let (a, b) = (made.tls(&made.credentials("west", "a")), made.tls(&made.credentials("west", "b")));
    let (connected, accepted) = meet(&a, &b).await;
    let ((mut near, _), (mut far, _)) = (connected.expect("trust"), accepted.expect("trust"));
    stage.pass(LIFE.as_secs());
    for (tls, node) in [(&a, "a"), (&b, "b")] {
        let before = tls.validity();
        tls.replace(&made.credentials("west", node)).expect("good certificates");
        assert!(tls.validity().not_after > before.not_after);
    }
    assert!(meet(&a, &b).await.0.is_ok());
    near.write_all(b"!").await.expect("the link is as it was");
    near.flush().await.expect("the link is as it was");
    assert_eq!(far.read_u8().await.expect("the link is as it was"), b'!');
    stage.pass(1);
    for stream in [&mut near, &mut far] {
        let (written, read) = (stream.write_all(b"!").await, stream.read_u8().await.map(drop));
        for over in [written, read] {
            let error = over.expect_err("the certificates that it was made with have expired");
            assert_eq!(Distrust::of(&error), Some(&Distrust::Expired), "{error}");
        }
    }
    assert!(meet(&a, &b).await.0.is_ok());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_changes_nothing() {
    let stage = Stage::new();
    let made = Made::new(&stage);
    let (a, b) = (made.credentials("west", "a"), made.credentials("west", "b"));
    let tls = made.tls(&a);
    let before = tls.validity();
    let outside = self_signed(&["spiffe://elsewhere/a"], &[]);
    for (credentials, expected) in [
        (Credentials { key: b.key.clone(), ..a.clone() }, CredentialsError::KeyMismatch),
        (Credentials { chain: "".into(), ..a.clone() }, CredentialsError::Unreadable("the certificate")),
        (Credentials { key: Secret::new("no key"), ..a.clone() }, CredentialsError::Unreadable("the key")),
        (Credentials { roots: "".into(), ..a.clone() }, CredentialsError::Unreadable("the authority")),
        (outside, CredentialsError::Name(Distrust::Nameless)),
    ] {
        assert_eq!(tls.replace(&credentials), Err(expected));
    }
    stage.pass(LIFE.as_secs() + 1);
    assert_eq!(tls.replace(&a), Err(CredentialsError::Expired));
    assert_eq!(tls.validity(), before);
}

/// A certificate with these names that vouches for itself.
fn self_signed(uris: &[&str], dns: &[&str]) -> Credentials {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(dns.iter().map(|name| name.to_string()).collect::<Vec<_>>()).expect("names");
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI(uri.to_string().try_into().expect("ASCII"))));
    let certificate = params.self_signed(&key).expect("a certificate");
    Credentials { chain: certificate.pem().into(), key: Secret::new(key.serialize_pem()), roots: certificate.pem().into() }
}

#[test]
fn a_certificate_names_one_node_or_none() {
    let own = Names::Own { cluster: "shop".into() };
    let other = |theirs: &str| Err(Distrust::OtherCluster { theirs: theirs.into() });
    let nameless = || Err(Distrust::Nameless);
    for (names, uris, dns, expected) in [
        (&own, &["spiffe://shop/west/a"][..], &["a.west.shop"][..], Ok(identity("a", Some("west")))),
        (&own, &["spiffe://shop/west/a.b"], &["a.b.west.shop"], Ok(identity("a.b", Some("west")))),
        (&own, &["spiffe://shop/west/a"], &[], nameless()),
        (&own, &["spiffe://shop/east/a"], &["a.west.shop"], nameless()),
        (&own, &["spiffe://shop/west/a"], &["a.west.shop", "b.west.shop"], nameless()),
        (&own, &[], &["a.west.shop"], nameless()),
        (&own, &["spiffe://shop/west"], &["a.west.shop"], nameless()),
        (&own, &["spiffe://shop/west/a/b"], &["a.west.shop"], nameless()),
        (&own, &["spiffe://shop//a"], &["a..shop"], nameless()),
        (&own, &["https://shop/west/a"], &["a.west.shop"], nameless()),
        (&own, &["spiffe://bank/west/a"], &["a.west.bank"], other("bank")),
        (&own, &["spiffe://%0A/west/a"], &["a.west.bank"], other("?")),
        (&Names::Outside, &["spiffe://trust.example/ns/prod/sa/a"], &["b"], Ok(identity("a", None))),
        (&Names::Outside, &[], &["a", "b"], Ok(identity("a", None))),
        (&Names::Outside, &[], &[], nameless()),
        (&Names::Outside, &["spiffe://trust.example/"], &[], nameless()),
        (&Names::Outside, &["https://trust.example/a"], &[], nameless()),
    ] {
        let certificate = certificates(&self_signed(uris, dns).chain).expect("a certificate").remove(0);
        assert_eq!(names.identity(&certificate), expected, "{names:?} {uris:?} {dns:?}");
    }
}

#[tokio::test]
async fn certificates_from_elsewhere_are_believed_by_their_own_authority() {
    let stage = Stage::new();
    let authority = Root::make("elsewhere", stage.wall()).expect("a root");
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority.pem(), KeyPair::from_pem(authority.reveal_key().reveal()).expect("a key"));
    let issuer = issuer.expect("an authority");
    let outside = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_string()]).expect("a name");
        let chain = params.signed_by(&key, &issuer).expect("a certificate").pem();
        let credentials = Credentials { chain: chain.into(), key: Secret::new(key.serialize_pem()), roots: authority.pem().clone() };
        Tls::new(stage.clone(), Names::Outside, &credentials).expect("good certificates")
    };
    let (connected, accepted) = meet(&outside("a"), &outside("b")).await;
    assert_eq!(connected.expect("trust").1, identity("b", None));
    assert_eq!(accepted.expect("trust").1, Some(identity("a", None)));
}

#[tokio::test]
async fn what_is_no_peer_is_told_so_and_does_not_stay() {
    let made = Made::new(&Stage::new());
    let member = made.tls(&made.credentials("west", "a"));
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("room");
    let error = member.accept(Box::new(far)).await.err().expect("no peer");
    assert_eq!(Distrust::of(&error), Some(&Distrust::NotAPeer));

    tokio::time::pause();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let error = member.accept(Box::new(far)).await.err().expect("silence");
    assert_eq!((Distrust::of(&error), error.kind()), (Some(&Distrust::Slow), io::ErrorKind::TimedOut));
    drop(near);
}

#[tokio::test]
async fn a_verdict_is_one_short_line() {
    for (said, expected) in [
        ("ok\n", Ok(())),
        ("no way\n", Err(refused("way"))),
        ("no a\tb\u{1b}[1m\n", Err(refused("ab[1m"))),
        ("yes\n", Err(Distrust::NotAPeer)),
        ("\n", Err(Distrust::NotAPeer)),
        (&"x".repeat(VERDICT_MAX + 1), Err(Distrust::NotAPeer)),
    ] {
        let mut bytes = said.as_bytes();
        let heard = listen(&mut bytes).await.map_err(|error| Distrust::of(&error).cloned().unwrap_or_else(|| panic!("{error}")));
        assert_eq!(heard, expected, "{said:?}");
    }
}

#[test]
fn an_authority_signs_what_is_signed_by_its_own_key_alone() {
    use crate::cluster::authority::AuthorityError;
    let stage = Stage::new();
    let made = Made::new(&stage);
    let authority = Authority::open("shop", &made.signer("west")).expect("its own authority");
    let mut request = Request::make("a").expect("a key").der;
    assert!(authority.sign(&request, "a", stage.wall()).is_ok());
    let last = request.len() - 1;
    request[last] ^= 1;
    assert_eq!(authority.sign(&request, "a", stage.wall()), Err(AuthorityError::Request));
    assert_eq!(authority.sign(b"hello", "a", stage.wall()), Err(AuthorityError::Request));
    let late = stage.wall() + Duration::from_secs(11 * 365 * 24 * 60 * 60);
    assert_eq!(authority.sign(&request, "a", late), Err(AuthorityError::Expired));
    let stolen = Signer { key: made.signer("west").key, ..made.signer("west") };
    assert_eq!(Authority::open("shop", &stolen).err(), Some(AuthorityError::KeyMismatch));
    assert_eq!(Root::read(made.root.pem(), &KeyPair::generate().expect("a key").serialize_pem()).err(), Some(AuthorityError::KeyMismatch));
}
