use super::{
    super::table,
    election::{BRIDGES_FOR, ELECTED_FOR, GOODBYE_FOR},
    *,
};

/// A picture of `me` in region `eu`, fed with what chitchat would hold.
struct Scene {
    picture: Picture,
    now: Instant,
    region: BTreeMap<Id, Fed>,
    world: BTreeMap<Id, Fed>,
}

struct Fed {
    live: bool,
    heartbeat: u64,
    keys: BTreeMap<String, (Option<String>, u64)>,
    version: u64,
}

fn id(name: &str, generation: u64) -> Id {
    Id { name: name.into(), incarnation: generation << TURN_BITS, address: ([10, 0, 0, name.as_bytes()[name.len() - 1]], 7400).into() }
}

fn facts(region: &str) -> Facts {
    Facts {
        region: region.into(),
        zone: "z".into(),
        address: id("me", 1).address,
        protocol: (1, 1),
        build: "1".into(),
        state: State::Serving,
        configuration: "c".into(),
        load: 0,
        health: BTreeMap::new(),
    }
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn new() -> Self {
        let mut picture = Picture::new("me".into(), 1, facts("eu"));
        let now = Instant::now();
        picture.enters_region(id("me", 1), now);
        Self { picture, now: now + RESUMES_FOR, region: BTreeMap::new(), world: BTreeMap::new() }
    }

    /// A member of the region's ring, with what a member tells.
    fn member(&mut self, name: &str, generation: u64, more: &[(&str, &str)]) {
        tell(&mut self.region, id(name, generation), "eu", more);
    }

    /// Somebody in the ring of the world, of a region.
    fn speaker(&mut self, name: &str, region: &str, more: &[(&str, &str)]) {
        tell(&mut self.world, id(name, 1), region, more);
    }

    fn silent(&mut self, name: &str) {
        self.now += table::HEARD_FOR;
        let all = self.region.iter_mut().chain(self.world.iter_mut());
        all.filter(|(id, _)| &*id.name == name).for_each(|(_, fed)| fed.live = false);
    }

    fn step(&mut self, seconds: f64) -> Step {
        self.now += Duration::from_secs_f64(seconds);
        // Who is live gives signs of life.
        self.region.values_mut().chain(self.world.values_mut()).filter(|fed| fed.live).for_each(|fed| fed.heartbeat += 1);
        feed(&mut self.picture.region, &self.region, self.now);
        feed(&mut self.picture.world, &self.world, self.now);
        let step = self.picture.step(self.now);
        if step.in_world && self.picture.world_id.is_none() {
            self.picture.enters_world(id("me", 1), self.now);
        }
        step
    }

    /// `name+`, `name-` for one that is gone, `name!` for one that has left, with its generation where it is not 1.
    fn seen(&self) -> String {
        let one = |member: &Member| {
            let generation = if member.generation == 1 { String::new() } else { member.generation.to_string() };
            let sign = match member.seen {
                Seen::Alive => '+',
                Seen::Gone { .. } => '-',
                Seen::Left => '!',
            };
            format!("{}{generation}{sign}", member.name)
        };
        self.picture.view().members.values().map(one).collect::<Vec<_>>().join(" ")
    }
}

fn tell(ring: &mut BTreeMap<Id, Fed>, id: Id, region: &str, more: &[(&str, &str)]) {
    let fed = ring.entry(id).or_insert_with(|| Fed { live: true, heartbeat: 1, keys: BTreeMap::new(), version: 0 });
    let base = format!("{region} z 1-1 1");
    let first: &[(&str, &str)] = if fed.version == 0 { &[("f", &base), ("s", "s")] } else { &[] };
    for (key, value) in first.iter().chain(more) {
        fed.version += 1;
        fed.keys.insert((*key).to_owned(), ((!value.is_empty()).then(|| (*value).to_owned()), fed.version));
    }
}

fn feed(table: &mut Table, ring: &BTreeMap<Id, Fed>, now: Instant) {
    for (id, fed) in ring {
        let standing = table::Standing { live: fed.live, heartbeat: fed.heartbeat, version: fed.version, collected: 0 };
        let keys = fed.keys.iter().map(|(key, (value, version))| (&**key, value.as_deref(), *version));
        table.see(id.clone(), standing, keys, now);
    }
    table.all_seen();
}

/// A record as a representative would write it.
fn told_of(name: &str, region: &str, what: &str) -> (String, String) {
    let id = id(name, 1);
    (format!("m/{name}"), format!("{:x} 1 1 {what} {} 1-1 {region} z 1 c", id.incarnation, id.address))
}

fn said<'a>(writes: &'a [Write], key: &str) -> Option<&'a str> {
    writes.iter().find_map(|write| match write {
        Write::Set(set, value) if set == key => Some(&**value),
        Write::Set(..) | Write::Delete(_) => None,
    })
}

#[test]
fn a_node_alone_sees_itself_and_speaks_for_its_region() {
    let mut scene = Scene::new();
    assert_eq!(scene.seen(), "me+", "before anything has happened");
    let step = scene.step(0.0);
    assert_eq!(scene.seen(), "me+");
    assert_eq!(said(&step.region, "s"), Some("s"));
    assert!(!step.in_world);
    scene.step(ELECTED_FOR.as_secs_f64());
    assert!(scene.picture.world_id.is_some());
}

#[test]
fn a_member_that_is_silent_is_gone_and_one_that_said_goodbye_has_left() {
    let mut scene = Scene::new();
    ["a", "b", "c"].iter().for_each(|name| scene.member(name, 1, &[]));
    scene.step(0.0);
    assert_eq!(scene.seen(), "a+ b+ c+ me+");
    scene.silent("a");
    scene.member("b", 1, &[("s", "l")]);
    scene.picture.goodbye(&"c".into(), 1, scene.now);
    scene.step(1.0);
    assert_eq!(scene.seen(), "a- b! c! me+");
    scene.step(LEFT_FOR.as_secs_f64() + 1.0);
    assert_eq!(scene.seen(), "a- me+", "who has left is not shown for ever");
}

#[test]
fn who_is_only_named_is_not_believed_in_at_once() {
    let mut scene = Scene::new();
    scene.member("a", 1, &[]);
    scene.silent("a");
    scene.step(0.0);
    assert_eq!(scene.seen(), "me+");
    scene.step(NAMED_FOR.as_secs_f64());
    scene.step(NAMED_FOR.as_secs_f64());
    assert_eq!(scene.seen(), "a- me+");
}

#[test]
fn the_newer_generation_speaks_for_the_member_and_the_older_is_muted() {
    let mut scene = Scene::new();
    scene.member("a", 1, &[]);
    scene.step(0.0);
    scene.member("a", 2, &[]);
    let step = scene.step(1.0);
    assert_eq!(scene.seen(), "a2+ me+");
    assert!(step.mutes.is_some_and(|mutes| mutes.region.contains(&id("a", 1))));
}

#[test]
fn a_member_that_chitchat_has_dropped_is_remembered_as_gone_until_it_is_forgotten() {
    let mut scene = Scene::new();
    scene.member("a", 1, &[]);
    scene.step(0.0);
    scene.silent("a");
    scene.step(1.0);
    scene.region.clear();
    scene.step(600.0);
    assert_eq!(scene.seen(), "a- me+");
    assert!(!scene.picture.forget(&Forget::Member("nobody".into()), scene.now));
    assert!(!scene.picture.forget(&Forget::Member("me".into()), scene.now));
    assert!(scene.picture.forget(&Forget::Member("a".into()), scene.now));
    let step = scene.step(0.1);
    assert_eq!(scene.seen(), "me+");
    assert_eq!(said(&step.region, "x/a"), Some("1"), "the others are told");
    scene.member("a", 1, &[]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "me+", "as what it was it does not come back");
    scene.member("a", 2, &[]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "a2+ me+");
}

#[test]
fn whoever_hears_that_a_member_is_forgotten_forgets_it() {
    let mut scene = Scene::new();
    scene.member("a", 3, &[]);
    scene.member("b", 1, &[]);
    scene.step(0.0);
    scene.member("b", 1, &[("x/a", "3")]);
    let step = scene.step(1.0);
    assert_eq!(scene.seen(), "b+ me+");
    assert!(step.mutes.is_some_and(|mutes| mutes.region.contains(&id("a", 3))));
}

#[test]
fn a_node_that_is_forgotten_or_superseded_is_told() {
    let mut scene = Scene::new();
    scene.member("b", 1, &[("x/me", "1")]);
    assert_eq!(scene.step(0.0).conflict, Some(Conflict::Forgotten { generation: 1 }));
    scene.member("b", 1, &[("x/me", "")]);
    assert_eq!(scene.step(1.0).conflict, None);
    scene.member("me", 4, &[]);
    assert_eq!(scene.step(1.0).conflict, Some(Conflict::Superseded { generation: 4, alive: true }));
}

#[test]
fn an_older_or_dead_namesake_is_no_reason_to_stop_at_once() {
    let mut scene = Scene::new();
    scene.member("me", 0, &[]);
    assert_eq!(scene.step(1.0).conflict, None);
    scene.member("me", 4, &[]);
    scene.silent("me");
    assert_eq!(scene.step(1.0).conflict, None);
    assert_eq!(scene.step(NAMED_FOR.as_secs_f64()).conflict, Some(Conflict::Superseded { generation: 4, alive: false }));
}

#[test]
fn other_regions_are_as_their_representatives_say_and_gone_when_none_is_heard() {
    let mut scene = Scene::new();
    scene.step(0.0);
    scene.step(2.0);
    let (u1, u2) = (told_of("u1", "us", "a s 0"), told_of("u2", "us", "g s 0"));
    let wrong = told_of("x", "ap", "a s 0");
    scene.speaker("u1", "us", &[("w", "1"), (&u1.0, &u1.1), (&u2.0, &u2.1), (&wrong.0, &wrong.1)]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "me+ u1+ u2-", "of a third region it has nothing to say");
    assert!(scene.picture.view().regions["us"].reachable);
    scene.silent("u1");
    scene.step(1.0);
    assert_eq!(scene.seen(), "me+ u1- u2-");
    assert!(!scene.picture.view().regions["us"].reachable);
    scene.world.clear();
    scene.step(600.0);
    assert_eq!(scene.seen(), "me+ u1- u2-", "nobody says anything else");
    assert!(scene.picture.forget(&Forget::Region("us".into()), scene.now));
    scene.step(0.1);
    assert_eq!(scene.seen(), "me+");
}

#[test]
fn who_speaks_for_no_region_believes_those_who_speak_for_its_own() {
    let mut scene = Scene::new();
    // Enough others that this node is none of the first three.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    names.iter().for_each(|name| scene.member(name, 1, &[]));
    scene.step(0.0);
    let speakers = scene.picture.view().regions["eu"].representatives.clone();
    assert!(!speakers.contains(&"me".into()), "another name has to be chosen for this test");
    let u1 = told_of("u1", "us", "a s 0");
    let own = told_of("a", "eu", "g s 0");
    scene.member(&speakers[0], 1, &[("w", "1"), ("r/us", "u1 eu"), (&u1.0, &u1.1), (&own.0, &own.1), ("q/us/shop", "1/2")]);
    scene.step(1.0);
    assert!(scene.seen().ends_with(" u1+"), "{}", scene.seen());
    assert!(!scene.seen().contains('-'), "of the own region every node hears by itself");
    let region = &scene.picture.view().regions["us"];
    assert_eq!((region.reachable, region.health["shop"]), (true, Summary { usable: 1, total: 2 }));
    scene.member(&speakers[0], 1, &[("r/us", "- -")]);
    scene.step(1.0);
    assert!(scene.seen().ends_with(" u1-"), "{}", scene.seen());
}

#[test]
fn the_first_representative_says_what_it_knows_in_both_rings() {
    let mut scene = Scene::new();
    scene.member("a", 1, &[("h/shop", "1/2")]);
    scene.step(0.0);
    let mut world = BTreeMap::new();
    let mut region = BTreeMap::new();
    let u1 = told_of("u1", "us", "a s 0");
    scene.speaker("u1", "us", &[("w", "1"), ("n", "eu"), ("h/shop", "3/4"), (&u1.0, &u1.1)]);
    for _ in 0..40 {
        let step = scene.step(0.25);
        for (writes, said) in [(step.world, &mut world), (step.region, &mut region)] {
            for write in writes {
                match write {
                    Write::Set(key, value) => _ = said.insert(key, value),
                    Write::Delete(key) => _ = said.remove(&key),
                }
            }
        }
    }
    for key in ["m/a", "m/me", "w", "n"] {
        assert!(world.contains_key(key), "{key} of {world:?}");
    }
    assert_eq!(world["n"], "us");
    for key in ["m/u1", "r/us", "v", "w"] {
        assert!(region.contains_key(key), "{key} of {region:?}");
    }
    assert_eq!(region["r/us"], "u1 eu");
    assert!(!region.contains_key("m/a"), "the region hears its own members itself");
}

#[test]
fn a_link_into_a_region_that_is_not_heard_makes_a_node_join_the_ring_of_the_world_until_it_is() {
    let mut scene = Scene::new();
    ["a", "b", "c", "d", "e", "f", "g", "h", "i"].iter().for_each(|name| scene.member(name, 1, &[]));
    scene.step(0.0);
    scene.picture.linked([("a".into(), "eu".into())].into());
    scene.step(5.0);
    assert!(scene.picture.world_id.is_none());
    scene.picture.linked([("a".into(), "eu".into()), ("u1".into(), "us".into())].into());
    assert!(!scene.step(0.1).in_world, "another one may come first");
    assert!(scene.step(7.0).in_world);
    assert!(scene.step(60.0).in_world, "it is still not heard");
    scene.speaker("u1", "us", &[]);
    assert!(scene.step(1.0).in_world);
    assert!(scene.step(BRIDGES_FOR.as_secs_f64() - 5.0).in_world);
    let step = scene.step(10.0);
    assert_eq!(said(&step.world, "e"), Some("1"), "it says goodbye to the ring");
    assert!(!scene.step(GOODBYE_FOR.as_secs_f64()).in_world);
}

#[test]
fn a_node_does_not_bridge_where_another_one_of_its_region_does() {
    let mut scene = Scene::new();
    ["a", "b", "c", "d", "e", "f", "g", "h", "i"].iter().for_each(|name| scene.member(name, 1, &[]));
    scene.step(0.0);
    scene.picture.linked([("a".into(), "eu".into()), ("u1".into(), "us".into())].into());
    scene.member("b", 1, &[("n", "us")]);
    assert!(!scene.step(0.1).in_world);
    assert!(!scene.step(9.0).in_world, "b is in touch with us");
    scene.member("b", 1, &[("n", "")]);
    scene.step(0.1);
    assert!(scene.step(9.0).in_world);
}

#[test]
fn a_node_that_has_just_started_listens_to_its_region_before_it_bridges() {
    for (own, waits) in [(true, 2.0), (false, 0.1)] {
        let mut scene = Scene::new();
        let started = scene.now;
        scene.picture.enters_region(id("me", 1), started);
        let peers = [("u1".into(), "us".into()), ("a".into(), if own { "eu" } else { "us" }.into())];
        scene.picture.linked(peers.into());
        assert!(!scene.step(waits).in_world, "own {own}");
        assert!(scene.step(2.0).in_world, "own {own}");
    }
}

#[test]
fn who_is_of_this_region_and_only_heard_in_the_ring_of_the_world_is_a_member() {
    let mut scene = Scene::new();
    scene.step(0.0);
    scene.step(2.0);
    scene.speaker("b", "eu", &[]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "b+ me+");
}

#[test]
fn a_region_that_is_split_is_whole_as_long_as_another_one_leads_around() {
    let mut scene = Scene::new();
    ["a", "b", "c"].iter().for_each(|name| scene.member(name, 1, &[]));
    let (a, c) = (told_of("a", "eu", "a s 0"), told_of("c", "eu", "a s 0"));
    // That nobody hears this node beyond the split is no news, and `b` is heard here.
    let (b, me) = (told_of("b", "eu", "g s 0"), told_of("me", "eu", "g s 0"));
    scene.speaker("a", "eu", &[("w", "1"), (&a.0, &a.1), (&b.0, &b.1), (&c.0, &c.1), (&me.0, &me.1)]);
    scene.step(0.0);
    scene.step(2.0);
    let in_region = |scene: &mut Scene, name: &str, live: bool| scene.region.get_mut(&id(name, 1)).expect("it is there").live = live;
    scene.now += table::HEARD_FOR;
    ["a", "c"].iter().for_each(|name| in_region(&mut scene, name, false));
    let mut steps = vec![scene.step(1.0)];
    assert_eq!(scene.seen(), "a+ b+ c+ me+");
    assert_eq!(scene.picture.view().members["c"].by, By::Representative("a".into()));
    let representatives = &scene.picture.view().regions["eu"].representatives;
    assert!(["a", "c"].iter().all(|beyond| !representatives.contains(&Arc::from(*beyond))), "{representatives:?} speak for this part");
    steps.extend((0..40).map(|_| scene.step(0.25)));
    let told = |ring: fn(&Step) -> &[Write], key: &str| steps.iter().any(|step| said(ring(step), key).is_some());
    assert!(told(|step| &step.region, "m/a") && told(|step| &step.region, "m/c"), "who does not speak for this part is told");
    assert!(!told(|step| &step.region, "m/b"), "this part hears its own members itself");
    assert!(!told(|step| &step.world, "m/c"), "of whom others hear they speak themselves");

    scene.speaker("a", "eu", &[(&c.0, "")]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "a+ b+ c- me+", "beyond the split it is not heard any more either");
    scene.silent("a");
    scene.step(1.0);
    assert_eq!(scene.seen(), "a- b+ c- me+", "the way around is cut");
    ["a", "c"].iter().for_each(|name| in_region(&mut scene, name, true));
    scene.step(1.0);
    assert_eq!(scene.seen(), "a+ b+ c+ me+");
    assert_eq!(scene.picture.view().members["c"].by, By::Itself);
}

#[test]
fn who_does_not_speak_for_its_part_of_a_region_is_told_of_the_other_parts() {
    let mut scene = Scene::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    names.iter().for_each(|name| scene.member(name, 1, &[]));
    scene.member("z", 1, &[]);
    scene.step(0.0);
    scene.silent("z");
    scene.step(1.0);
    assert!(scene.seen().ends_with(" z-"), "{}", scene.seen());
    let speaker = scene.picture.view().regions["eu"].representatives[0].clone();
    let z = told_of("z", "eu", "a s 0");
    scene.member(&speaker, 1, &[("w", "1"), (&z.0, &z.1)]);
    scene.step(1.0);
    assert!(scene.seen().ends_with(" z+"), "{}", scene.seen());
    scene.member(&speaker, 1, &[(&z.0, "")]);
    scene.step(1.0);
    assert!(scene.seen().ends_with(" z-"), "{}", scene.seen());
}

#[test]
fn of_representatives_those_who_are_there_know_better_than_those_who_are_not() {
    let mut scene = Scene::new();
    scene.step(0.0);
    scene.step(2.0);
    let told = |name: &str, heartbeat: u64, what: &str| {
        let id = id(name, 1);
        (format!("m/{name}"), format!("{:x} 1 {heartbeat:x} {what} {} 1-1 us z 1 c", id.incarnation, id.address))
    };
    let (u1, u2, u3, u4) = (told("u1", 9, "a s 0"), told("u2", 9, "a s 0"), told("u3", 9, "a s 0"), told("u4", 9, "a s 0"));
    let (u1_gone, u4_gone) = (told("u1", 5, "g s 0"), told("u4", 5, "g s 0"));
    // The region is split: what the other part hears is news.
    scene.speaker("u1", "us", &[("w", "1"), (&u1.0, &u1.1), (&u3.0, &u3.1), (&u4.0, &u4.1)]);
    scene.speaker("u2", "us", &[("w", "1"), (&u2.0, &u2.1), (&u1_gone.0, &u1_gone.1), (&u4_gone.0, &u4_gone.1)]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "me+ u1+ u2+ u3+ u4+");
    scene.silent("u1");
    scene.step(1.0);
    assert_eq!(scene.seen(), "me+ u1- u2+ u3+ u4-", "of whom nobody speaks the last words count for a while");

    let restarted = (u4.0.clone(), u4.1.replacen(&format!("{:x}", id("u4", 1).incarnation), &format!("{:x}", id("u4", 2).incarnation), 1));
    scene.speaker("u1", "us", &[(&restarted.0, &restarted.1)]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "me+ u1- u2+ u3+ u42+", "a process that was there was there, whoever has said so");
    scene.step(11.0);
    assert_eq!(scene.seen(), "me+ u1- u2+ u42-", "no generation goes back, whatever is left of what was said");
}

#[test]
fn a_node_that_enters_its_ring_anew_goes_on_from_what_it_knew() {
    let mut scene = Scene::new();
    ["a", "b"].iter().for_each(|name| scene.member(name, 1, &[]));
    scene.step(0.0);
    scene.step(2.0);
    let u1 = told_of("u1", "us", "a s 0");
    scene.speaker("u1", "us", &[("w", "1"), (&u1.0, &u1.1)]);
    scene.step(1.0);
    assert_eq!(scene.seen(), "a+ b+ me+ u1+");
    scene.picture.leaves_world();
    scene.picture.enters_region(id("me", 1), scene.now);
    scene.region.remove(&id("b", 1));
    scene.world.clear();
    scene.step(1.0);
    assert_eq!(scene.seen(), "a+ b+ me+ u1+");
    scene.step(RESUMES_FOR.as_secs_f64());
    assert_eq!(scene.seen(), "a+ b- me+ u1-");
}

#[test]
fn nothing_is_done_where_nothing_has_changed() {
    let mut scene = Scene::new();
    scene.member("a", 1, &[]);
    for _ in 0..60 {
        scene.step(0.25);
    }
    let version = scene.picture.view().version;
    for _ in 0..40 {
        scene.region.values_mut().for_each(|fed| fed.heartbeat += 5);
        let step = scene.step(0.25);
        assert!(!step.changed && step.region.is_empty() && step.world.is_empty(), "{step:?}");
    }
    assert_eq!(scene.picture.view().version, version);
}
