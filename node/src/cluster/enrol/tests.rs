use super::*;
use crate::cluster::stage::{LIFE, Made, Stage, empty, identity, keyring, meet};
use proptest::prelude::*;
use std::{sync::Mutex, time::UNIX_EPOCH};

fn token(made: &Made, region: &str, role: Role) -> Token {
    let expires = made.world.wall() + Duration::from_secs(60);
    let grant = Grant { number: 1, authority: made.root.hash(), region: region.into(), role, expires };
    Token::issue(grant, &keyring(1))
}

fn petitioner(made: &Made, node: &str, token: Token) -> Petitioner {
    Petitioner::joins(&made.cluster, &node.into(), token).expect("a key")
}

fn nobody(_: &str) -> bool {
    false
}

#[tokio::test]
async fn a_node_with_a_token_becomes_a_member() {
    let made = Made::new(&Stage::new());
    let world: Arc<dyn World> = made.world.clone();
    let desk = Desk::new(made.cluster.clone(), made.memory("west"));
    let member = made.tls(&made.credentials("west", "a"));
    let joiner = petitioner(&made, "b", token(&made, "west", Role::Member));

    let (connected, accepted) = meet(&joiner.trust(&world), &member).await;
    assert_eq!((connected.expect("trust").1, accepted.expect("trust").1), (identity("a", Some("west")), None));
    let admission = desk.admit(joiner.petition(), nobody, world.wall()).expect("a good token");
    assert_eq!(admission.signer, None);
    let admitted = joiner.accept(admission, world.wall()).expect("what was asked for");
    assert!(admitted.keyring == keyring(1));

    let (_, accepted) = meet(&made.tls(&admitted.credentials), &member).await;
    assert_eq!(accepted.expect("trust").1, Some(identity("b", Some("west"))));
}

#[test]
fn a_signer_lets_in_others() {
    let made = Made::new(&Stage::new());
    let wall = made.world.wall();
    let desk = Desk::new(made.cluster.clone(), made.memory("west"));
    let joiner = petitioner(&made, "b", token(&made, "west", Role::Signer));
    let admitted = joiner.accept(desk.admit(joiner.petition(), nobody, wall).expect("a good token"), wall).expect("what was asked for");
    let memory = empty();
    let _ = admitted.keep(&memory);
    let second = Desk::new(made.cluster.clone(), memory);
    let token = second.token("west", Role::Member, wall + LIFE, 7).expect("a signer makes tokens");
    let joiner = petitioner(&made, "c", token);
    assert!(joiner.accept(second.admit(joiner.petition(), nobody, wall).expect("a good token"), wall).is_ok());
}

#[test]
fn whoever_may_not_come_in_is_told_why() {
    let made = Made::new(&Stage::new());
    let wall = made.world.wall();
    let desk = Desk::new(made.cluster.clone(), made.memory("west"));
    let good = token(&made, "west", Role::Member);
    let with = |entitled: Token, region: &str, node: &str| {
        let petition = petitioner(&made, "b", entitled).petition;
        Petition { region: region.into(), node: node.into(), ..petition }
    };
    let taken = |node: &str| node == "taken";
    for (petition, wall, expected) in [
        (
            with(good.clone(), "west", "b"),
            wall + Duration::from_secs(63),
            EnrolRefusal::Token(TokenRefusal::Expired { ago: Duration::from_secs(3) }),
        ),
        (with(good.clone(), "east", "b"), wall, EnrolRefusal::NoSigner { region: "east".into() }),
        (
            with(token(&made, "east", Role::Member), "west", "b"),
            wall,
            EnrolRefusal::OtherRegion { token: "east".into(), node: "west".into() },
        ),
        (with(good.clone(), "west", "taken"), wall, EnrolRefusal::Taken { node: "taken".into() }),
        (with(good.clone(), "west", "not a name"), wall, EnrolRefusal::Authority(AuthorityError::Request)),
        (
            Petition { request: b"hello".to_vec(), ..with(good.clone(), "west", "b") },
            wall,
            EnrolRefusal::Authority(AuthorityError::Request),
        ),
        (
            Petition { request: vec![0; REQUEST_MAX + 1], ..with(good.clone(), "west", "b") },
            wall,
            EnrolRefusal::Authority(AuthorityError::Request),
        ),
    ] {
        assert_eq!(desk.admit(&petition, taken, wall), Err(expected), "{petition:?}");
    }
    let other = Made::new(&made.world);
    let petition = with(token(&other, "west", Role::Member), "west", "b");
    assert_eq!(desk.admit(&petition, nobody, wall), Err(EnrolRefusal::Token(TokenRefusal::OtherAuthority)));
    let memory = empty();
    let _ = memory.keep_signer(&made.signer("west"));
    let without = Desk::new(made.cluster.clone(), memory);
    assert_eq!(without.admit(&with(good, "west", "b"), nobody, wall), Err(EnrolRefusal::NoKeyring));
}

#[test]
fn a_certificate_is_renewed_by_its_own_key_and_by_nothing_else() {
    let made = Made::new(&Stage::new());
    let memory = made.memory("west");
    let desk = Desk::new(made.cluster.clone(), memory.clone());
    let authority = Authority::open("shop", &memory.signer("west").expect("it was kept")).expect("its own authority");
    let own = authority.first("b", made.world.wall()).expect("a certificate");
    made.world.pass(LIFE.as_secs() / 2);
    let wall = made.world.wall();
    let renewing = Petitioner::renews(&made.cluster, &own, wall).expect("a good certificate");
    // The name is in use, by the one who asks.
    let renewed = desk.admit(renewing.petition(), |_| true, wall).expect("its own key");
    assert_eq!(renewed.signer, None);
    let renewed = renewing.accept(renewed, wall).expect("what was asked for");
    assert_ne!(renewed.credentials.key, own.key);
    assert!(made.tls(&renewed.credentials).validity().not_after > made.tls(&own).validity().not_after);

    let petition = renewing.petition();
    let Entitled::Renewal { chain, signature } = &petition.entitled else { unreachable!("it renews") };
    let entitled = |chain: &Arc<str>, signature: &[u8]| Entitled::Renewal { chain: chain.clone(), signature: signature.to_vec() };
    let other = Request::make("b").expect("a key").der;
    let stranger = made.credentials("west", "c");
    let foreign = Made::new(&made.world).credentials("west", "b");
    for (petition, expected) in [
        (Petition { request: other, ..petition.clone() }, EnrolRefusal::NotYours),
        (Petition { node: "c".into(), ..petition.clone() }, EnrolRefusal::NotYours),
        (Petition { entitled: entitled(&stranger.chain, signature), ..petition.clone() }, EnrolRefusal::NotYours),
        (Petition { entitled: entitled(chain, b""), ..petition.clone() }, EnrolRefusal::NotYours),
        (Petition { entitled: entitled(&"x".repeat(CHAIN_MAX + 1).into(), signature), ..petition.clone() }, EnrolRefusal::NotYours),
        (Petition { entitled: entitled(&foreign.chain, signature), ..petition.clone() }, EnrolRefusal::Renewal(Distrust::OtherAuthority)),
        (Petition { entitled: entitled(&"".into(), signature), ..petition.clone() }, EnrolRefusal::Renewal(Distrust::Nameless)),
    ] {
        assert_eq!(desk.admit(&petition, nobody, wall), Err(expected), "{petition:?}");
    }
    let late = wall + LIFE;
    assert_eq!(desk.admit(petition, nobody, late), Err(EnrolRefusal::Renewal(Distrust::Expired)));
    assert!(Petitioner::renews(&made.cluster, &own, late).is_err());
}

#[test]
fn an_answer_that_is_not_ours_is_refused() {
    let made = Made::new(&Stage::new());
    let wall = made.world.wall();
    let desk = Desk::new(made.cluster.clone(), made.memory("west"));
    let joiner = petitioner(&made, "b", token(&made, "west", Role::Member));
    let good = desk.admit(joiner.petition(), nobody, wall).expect("a good token");
    let elsewhere = Made::new(&made.world).credentials("west", "b").chain;
    for (admission, expected) in [
        (
            Admission { chain: made.credentials("west", "c").chain, ..good.clone() },
            "the answer cannot be used: the certificate is for another node",
        ),
        (
            Admission { chain: made.credentials("east", "b").chain, ..good.clone() },
            "the answer cannot be used: the certificate is for another node",
        ),
        (
            Admission { chain: made.credentials("west", "b").chain, ..good.clone() },
            "the answer cannot be used: the certificate is for another key",
        ),
        (Admission { chain: elsewhere, ..good.clone() }, "its certificate is of another authority"),
        (Admission { chain: "hello".into(), ..good.clone() }, "the answer cannot be used: there is no certificate in it"),
        (
            Admission { keyring: Secret::new("hello"), ..good.clone() },
            "the answer cannot be used: this is no keyring: it is not the JSON of a keyring",
        ),
    ] {
        assert_eq!(joiner.accept(admission, wall).err().map(|error| error.to_string()).as_deref(), Some(expected));
    }
    assert!(joiner.accept(good, wall).is_ok());
}

#[tokio::test(start_paused = true)]
async fn seeds_are_asked_until_one_answers() {
    let made = Made::new(&Stage::new());
    let desk = Desk::new(made.cluster.clone(), made.memory("west"));
    let joiner = petitioner(&made, "b", token(&made, "west", Role::Member));
    let seeds: Vec<SocketAddr> = (1..=2).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let script = Script {
        seeds: seeds.clone(),
        asked: Mutex::default(),
        told: Mutex::default(),
        answer: |asked: usize, petition: &Petition| match asked {
            1 => Asked::Failed(io::ErrorKind::ConnectionRefused.into()),
            2 => Asked::Refused { why: "no node here may sign".into(), last: false },
            3 => Asked::Failed(Distrust::Expired.into()),
            _ => Asked::Admitted(Box::new(desk.admit(petition, nobody, made.world.wall()).expect("a good token"))),
        },
    };
    assert!(joiner.ask(&*made.world, &script).await.is_ok());
    assert_eq!(*script.asked.lock().expect("no panic"), [1, 2, 1, 2]);
    let told = ["1: connection refused", "2: no node here may sign", "1: its certificate has expired"];
    assert_eq!(*script.told.lock().expect("no panic"), told);

    let never = |_, _: &Petition| Asked::Refused { why: "the join token was not signed by this cluster".into(), last: true };
    let script = Script { seeds, asked: Mutex::default(), told: Mutex::default(), answer: never };
    let error = joiner.ask(&*made.world, &script).await.expect_err("nobody will let it in");
    assert_eq!(error.to_string(), "127.0.0.1:1 does not let this node in: the join token was not signed by this cluster");
    assert!(script.told.lock().expect("no panic").is_empty(), "the error says it");
}

/// Answers by how often it has been asked.
struct Script<A> {
    seeds: Vec<SocketAddr>,
    asked: Mutex<Vec<u16>>,
    told: Mutex<Vec<String>>,
    answer: A,
}

impl<A: Fn(usize, &Petition) -> Asked + Send + Sync> Hosts for Script<A> {
    fn seeds(&self) -> BoxFuture<'_, Vec<SocketAddr>> {
        Box::pin(async { self.seeds.clone() })
    }

    fn ask<'a>(&'a self, seed: SocketAddr, petition: &'a Petition) -> BoxFuture<'a, Asked> {
        let mut asked = self.asked.lock().expect("no panic");
        asked.push(seed.port());
        let answer = (self.answer)(asked.len(), petition);
        Box::pin(async { answer })
    }

    fn tell(&self, seed: SocketAddr, why: &str) {
        self.told.lock().expect("no panic").push(format!("{}: {why}", seed.port()));
    }
}

proptest! {
    #[test]
    fn a_certificate_is_renewed_before_the_last_third_of_its_life(life in 10u64..10_000_000, passed in 0.0f64..1.2, chance in any::<u64>()) {
        let validity = Validity { not_before: UNIX_EPOCH, not_after: UNIX_EPOCH + Duration::from_secs(life) };
        let passed = Duration::from_secs(life).mul_f64(passed);
        let due = passed + renewal_due(validity, UNIX_EPOCH + passed, chance);
        let life = Duration::from_secs(life);
        if passed < life * 6 / 10 {
            prop_assert!(due >= life.mul_f64(0.599) && due <= life.mul_f64(0.667), "{due:?} of {life:?}");
        } else {
            prop_assert!(due <= passed.max(life.mul_f64(0.667)));
        }
        let again = renewal_again(validity, UNIX_EPOCH + passed);
        prop_assert!(again >= Duration::from_secs(1) && again <= Duration::from_secs(3600));
    }
}
