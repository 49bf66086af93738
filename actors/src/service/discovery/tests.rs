use super::*;
use crate::service::load::tests::epoch;
use proptest::prelude::*;

const NAME: &str = "orders.internal";

fn policy() -> DiscoveryPolicy {
    let seconds = Duration::from_secs;
    DiscoveryPolicy { srv: None, family: Family::Auto, ttl_min: seconds(1), ttl_max: seconds(60), stale: seconds(300) }
}

/// A name, a clock that is told in seconds, and what the effects have made of the set.
struct Fixture {
    epoch: Instant,
    discovery: Discovery,
    asked: Vec<String>,
    told: Vec<String>,
    used: BTreeMap<SocketAddr, Found>,
}

fn question(name: &str, kind: RecordKind) -> Question {
    Question { name: name.into(), kind }
}

impl Fixture {
    fn new(wanted: Wanted, policy: DiscoveryPolicy) -> Self {
        let epoch = epoch();
        let discovery = Discovery::new(NAME.into(), wanted, policy, epoch);
        let mut fixture = Self { epoch, discovery, asked: Vec::new(), told: Vec::new(), used: BTreeMap::new() };
        fixture.wake(0.0);
        fixture
    }

    fn addresses(family: Family) -> Self {
        Self::new(Wanted::Addresses { port: 80 }, DiscoveryPolicy { family, ..policy() })
    }

    fn services() -> Self {
        Self::new(Wanted::Services, DiscoveryPolicy { family: Family::Ipv4, ..policy() })
    }

    fn at(&self, seconds: f64) -> Instant {
        self.epoch + Duration::from_secs_f64(seconds)
    }

    /// Lets everything happen that is due by then. Chance is always 0: answers count for all of their time.
    fn wake(&mut self, seconds: f64) {
        let until = self.at(seconds);
        while let Some(due) = self.discovery.deadline().filter(|due| *due <= until) {
            self.discovery.expire(due, 0);
            self.apply();
        }
    }

    fn answer(&mut self, seconds: f64, name: &str, kind: RecordKind, answer: Answer) {
        self.wake(seconds);
        self.discovery.observe(&question(name, kind), answer, self.at(seconds), 0);
        self.apply();
    }

    /// Answers both questions for the addresses of the name: with these, or with what stands for an absence or a failure.
    fn both(&mut self, seconds: f64, a: &str, aaaa: &str) {
        self.answer(seconds, NAME, RecordKind::A, answer(a, 30));
        self.answer(seconds, NAME, RecordKind::Aaaa, answer(aaaa, 30));
    }

    fn apply(&mut self) {
        for effect in self.discovery.take_effects() {
            match effect {
                Effect::Ask(question) => self.asked.push(format!("{:?} {}", question.kind, question.name)),
                Effect::Added(found) => {
                    self.told.push(format!("+{}", found.address));
                    assert!(self.used.insert(found.address, found).is_none(), "it was there already");
                }
                Effect::Changed(found) => {
                    self.told.push(format!("~{}", found.address));
                    assert!(self.used.insert(found.address, found).is_some(), "it was not there");
                }
                Effect::Removed(address) => {
                    self.told.push(format!("-{address}"));
                    assert!(self.used.remove(&address).is_some(), "it was not there");
                }
                Effect::TooMany { found, used } => self.told.push(format!("{used} of {found}")),
            }
        }
        let used: Vec<&Found> = self.used.values().collect();
        let mut found: Vec<&Found> = self.discovery.found().iter().collect();
        found.sort_by_key(|found| found.address);
        assert_eq!(used, found, "the effects tell what is found");
    }

    #[track_caller]
    fn expect(&mut self, told: &str) {
        assert_eq!(std::mem::take(&mut self.told).join(" "), told);
    }

    fn shown(&self) -> String {
        self.discovery.found().iter().map(|found| found.address.to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// Addresses without spaces around them, `nx` for a name that does not exist, `none` for no record, `fail` for a failure.
fn answer(text: &str, ttl: u64) -> Answer {
    match text {
        "nx" => Answer::Nothing(Absence::NoName),
        "none" => Answer::Nothing(Absence::NoRecord),
        "fail" => Answer::Failed("SERVFAIL".into()),
        _ => {
            let records = text.split(' ').map(|ip| Record::Address(ip.parse().expect("an address"))).collect();
            Answer::Records { records, ttl: Duration::from_secs(ttl) }
        }
    }
}

/// `priority weight port target`, separated by commas.
fn services(text: &str) -> Answer {
    let record = |text: &str| {
        let parts: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| parts[at].parse().expect("a number");
        Record::Srv { priority: number(0), weight: number(1), port: number(2), target: parts[3].into() }
    };
    Answer::Records { records: text.split(", ").map(record).collect(), ttl: Duration::from_secs(30) }
}

#[test]
fn a_name_is_asked_for_both_families_at_once_and_once() {
    let mut fixture = Fixture::addresses(Family::Auto);
    assert_eq!(fixture.asked, ["A orders.internal", "Aaaa orders.internal"]);
    fixture.wake(1.0);
    assert_eq!(fixture.asked.len(), 2);
    assert_eq!(fixture.discovery.state(), State::Unknown);
    assert_eq!(Fixture::addresses(Family::Ipv4).asked, ["A orders.internal"]);
    assert_eq!(Fixture::addresses(Family::Ipv6).asked, ["Aaaa orders.internal"]);
}

#[test]
fn an_answer_counts_for_its_time_within_the_bounds() {
    let check = |ttl: u64, chance: u64, expected: f64| {
        let mut fixture = Fixture::addresses(Family::Ipv4);
        fixture.discovery.observe(&question(NAME, RecordKind::A), answer("10.0.0.1", ttl), fixture.at(5.0), chance);
        let next = fixture.discovery.deadline().expect("it is asked again") - fixture.at(5.0);
        assert!((next.as_secs_f64() - expected).abs() < 1e-3, "ttl {ttl}, chance {chance:x}: {next:?}");
    };
    check(30, 0, 30.0);
    check(30, u64::MAX, 27.0);
    check(0, 0, 1.0);
    check(0, u64::MAX, 1.0);
    check(3_600, 0, 60.0);
    check(3_600, u64::MAX, 54.0);
    check(u64::MAX, 0, 60.0);
}

#[test]
fn what_an_answer_leaves_out_has_left() {
    let mut fixture = Fixture::addresses(Family::Auto);
    fixture.both(0.1, "10.0.0.2 10.0.0.1 10.0.0.2", "none");
    fixture.expect("+10.0.0.1:80 +10.0.0.2:80");
    assert_eq!(fixture.discovery.state(), State::Fresh);
    fixture.both(30.2, "10.0.0.2 10.0.0.3", "none");
    fixture.expect("+10.0.0.3:80 -10.0.0.1:80");
    fixture.both(60.3, "10.0.0.3 10.0.0.2", "none");
    fixture.expect("");
}

#[test]
fn a_failure_keeps_the_last_addresses_for_as_long_as_it_lasts() {
    let mut fixture = Fixture::addresses(Family::Auto);
    fixture.both(0.1, "10.0.0.1", "none");
    fixture.expect("+10.0.0.1:80");
    for hour in 1..50 {
        fixture.both(f64::from(hour) * 3_600.0, "fail", "fail");
        fixture.expect("");
    }
    assert!(matches!(fixture.discovery.state(), State::Stale { why, .. } if &*why == "SERVFAIL"));
    fixture.both(200_000.0, "10.0.0.2", "none");
    fixture.expect("+10.0.0.2:80 -10.0.0.1:80");
    assert_eq!(fixture.discovery.state(), State::Fresh);
}

#[test]
fn what_is_told_of_a_name_is_what_is_wrong_with_it_and_not_that_it_has_one_family() {
    let check = |known: &str, trouble: [&str; 2], expected: &str| {
        let mut fixture = Fixture::addresses(Family::Auto);
        if !known.is_empty() {
            fixture.both(0.0, known, "none");
        }
        fixture.both(40.0, trouble[0], trouble[1]);
        let (since, why) = match fixture.discovery.state() {
            State::Stale { since, why } | State::Empty { since, why } => (since, why),
            other => panic!("{known} {trouble:?}: {other:?}"),
        };
        assert_eq!(&*why, expected, "{known} {trouble:?}");
        assert!(known.is_empty() || since == fixture.at(40.0), "{known} {trouble:?}: it has only been so since then");
    };
    check("10.0.0.1", ["fail", "none"], "SERVFAIL");
    check("10.0.0.1", ["fail", "fail"], "SERVFAIL");
    check("10.0.0.1", ["nx", "nx"], "the name does not exist");
    check("", ["fail", "none"], "SERVFAIL");
    check("", ["none", "fail"], "SERVFAIL");
    check("", ["none", "none"], "the name has no such record");
}

#[test]
fn a_name_that_is_gone_is_believed_to_be_after_a_while() {
    let mut fixture = Fixture::addresses(Family::Auto);
    fixture.both(0.0, "10.0.0.1", "none");
    fixture.expect("+10.0.0.1:80");
    // It was a slip, and nobody noticed.
    fixture.both(30.0, "nx", "nx");
    fixture.both(90.0, "10.0.0.1", "none");
    // A resolver that fails meanwhile takes nothing back, and the time runs on.
    fixture.both(120.0, "nx", "nx");
    fixture.both(200.0, "fail", "fail");
    fixture.wake(419.9);
    fixture.expect("");
    assert!(matches!(fixture.discovery.state(), State::Stale { .. }));
    fixture.wake(420.0);
    fixture.expect("-10.0.0.1:80");
    assert!(matches!(fixture.discovery.state(), State::Empty { since, .. } if since == fixture.at(420.0)));
    fixture.both(500.0, "10.0.0.9", "none");
    fixture.expect("+10.0.0.9:80");
}

#[test]
fn a_host_is_one_endpoint_unless_both_families_are_wanted() {
    let check = |family: Family, a: &str, aaaa: &str, expected: &str| {
        let mut fixture = Fixture::addresses(family);
        fixture.both(0.1, a, aaaa);
        assert_eq!(fixture.shown(), expected, "{family:?} {a} {aaaa}");
        // In the other order it is the same.
        let mut fixture = Fixture::addresses(family);
        fixture.answer(0.1, NAME, RecordKind::Aaaa, answer(aaaa, 30));
        fixture.answer(0.2, NAME, RecordKind::A, answer(a, 30));
        assert_eq!(fixture.shown(), expected, "{family:?} {aaaa} {a}");
    };
    check(Family::Auto, "127.0.0.1", "::1", "127.0.0.1:80");
    check(Family::Auto, "none", "::1", "[::1]:80");
    check(Family::Auto, "fail", "::1", "[::1]:80");
    check(Family::Both, "127.0.0.2 127.0.0.1", "::2 ::1", "127.0.0.1:80 127.0.0.2:80 [::1]:80 [::2]:80");
    check(Family::Both, "fail", "::1", "[::1]:80");
    check(Family::Ipv4, "127.0.0.1", "::1", "127.0.0.1:80");
    check(Family::Ipv6, "127.0.0.1", "::1", "[::1]:80");
    check(Family::Auto, "nx", "nx", "");
}

#[test]
fn a_family_that_is_taken_out_of_a_name_leaves_at_once() {
    let mut fixture = Fixture::addresses(Family::Both);
    fixture.both(0.1, "10.0.0.1", "::1");
    fixture.expect("+10.0.0.1:80 +[::1]:80");
    fixture.answer(31.0, NAME, RecordKind::A, answer("fail", 0));
    fixture.answer(31.0, NAME, RecordKind::Aaaa, answer("none", 0));
    fixture.expect("-[::1]:80");
    fixture.answer(62.0, NAME, RecordKind::A, answer("nx", 0));
    fixture.expect("");
    // That the whole name is gone is not believed at once, whoever says so first.
    let mut fixture = Fixture::addresses(Family::Both);
    fixture.both(0.1, "10.0.0.1", "::1");
    fixture.both(31.0, "nx", "nx");
    fixture.expect("+10.0.0.1:80 +[::1]:80");
}

#[test]
fn the_first_answers_wait_for_each_other_but_not_for_long() {
    let mut fixture = Fixture::addresses(Family::Both);
    fixture.answer(0.1, NAME, RecordKind::A, answer("10.0.0.1", 30));
    fixture.expect("");
    fixture.wake(1.9);
    fixture.expect("");
    fixture.wake(2.0);
    fixture.expect("+10.0.0.1:80");
    fixture.answer(3.0, NAME, RecordKind::Aaaa, answer("::1", 30));
    fixture.expect("+[::1]:80");
}

#[test]
fn a_question_that_nobody_answers_has_failed_and_is_asked_again() {
    let mut fixture = Fixture::addresses(Family::Ipv4);
    fixture.wake(9.9);
    assert_eq!(fixture.asked.len(), 1);
    fixture.wake(11.0);
    assert_eq!(fixture.asked.len(), 2);
    assert!(matches!(fixture.discovery.state(), State::Empty { why, .. } if why.contains("in time")));
}

#[test]
fn an_answer_that_makes_no_sense_says_that_there_is_nothing() {
    let mut fixture = Fixture::addresses(Family::Ipv4);
    fixture.answer(0.1, NAME, RecordKind::A, answer("0.0.0.0 ::1", 30));
    assert!(matches!(fixture.discovery.state(), State::Empty { why, .. } if why.contains("no such record")));
    fixture.answer(0.2, "other.internal", RecordKind::A, answer("10.0.0.1", 30));
    fixture.expect("");
}

#[test]
fn services_bring_ports_priorities_and_weights() {
    let mut fixture = Fixture::services();
    assert_eq!(fixture.asked, ["Srv orders.internal"]);
    fixture.answer(0.1, NAME, RecordKind::Srv, services("1 5 81 b, 0 10 80 a, 0 30 8080 a"));
    fixture.wake(0.1);
    assert_eq!(fixture.asked[1..], ["A a", "A b"]);
    fixture.answer(0.2, "b", RecordKind::A, answer("10.0.0.2", 30));
    fixture.expect("");
    fixture.answer(0.3, "a", RecordKind::A, answer("10.0.0.1", 30));
    fixture.expect("+10.0.0.1:80 +10.0.0.1:8080 +10.0.0.2:81");
    let found: Vec<String> =
        fixture.discovery.found().iter().map(|f| format!("{} {} {} {}", f.address, f.host, f.priority, f.weight)).collect();
    assert_eq!(found, ["10.0.0.1:80 a 0 10", "10.0.0.1:8080 a 0 30", "10.0.0.2:81 b 1 5"]);

    fixture.answer(30.5, NAME, RecordKind::Srv, services("0 10 80 a, 0 0 8080 a"));
    fixture.expect("~10.0.0.1:80 ~10.0.0.1:8080 -10.0.0.2:81");
    assert_eq!(fixture.discovery.found().iter().map(|found| found.weight).collect::<Vec<_>>(), [1_000, 1]);
    fixture.answer(60.6, NAME, RecordKind::Srv, services("0 0 80 a, 0 0 8080 a"));
    assert_eq!(fixture.discovery.found().iter().map(|found| found.weight).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_target_that_fails_keeps_its_addresses_and_one_that_is_not_named_loses_them() {
    let mut fixture = Fixture::services();
    fixture.answer(0.1, NAME, RecordKind::Srv, services("0 1 80 a, 0 1 80 b"));
    fixture.answer(0.2, "a", RecordKind::A, answer("10.0.0.1", 30));
    fixture.answer(0.2, "b", RecordKind::A, answer("10.0.0.2", 30));
    fixture.expect("+10.0.0.1:80 +10.0.0.2:80");
    fixture.answer(31.0, "a", RecordKind::A, answer("fail", 0));
    fixture.answer(31.0, NAME, RecordKind::Srv, answer("fail", 0));
    fixture.expect("");
    assert!(matches!(fixture.discovery.state(), State::Stale { .. }));
    fixture.answer(40.0, NAME, RecordKind::Srv, services("0 1 80 a"));
    fixture.expect("-10.0.0.2:80");
    // A target that was named and is asked for the first time waits for its own addresses.
    fixture.answer(71.0, NAME, RecordKind::Srv, services("0 1 80 a, 0 1 80 c"));
    fixture.expect("");
    fixture.answer(72.0, "c", RecordKind::A, answer("10.0.0.3", 30));
    fixture.expect("+10.0.0.3:80");
}

#[test]
fn a_service_that_is_said_not_to_exist_goes_after_a_while() {
    let mut fixture = Fixture::services();
    fixture.answer(0.0, NAME, RecordKind::Srv, services("0 1 80 a"));
    fixture.answer(0.0, "a", RecordKind::A, answer("10.0.0.1", 3_600));
    fixture.expect("+10.0.0.1:80");
    fixture.answer(30.0, NAME, RecordKind::Srv, services("0 0 0 ."));
    for minute in 1..6 {
        fixture.answer(30.0 + f64::from(minute) * 59.0, "a", RecordKind::A, answer("10.0.0.1", 3_600));
    }
    fixture.expect("");
    fixture.wake(330.0);
    fixture.expect("-10.0.0.1:80");
}

#[test]
fn of_too_many_addresses_those_in_use_stay_and_it_is_said_once() {
    let many = |range: std::ops::Range<u16>| range.map(|at| format!("10.0.{}.{}", at >> 8, at & 255)).collect::<Vec<_>>().join(" ");
    let mut fixture = Fixture::addresses(Family::Ipv4);
    fixture.answer(0.1, NAME, RecordKind::A, answer(&many(300..400), 30));
    assert_eq!(fixture.told.len(), 100);
    fixture.told.clear();
    fixture.answer(31.0, NAME, RecordKind::A, answer(&many(1..500), 30));
    assert_eq!(fixture.told[0], "256 of 499");
    assert_eq!(fixture.told.len(), 1 + 156, "nobody left");
    fixture.told.clear();
    fixture.answer(62.0, NAME, RecordKind::A, answer(&many(1..501), 30));
    fixture.expect("");
    fixture.answer(93.0, NAME, RecordKind::A, answer(&many(1..10), 30));
    fixture.told.clear();
    fixture.answer(124.0, NAME, RecordKind::A, answer(&many(1..300), 30));
    assert_eq!(fixture.told[0], "256 of 299");
}

#[test]
fn too_many_targets_are_said_too() {
    let mut fixture = Fixture::services();
    let targets: Vec<String> = (0..100).map(|at| format!("0 1 80 t{at:03}")).collect();
    fixture.answer(0.1, NAME, RecordKind::Srv, services(&targets.join(", ")));
    fixture.wake(0.1);
    assert_eq!(fixture.asked.len(), 1 + TARGETS_MAX);
    fixture.answer(0.2, "t000", RecordKind::A, answer("10.0.0.1", 30));
    fixture.wake(2.0);
    fixture.expect("1 of 37 +10.0.0.1:80");
}

#[test]
fn doubt_asks_again_but_not_more_often_than_allowed() {
    let mut fixture = Fixture::addresses(Family::Ipv4);
    fixture.answer(0.0, NAME, RecordKind::A, answer("10.0.0.1", 60));
    fixture.discovery.doubt(fixture.at(0.5));
    fixture.wake(0.9);
    assert_eq!(fixture.asked.len(), 1);
    fixture.wake(1.0);
    assert_eq!(fixture.asked.len(), 2);
    fixture.answer(2.0, NAME, RecordKind::A, answer("10.0.0.2", 60));
    fixture.discovery.doubt(fixture.at(30.0));
    fixture.wake(30.0);
    assert_eq!(fixture.asked.len(), 3);
}

#[test]
fn other_choices_of_a_reload_keep_what_is_known() {
    let mut fixture = Fixture::addresses(Family::Auto);
    fixture.both(0.1, "10.0.0.1", "::1");
    fixture.expect("+10.0.0.1:80");
    let both = DiscoveryPolicy { family: Family::Both, ttl_max: Duration::from_secs(5), ..policy() };
    let now = fixture.at(1.0);
    fixture.discovery.reconfigure(both, now);
    fixture.apply();
    fixture.expect("+[::1]:80");
    assert_eq!(fixture.discovery.deadline(), Some(fixture.at(5.1)));
    let now = fixture.at(2.0);
    fixture.discovery.reconfigure(DiscoveryPolicy { family: Family::Ipv6, ..policy() }, now);
    fixture.apply();
    fixture.expect("-10.0.0.1:80");
}

/// 0 is a failure, 1 and 2 are absences, and what is above are addresses.
fn outcome(what: std::ops::Range<u8>) -> impl Strategy<Value = (RecordKind, Answer)> {
    let kind = prop_oneof![Just(RecordKind::A), Just(RecordKind::Aaaa)];
    let addresses = prop::collection::vec(0..6u8, 0..4);
    (kind, addresses, any::<u64>(), what).prop_map(|(kind, last, ttl, what)| {
        let address = |last: u8| match kind {
            RecordKind::Aaaa => IpAddr::from([0, 0, 0, 0, 0, 0, 0, u16::from(last)]),
            _ => IpAddr::from([10, 0, 0, last]),
        };
        let answer = match what {
            0 => Answer::Failed("timed out".into()),
            1 => Answer::Nothing(Absence::NoName),
            2 => Answer::Nothing(Absence::NoRecord),
            _ => Answer::Records {
                records: last.into_iter().map(address).map(Record::Address).collect(),
                ttl: Duration::from_millis(ttl >> 40),
            },
        };
        (kind, answer)
    })
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Auto), Just(Family::Ipv4), Just(Family::Ipv6), Just(Family::Both)]
}

proptest! {
    /// Whatever is answered: it is asked again within the bounds, and the effects tell what is found ([`Fixture::apply`]).
    #[test]
    fn the_bounds_hold_for_any_answers(family in family(), steps in prop::collection::vec((outcome(0..6), 0..40_000u64, any::<u64>()), 1..60)) {
        let mut fixture = Fixture::addresses(family);
        let mut asked: BTreeMap<RecordKind, Instant> = BTreeMap::new();
        let mut now = fixture.epoch;
        for ((kind, answer), step, chance) in steps {
            let until = now + Duration::from_millis(step);
            while let Some(due) = fixture.discovery.deadline().filter(|due| *due <= until) {
                now = due.max(now);
                fixture.discovery.expire(now, chance);
                for effect in &fixture.discovery.effects {
                    if let Effect::Ask(question) = effect
                        && let Some(heard) = asked.remove(&question.kind)
                    {
                        let waited = now - heard;
                        prop_assert!(waited >= policy().ttl_min && waited <= policy().ttl_max, "asked after {waited:?}");
                    }
                }
                fixture.apply();
                // Questions that ran out of time have been heard of, too, at a moment that this test does not follow.
                asked.retain(|_, heard| now - *heard < Duration::from_secs(10));
            }
            now = until;
            fixture.discovery.observe(&question(NAME, kind), answer, now, chance);
            asked.insert(kind, now);
            fixture.apply();
            prop_assert!(fixture.discovery.deadline().is_some_and(|due| due >= now), "there is always a next time, and it lies ahead");
            prop_assert!(fixture.discovery.found().windows(2).all(|pair| pair[0].address < pair[1].address));
        }
    }

    #[test]
    fn failures_never_empty_a_known_set(family in family(), known in outcome(3..4), steps in prop::collection::vec((any::<bool>(), 0..4_000_000u64, any::<u64>()), 1..40)) {
        let mut fixture = Fixture::addresses(family);
        let (kind, answer) = known;
        for heard in [RecordKind::A, RecordKind::Aaaa] {
            let answer = if heard == kind { answer.clone() } else { Answer::Failed("SERVFAIL".into()) };
            fixture.discovery.observe(&question(NAME, heard), answer, fixture.at(0.0), 0);
        }
        fixture.apply();
        let before = fixture.shown();
        let mut now = fixture.at(2.0);
        for (v4, step, chance) in steps {
            now += Duration::from_millis(step);
            let kind = if v4 { RecordKind::A } else { RecordKind::Aaaa };
            fixture.discovery.expire(now, chance);
            fixture.discovery.observe(&question(NAME, kind), Answer::Failed("SERVFAIL".into()), now, chance);
            fixture.apply();
            prop_assert_eq!(&fixture.shown(), &before);
        }
    }
}
