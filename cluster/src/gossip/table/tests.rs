use super::*;

fn id(incarnation: u64) -> Id {
    Id { name: "a".into(), incarnation, address: ([10, 0, 0, 1], 7400).into() }
}

/// A look, in milliseconds since the start: whether chitchat takes the one member for alive, and its heartbeat.
struct Scene {
    table: Table,
    began: Instant,
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn new() -> Self {
        Self { table: Table::default(), began: Instant::now() }
    }

    fn look(&mut self, at: u64, live: bool, heartbeat: u64) -> bool {
        let now = self.began + Duration::from_millis(at);
        self.table.look(now);
        self.table.see(id(1), Standing { live, heartbeat, version: 0, collected: 0 }, std::iter::empty(), now);
        self.table.all_seen();
        self.table.get(&id(1)).is_some_and(|sighting| sighting.live)
    }
}

#[test]
fn who_has_been_heard_lately_is_there_whatever_chitchat_says() {
    let mut scene = Scene::new();
    assert!(scene.look(0, true, 1));
    assert!(scene.look(250, true, 2));
    for at in (500..3_250).step_by(250) {
        assert!(scene.look(at, false, 2), "{at}");
    }
    assert!(!scene.look(3_250, false, 2));
    assert!(scene.look(3_500, false, 3), "it is heard again");
}

#[test]
fn who_chitchat_takes_for_alive_is_there_however_long_it_is_silent() {
    let mut scene = Scene::new();
    (0..40).for_each(|look| assert!(scene.look(look * 250, true, 1)));
}

#[test]
fn who_was_only_named_is_not_there() {
    let mut scene = Scene::new();
    assert!(!scene.look(0, false, 7));
    assert!(!scene.look(250, false, 7));
}

#[test]
fn while_a_node_stands_still_nobody_dies() {
    let mut scene = Scene::new();
    scene.look(0, true, 1);
    assert!(scene.look(60_000, false, 1), "nothing could be heard");
    for at in (60_250..62_750).step_by(250) {
        assert!(scene.look(at, false, 1), "{at}");
    }
    assert!(!scene.look(63_250, false, 1), "by now it would have been");
}

#[test]
fn only_what_has_changed_is_read_and_a_state_that_starts_anew_is_read_anew() {
    let mut table = Table::default();
    let now = Scene::new().began;
    let mut see = |version, collected, keys: &[(&str, Option<&str>, u64)]| {
        table.see(id(1), Standing { live: true, heartbeat: 1, version, collected }, keys.iter().copied(), now);
        table.all_seen();
        let told = &table.get(&id(1)).expect("it has been seen").told;
        (told.load, told.health.len(), table.take_changed())
    };
    assert_eq!(see(2, 0, &[("l", Some("5"), 1), ("h/a", Some("1/1"), 2)]), (5, 1, true));
    assert_eq!(see(2, 0, &[("l", Some("9"), 1)]), (5, 1, false), "no version, no news");
    assert_eq!(see(3, 0, &[("l", Some("9"), 1), ("h/a", None, 3)]), (5, 0, true), "an old version is not read again");
    assert_eq!(see(4, 3, &[("l", Some("7"), 4)]), (7, 0, true), "tombstones are gone, and with them what they stood for");
    assert_eq!(see(1, 3, &[("h/b", Some("1/1"), 1)]), (0, 1, true));
}

#[test]
fn who_tells_more_than_any_member_is_swollen() {
    let mut table = Table::default();
    let now = Scene::new().began;
    let keys: Vec<String> = (0..KEYS_MAX + 1).map(|number| format!("z/{number}")).collect();
    let keys = keys.iter().zip(1..).map(|(key, version)| (&**key, Some("x"), version));
    table.see(id(1), Standing { live: true, heartbeat: 1, version: KEYS_MAX as u64 + 1, collected: 0 }, keys, now);
    assert!(table.get(&id(1)).is_some_and(|sighting| sighting.swollen));
}

#[test]
fn an_incarnation_is_superseded_by_a_newer_one_that_says_who_it_is() {
    let mut table = Table::default();
    let now = Scene::new().began;
    let mut see = |incarnation, keys: &[(&str, Option<&str>, u64)]| {
        let version = keys.len() as u64;
        table.see(id(incarnation), Standing { live: true, heartbeat: 1, version, collected: 0 }, keys.iter().copied(), now);
        table.is_superseded(&id(1))
    };
    assert!(!see(1, &[("f", Some("eu z 1-1 1"), 1)]));
    assert!(!see(2, &[]));
    assert!(see(2, &[("f", Some("eu z 1-1 1"), 1)]));
}
