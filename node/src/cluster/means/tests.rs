use super::*;
use crate::cluster::stage::{LIFE, Made, Stage, empty, keyring};
use ::cluster::token::{Grant, Role};
use std::{io, path::Path};

fn gateway(cluster: &str) -> config::Gateway {
    let text = format!(
        "[node]\nname = \"a\"\nregion = \"west\"\nstate_dir = \"/s\"\n[cluster]\nname = \"shop\"\n{cluster}\n\
         [listen.main]\nbind = \"127.0.0.1:8080\"\n[[route]]\nmatch = \"/\"\nrespond = {{ body = \"\" }}\n"
    );
    let loaded = config::load_text(Path::new("shoal.toml"), &text, &Files);
    loaded.gateway.unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

/// Every file is there, and empty of sense.
struct Files;

impl config::Source for Files {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(b"x".to_vec())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

const LOCAL: &str = "bind = \"127.0.0.1:7900\"";

struct Case<'a> {
    cluster: &'a str,
    insecure_dev: bool,
    token: Option<Secret>,
    memory: &'a Memory,
}

impl Case<'_> {
    fn decide(self, made: &Made) -> Result<Means, MeansError> {
        let gateway = gateway(self.cluster);
        let cluster = gateway.cluster.as_ref().expect("there is a section");
        let world: Arc<dyn World> = made.world.clone();
        let read = |_: &Path| Ok(b"x".to_vec());
        Means::of(cluster, &gateway.node, self.insecure_dev, self.token.as_ref(), self.memory, &read, &world)
    }
}

fn token(made: &Made, region: &str) -> Secret {
    let grant =
        Grant { number: 1, authority: made.root.hash(), region: region.into(), role: Role::Member, expires: made.world.wall() + LIFE * 2 };
    Token::issue(grant, &keyring(1)).reveal()
}

fn remembering(made: &Made, region: &str, node: &str) -> Arc<Memory> {
    let memory = empty();
    let _ = memory.keep_credentials(&made.credentials(region, node));
    let _ = memory.keep_keyring(&keyring(1));
    memory
}

#[test]
fn insecure_dev_works_on_loopback_alone() {
    let made = Made::new(&Stage::new());
    let memory = empty();
    let case = |cluster| Case { cluster, insecure_dev: true, token: None, memory: &memory };
    let (first, second) = (case(LOCAL).decide(&made), case(LOCAL).decide(&made));
    let (Ok(Means::Claimed { keyring: first }), Ok(Means::Claimed { keyring: second })) = (first, second) else {
        panic!("loopback is allowed")
    };
    assert!(first.accepts(second.fingerprint()), "nodes agree without having met");
    for exposed in [
        "bind = \"192.0.2.7:7900\"",
        "bind = \"0.0.0.0:7900\"\nadvertise = \"192.0.2.7\"",
        "bind = \"127.0.0.1:7900\"\nadvertise = \"192.0.2.7\"",
    ] {
        assert!(matches!(case(exposed).decide(&made), Err(MeansError::Exposed { .. })), "{exposed}");
    }
}

#[test]
fn a_node_without_anything_is_told_what_there_is() {
    let made = Made::new(&Stage::new());
    let error = Case { cluster: LOCAL, insecure_dev: false, token: None, memory: &empty() }.decide(&made).err().expect("nothing");
    assert_eq!(error, MeansError::Nothing);
    for way in ["shoal cluster init", "--join-token", "tls", "--insecure-dev"] {
        assert!(error.to_string().contains(way), "{error}");
    }
}

#[test]
fn what_is_remembered_comes_before_a_token_and_a_token_before_nothing() {
    let made = Made::new(&Stage::new());
    let token = token(&made, "west");
    let with =
        |memory: &Memory, token: Option<&Secret>| Case { cluster: LOCAL, insecure_dev: false, token: token.cloned(), memory }.decide(&made);
    let good = remembering(&made, "west", "a");
    assert!(matches!(with(&good, Some(&token)), Ok(Means::Certified { own: true, .. })));
    assert!(matches!(with(&empty(), Some(&token)), Ok(Means::Join(_))));

    for other in [remembering(&made, "west", "b"), remembering(&made, "east", "a")] {
        assert!(matches!(with(&other, None), Err(MeansError::OtherNode { .. })));
        assert!(matches!(with(&other, Some(&token)), Ok(Means::Join(_))));
    }
    made.world.pass(LIFE.as_secs() + 1);
    assert_eq!(with(&good, None).err(), Some(MeansError::Credentials(CredentialsError::Expired)));
    assert!(matches!(with(&good, Some(&token)), Ok(Means::Join(_))));
}

#[test]
fn a_token_that_cannot_work_is_refused_at_once() {
    let made = Made::new(&Stage::new());
    let with = |token| Case { cluster: LOCAL, insecure_dev: false, token: Some(token), memory: &empty() }.decide(&made).err();
    assert_eq!(with(Secret::new("hello")), Some(MeansError::Token(TokenError::NotAToken)));
    let expected = MeansError::OtherRegion { token: "east".into(), configured: "west".into() };
    assert_eq!(with(token(&made, "east")), Some(expected));
}

#[test]
fn files_from_elsewhere_that_make_no_sense_are_named() {
    let made = Made::new(&Stage::new());
    let cluster = format!("{LOCAL}\ntls = {{ cert = \"c\", key = \"k\", ca = \"a\" }}\nsecrets = {{ file = \"s\" }}");
    let error = Case { cluster: &cluster, insecure_dev: false, token: None, memory: &empty() }.decide(&made).err();
    assert_eq!(error, Some(MeansError::Keyring(KeyringError::Malformed("it is not the JSON of a keyring"))));
}
