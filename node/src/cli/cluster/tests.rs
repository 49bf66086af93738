//! A cluster is made, extended and opened to others, in folders that go with the test.

use super::*;
use crate::{
    cli::Cli,
    cluster::{
        enrol::{Entitled, Petitioner},
        means::Means,
    },
    world::RealWorld,
};
use ::cluster::{World, token};
use clap::Parser;
use std::os::unix::fs::PermissionsExt;

struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new(name: &str, region: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[node]\nname = \"{name}\"\nregion = \"{region}\"\nstate_dir = \"state\"\n[cluster]\nname = \"shop\"\n\
             bind = \"127.0.0.1:7900\"\n[listen.main]\nbind = \"127.0.0.1:8080\"\n[[route]]\nmatch = \"/\"\nrespond = {{ body = \"\" }}\n"
        );
        RealWorld::new().disk().replace(&folder.path().join("shoal.toml"), text.as_bytes()).expect("a file");
        Self { folder }
    }

    /// `FOLDER` in the arguments stands for the node's own.
    fn shoal(&self, arguments: &str) -> (Exit, String, String) {
        let folder = self.folder.path().display().to_string();
        let arguments = ["shoal"].into_iter().chain(arguments.split_whitespace()).map(|word| word.replace("FOLDER", &folder));
        let cli = Cli::try_parse_from(arguments).expect("arguments that are understood");
        let surroundings = Surroundings { world: Arc::new(RealWorld::new()), environment: Arc::default(), program: "shoal".into() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let performed = cli.verb.perform(&surroundings, &mut Terminal { out: &mut out, err: &mut err });
        let exit = performed.unwrap_or_else(|failure| {
            std::io::Write::write_fmt(&mut err, format_args!("{failure}")).expect("a vector takes everything");
            failure.exit
        });
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (exit, text(out), text(err))
    }

    #[track_caller]
    fn does(&self, arguments: &str) -> String {
        let (exit, out, err) = self.shoal(arguments);
        assert_eq!(exit, Exit::Ok, "{out}{err}");
        out
    }

    #[track_caller]
    fn refuses(&self, arguments: &str, code: &str) {
        let (exit, out, err) = self.shoal(arguments);
        assert!(exit != Exit::Ok && err.contains(code), "{out}{err}");
    }

    fn memory(&self) -> Memory {
        Memory::beside(RealWorld::new().disk(), Some(&self.folder.path().join("state"))).expect("nobody has it open")
    }

    fn mode(&self, file: &str) -> u32 {
        let meta = std::fs::metadata(self.folder.path().join("state").join(file)).expect("a file");
        meta.permissions().mode() & 0o777
    }
}

fn nobody(_: &str) -> bool {
    false
}

#[test]
fn a_cluster_is_made_once_and_its_secrets_are_for_their_owner_alone() {
    let node = Node::new("west-1", "west");
    let said = node.does("cluster init -c FOLDER/shoal.toml");
    for word in ["`shop`", "`west-1`", "cluster-root.key", "offline", "good for 720h", "cluster token"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert_eq!(["node.redb", ROOT_KEY].map(|file| node.mode(file)), [0o600, 0o600]);
    let key = RealWorld::new().disk().read(&node.folder.path().join("state").join(ROOT_KEY)).expect("a file");
    node.refuses("cluster init -c FOLDER/shoal.toml", "E6014");
    let again = RealWorld::new().disk().read(&node.folder.path().join("state").join(ROOT_KEY)).expect("a file");
    assert_eq!(key, again);
    // Nor with the root taken away, as it should be.
    for file in [ROOT_KEY, "cluster-root.pem"] {
        std::fs::remove_file(node.folder.path().join("state").join(file)).expect("a file");
    }
    node.refuses("cluster init -c FOLDER/shoal.toml", "E6014");
    node.refuses("cluster init -c FOLDER/shoal.toml --region east", "E6016");
}

#[test]
fn the_first_node_starts_from_what_was_made() {
    let node = Node::new("west-1", "west");
    node.does("cluster init -c FOLDER/shoal.toml --certificate-life 60s");
    let world: Arc<dyn World> = Arc::new(RealWorld::new());
    let loaded = ::config::load(&node.folder.path().join("shoal.toml"), &::config::OsSource::default());
    let gateway = loaded.gateway.expect("a good file");
    let read = |path: &Path| world.disk().read(path);
    let cluster = gateway.cluster.as_ref().expect("there is a section");
    let means = Means::of(cluster, &gateway.node, false, None, &node.memory(), &read, &world);
    let Ok(Means::Certified { tls, .. }) = means else { panic!("{:?}", means.err()) };
    let validity = tls.validity();
    let life = validity.not_after.duration_since(validity.not_before).expect("a certificate ends after it begins");
    assert!((60..=66).contains(&life.as_secs()), "{life:?}");
}

#[test]
fn another_region_lets_its_own_nodes_in() {
    let (west, east) = (Node::new("west-1", "west"), Node::new("east-1", "east"));
    west.does("cluster init -c FOLDER/shoal.toml");
    west.refuses("cluster init -c FOLDER/shoal.toml --region West", "E6000");
    west.does("cluster init -c FOLDER/shoal.toml --region east");
    west.refuses("cluster init -c FOLDER/shoal.toml --region east", "E6014");
    west.does("cluster init -c FOLDER/shoal.toml --region east --replace");

    let wall = RealWorld::new().wall();
    let cluster: Arc<str> = "shop".into();
    let enrol = |desk: &Node, node: &Node, name: &str, word: &str| {
        let token: token::Token = word.trim().parse().expect("a token");
        let petitioner = Petitioner::joins(&cluster, &name.into(), token).expect("a key");
        assert!(matches!(petitioner.petition().entitled, Entitled::Token(_)));
        let desk = Desk::new(cluster.clone(), Arc::new(desk.memory()));
        let admitted = petitioner.accept(desk.admit(petitioner.petition(), nobody, wall).expect("a good token"), wall);
        admitted.expect("what was asked for").keep(&node.memory()).expect("a disk that can be written");
    };
    let word = west.does("cluster token -c FOLDER/shoal.toml --region east --signer --expires 1m");
    enrol(&west, &east, "east-1", &word);
    let other = Node::new("east-2", "east");
    enrol(&east, &other, "east-2", &east.does("cluster token -c FOLDER/shoal.toml"));
    other.refuses("cluster token -c FOLDER/shoal.toml", "E6016");
}

#[test]
fn what_is_no_cluster_is_told_what_it_lacks() {
    let node = Node::new("west-1", "west");
    node.refuses("cluster token -c FOLDER/shoal.toml", "E6013");
    node.refuses("keyring list -c FOLDER/shoal.toml", "E6017");
    node.refuses("cluster init -c FOLDER/shoal.toml --certificate-life 1s", "E6000");
    let alone = "[listen.main]\nbind = \"127.0.0.1:8080\"\n[[route]]\nmatch = \"/\"\nrespond = { body = \"\" }\n";
    RealWorld::new().disk().replace(&node.folder.path().join("shoal.toml"), alone.as_bytes()).expect("a file");
    node.refuses("cluster init -c FOLDER/shoal.toml", "E6013");
}

#[test]
fn a_damaged_memory_is_not_written_over() {
    let node = Node::new("west-1", "west");
    let file = node.folder.path().join("state/node.redb");
    std::fs::create_dir(node.folder.path().join("state")).expect("a folder");
    RealWorld::new().disk().replace(&file, b"something else").expect("a file");
    node.refuses("cluster init -c FOLDER/shoal.toml", "E6015");
    assert_eq!(RealWorld::new().disk().read(&file).expect("a file"), b"something else");
}

#[test]
fn a_key_is_replaced_in_three_steps_on_every_node() {
    let (first, second) = (Node::new("a", "west"), Node::new("b", "west"));
    first.does("cluster init -c FOLDER/shoal.toml");
    let ring = first.memory().keyring().expect("it was made");
    second.memory().keep_keyring(&ring).expect("a disk that can be written");
    let accept = || {
        let (a, b) = (first.memory().keyring().expect("a keyring"), second.memory().keyring().expect("a keyring"));
        assert!(a.accepts(b.fingerprint()) && b.accepts(a.fingerprint()));
    };
    first.does("keyring rotate token -c FOLDER/shoal.toml --write FOLDER/key");
    accept();
    first.refuses("keyring rotate token -c FOLDER/shoal.toml", "E6017");
    let key = first.folder.path().join("key");
    assert_eq!(std::fs::metadata(&key).expect("a file").permissions().mode() & 0o777, 0o600);
    second.does(&format!("keyring rotate token -c FOLDER/shoal.toml --key {}", key.display()));
    for _ in 0..2 {
        for node in [&first, &second] {
            node.does("keyring rotate token -c FOLDER/shoal.toml --everywhere");
            accept();
        }
    }
    let listed = first.does("keyring list -c FOLDER/shoal.toml");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.lines().all(|line| line.ends_with("in use")), "{listed}");
    assert_ne!(first.memory().keyring(), Some(ring));
}

#[test]
fn a_keyring_in_a_file_is_turned_by_hand() {
    let node = Node::new("a", "west");
    node.does("keyring new FOLDER/ring");
    node.refuses("keyring new FOLDER/ring", "E6017");
    node.does("keyring add hash --file FOLDER/ring");
    let listed = node.does("keyring list --file FOLDER/ring");
    let ids: Vec<&str> = listed.lines().filter(|line| line.starts_with("hash")).filter_map(|line| line.split_whitespace().nth(1)).collect();
    let [old, new] = ids[..] else { panic!("{listed}") };
    node.refuses(&format!("keyring remove hash {old} --file FOLDER/ring"), "E6017");
    node.does(&format!("keyring use hash {new} --file FOLDER/ring"));
    node.does(&format!("keyring remove hash {old} --file FOLDER/ring"));
    node.refuses(&format!("keyring use hash {old} --file FOLDER/ring"), "E6017");
    node.refuses("keyring use hash xyz --file FOLDER/ring", "E6017");
    assert!(!listed.contains("=="), "{listed}");
}

#[test]
fn a_token_is_made_by_members_and_lets_somebody_in() {
    let node = Node::new("a", "eu");
    let (exit, out, err) = node.shoal("cluster token -c FOLDER/shoal.toml");
    assert!(exit != Exit::Ok && out.is_empty() && err.contains(error::NO_CLUSTER) && err.contains("shoal cluster init"), "{out}{err}");
    node.does("cluster init -c FOLDER/shoal.toml");
    for (expires, good) in [("0s", false), ("999ms", false), ("1s", true)] {
        let (exit, out, err) = node.shoal(&format!("cluster token -c FOLDER/shoal.toml --expires {expires}"));
        assert_eq!((exit == Exit::Ok, out.is_empty(), err.contains("at least 1s")), (good, !good, !good), "{out}{err}");
    }
}
