use super::*;
use crate::service::{
    discovery::{Absence, Record, RecordKind},
    load::tests::epoch,
};
use config::OsSource;
use proptest::prelude::*;
use std::{path::Path, time::Duration};

/// One service as it is written, a clock that is told in seconds, and what was published.
struct Fixture {
    epoch: Instant,
    names: Names,
    published: Arc<[Located]>,
    asked: Vec<String>,
    told: Vec<String>,
}

fn written(keys: &str) -> Arc<Service> {
    let text = format!("[service.up]\n{keys}\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n");
    let loaded = config::load_text(Path::new("test.toml"), &text, &OsSource::default());
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let gateway = loaded.gateway.unwrap_or_else(|| panic!("{}", problems.join("\n")));
    Arc::clone(&gateway.services[0])
}

impl Fixture {
    fn new(keys: &str) -> Self {
        let epoch = epoch();
        let names = Names::new(&written(keys), epoch);
        let published = Arc::clone(names.endpoints());
        let mut fixture = Self { epoch, names, published, asked: Vec::new(), told: Vec::new() };
        fixture.wake(0.0);
        fixture
    }

    fn at(&self, seconds: f64) -> Instant {
        self.epoch + Duration::from_secs_f64(seconds)
    }

    /// Lets everything happen that is due by then. Chance is always 0: answers count for all of their time.
    fn wake(&mut self, seconds: f64) {
        let until = self.at(seconds);
        while let Some(due) = self.names.deadline().filter(|due| *due <= until) {
            self.names.expire(due, 0);
            self.apply();
        }
    }

    fn answer(&mut self, seconds: f64, name: &str, kind: RecordKind, answer: &Answer) {
        self.wake(seconds);
        self.names.observe(&Question { name: name.into(), kind }, answer, self.at(seconds), 0);
        self.apply();
    }

    fn reload(&mut self, seconds: f64, keys: &str) {
        self.names.reconfigure(&written(keys), self.at(seconds));
        self.apply();
    }

    fn apply(&mut self) {
        for effect in self.names.take_effects() {
            match effect {
                Effect::Ask(question) => self.asked.push(format!("{:?} {}", question.kind, question.name)),
                Effect::Endpoints(endpoints) => {
                    assert_ne!(endpoints, self.published, "it is told only of changes");
                    self.published = endpoints;
                }
                Effect::TooMany { name, found, used } => self.told.push(format!("{name}: {used} of {found}")),
            }
        }
        assert_eq!(&self.published, self.names.endpoints(), "what was told last is so");
    }

    /// `authority@address weight priority`, with `?` for an address that is not known.
    #[track_caller]
    fn expect(&self, expected: &str) {
        let shown = |located: &Located| {
            let address = located.address.map_or_else(|| "?".into(), |address| address.to_string());
            let Endpoint { weight, priority, .. } = located.endpoint;
            format!("{}@{address} {weight} {priority}", located.endpoint.authority())
        };
        assert_eq!(self.published.iter().map(shown).collect::<Vec<_>>().join(", "), expected);
    }
}

fn a(ips: &str) -> Answer {
    let records = ips.split(' ').map(|ip| Record::Address(ip.parse().expect("an address"))).collect();
    Answer::Records { records, ttl: Duration::from_secs(30) }
}

fn gone() -> Answer {
    Answer::Nothing(Absence::NoName)
}

fn failure() -> Answer {
    Answer::Failed("SERVFAIL".into())
}

const TWO: &str = "endpoints = [{ url = \"http://10.0.0.9:90\", weight = 3 }, { url = \"http://orders:80\", weight = 2, priority = 1 }]\n\
                   discovery = { family = \"ipv4\" }";

#[test]
fn a_name_stands_for_itself_until_it_has_addresses() {
    let mut fixture = Fixture::new(TWO);
    assert_eq!(fixture.asked, ["A orders"]);
    fixture.expect("10.0.0.9:90@10.0.0.9:90 3 0, orders:80@? 2 1");
    fixture.answer(0.1, "orders", RecordKind::A, &failure());
    fixture.wake(1.0);
    fixture.expect("10.0.0.9:90@10.0.0.9:90 3 0, orders:80@? 2 1");
    fixture.answer(1.1, "orders", RecordKind::A, &a("10.0.0.2 10.0.0.1"));
    fixture.expect("10.0.0.9:90@10.0.0.9:90 3 0, orders:80@10.0.0.1:80 2 1, orders:80@10.0.0.2:80 2 1");
    fixture.answer(32.0, "orders", RecordKind::A, &a("10.0.0.3 10.0.0.2"));
    fixture.expect("10.0.0.9:90@10.0.0.9:90 3 0, orders:80@10.0.0.2:80 2 1, orders:80@10.0.0.3:80 2 1");
}

#[test]
fn a_name_that_is_gone_stands_for_itself_again() {
    let mut fixture = Fixture::new(TWO);
    fixture.answer(0.1, "orders", RecordKind::A, &a("10.0.0.1"));
    fixture.answer(31.0, "orders", RecordKind::A, &gone());
    fixture.wake(300.0);
    fixture.expect("10.0.0.9:90@10.0.0.9:90 3 0, orders:80@10.0.0.1:80 2 1");
    assert!(matches!(fixture.names.states().next(), Some((name, State::Stale { .. })) if **name == *"orders"));
    fixture.wake(400.0);
    fixture.expect("10.0.0.9:90@10.0.0.9:90 3 0, orders:80@? 2 1");
}

#[test]
fn a_service_of_addresses_asks_nothing() {
    let fixture = Fixture::new("endpoints = [\"http://10.0.0.1:80\", \"http://[::1]:80\"]");
    assert!(fixture.asked.is_empty());
    assert_eq!(fixture.names.deadline(), None);
    fixture.expect("10.0.0.1:80@10.0.0.1:80 1 0, [::1]:80@[::1]:80 1 0");
}

#[test]
fn one_name_at_several_ports_is_asked_for_once() {
    let mut fixture =
        Fixture::new("endpoints = [\"http://orders:80\", \"http://orders:81\"]\ndiscovery = { family = \"ipv4\", ttl_max = \"20s\" }");
    assert_eq!(fixture.asked, ["A orders"]);
    fixture.answer(0.1, "orders", RecordKind::A, &a("10.0.0.1"));
    fixture.expect("orders:80@10.0.0.1:80 1 0, orders:81@10.0.0.1:81 1 0");
    fixture.wake(21.0);
    assert_eq!(fixture.asked, ["A orders", "A orders"]);
}

#[test]
fn services_bring_endpoints_that_are_called_as_their_targets() {
    let mut fixture = Fixture::new("discovery = { name = \"_http._tcp.orders\", kind = \"srv\", family = \"ipv4\", scheme = \"https\" }");
    assert_eq!(fixture.asked, ["Srv _http._tcp.orders"]);
    fixture.expect("");
    let record = |priority, weight, target: &str| Record::Srv { priority, weight, port: 8443, target: target.into() };
    let records = vec![record(1, 5, "b.test."), record(0, 7, "a.test.")];
    fixture.answer(0.1, "_http._tcp.orders", RecordKind::Srv, &Answer::Records { records, ttl: Duration::from_secs(30) });
    fixture.wake(0.1);
    assert_eq!(fixture.asked[1..], ["A a.test.", "A b.test."]);
    fixture.answer(0.2, "b.test.", RecordKind::A, &a("10.0.0.2"));
    fixture.expect("");
    fixture.answer(0.3, "a.test.", RecordKind::A, &a("10.0.0.1"));
    fixture.expect("a.test:8443@10.0.0.1:8443 7 0, b.test:8443@10.0.0.2:8443 5 1");
    assert!(fixture.published.iter().all(|located| located.endpoint.tls));
}

#[test]
fn a_reload_keeps_what_is_known_of_names_that_stay() {
    let mut fixture = Fixture::new(TWO);
    fixture.answer(0.1, "orders", RecordKind::A, &a("10.0.0.1"));
    fixture.reload(1.0, "endpoints = [{ url = \"http://orders:80\", weight = 5 }, \"http://carts:80\"]\ndiscovery = { family = \"ipv4\" }");
    fixture.expect("orders:80@10.0.0.1:80 5 0, carts:80@? 1 0");
    fixture.wake(1.0);
    assert_eq!(fixture.asked, ["A orders", "A carts"]);
    fixture.answer(1.1, "carts", RecordKind::A, &a("10.0.0.5"));
    fixture.reload(2.0, "endpoints = [\"http://carts:80\"]\ndiscovery = { family = \"ipv4\" }");
    fixture.expect("carts:80@10.0.0.5:80 1 0");
    fixture.answer(2.1, "orders", RecordKind::A, &a("10.0.0.7"));
    fixture.expect("carts:80@10.0.0.5:80 1 0");
}

#[test]
fn a_change_of_what_is_written_is_a_change_of_every_address() {
    let mut fixture = Fixture::new(TWO);
    fixture.answer(0.1, "orders", RecordKind::A, &a("10.0.0.1 10.0.0.2"));
    fixture.reload(
        1.0,
        "endpoints = [{ url = \"http://orders:80\", drain = true }, \"http://10.0.0.9:90\"]\ndiscovery = { family = \"ipv4\" }",
    );
    assert_eq!(fixture.published.iter().filter(|located| located.endpoint.drain).count(), 2);
}

#[test]
fn doubt_about_a_host_asks_for_it_and_for_no_other() {
    let mut fixture = Fixture::new("endpoints = [\"http://orders:80\", \"http://carts:80\"]\ndiscovery = { family = \"ipv4\" }");
    fixture.answer(0.0, "orders", RecordKind::A, &a("10.0.0.1"));
    fixture.answer(0.0, "carts", RecordKind::A, &a("10.0.0.2"));
    fixture.asked.clear();
    fixture.names.doubt("orders", fixture.at(10.0));
    fixture.wake(10.0);
    assert_eq!(fixture.asked, ["A orders"]);
}

#[test]
fn too_many_addresses_are_told_with_their_name() {
    let mut fixture = Fixture::new(TWO);
    let many: Vec<String> = (0..300).map(|at| format!("10.1.{}.{}", at / 100, at % 100)).collect();
    fixture.answer(0.1, "orders", RecordKind::A, &a(&many.join(" ")));
    assert_eq!(fixture.told, ["orders: 256 of 300"]);
    assert_eq!(fixture.published.len(), 257);
}

/// An answer about one of three names: a failure, an absence, or up to three addresses.
fn outcome() -> impl Strategy<Value = (usize, Answer)> {
    let addresses = prop::collection::vec(1..5u8, 1..4).prop_map(|last| {
        let records = last.into_iter().map(|last| Record::Address([10, 0, 0, last].into())).collect();
        Answer::Records { records, ttl: Duration::from_secs(10) }
    });
    (0..3usize, prop_oneof![1 => Just(failure()), 1 => Just(gone()), 4 => addresses])
}

proptest! {
    /// Whatever is answered, there is something to ask, and every endpoint that is written stands in the list, by its addresses
    /// or by itself ([`Fixture::apply`] holds the effects against the list).
    #[test]
    fn a_written_endpoint_never_vanishes(steps in prop::collection::vec((outcome(), 0..60_000u64), 1..60)) {
        let hosts = ["a", "b", "c"];
        let mut fixture =
            Fixture::new("endpoints = [\"http://a:80\", \"http://b:80\", \"http://c:80\"]\ndiscovery = { family = \"ipv4\" }");
        let mut seconds = 0.0;
        for ((host, answer), step) in steps {
            seconds += step as f64 / 1e3;
            fixture.answer(seconds, hosts[host], RecordKind::A, &answer);
            let listed: Vec<&str> = fixture.published.iter().map(|located| &*located.endpoint.host).collect();
            prop_assert!(listed.is_sorted(), "the order is that of the configuration");
            for host in hosts {
                prop_assert!(listed.contains(&host));
                let of: Vec<_> = fixture.published.iter().filter(|located| *located.endpoint.host == *host).collect();
                prop_assert!(of.iter().all(|located| located.address.is_some()) || of.len() == 1);
            }
            prop_assert!(fixture.names.deadline().is_some_and(|due| due >= fixture.at(seconds)));
        }
    }

    /// Whenever it begins, and it keeps them whatever fails from then on.
    #[test]
    fn another_life_has_the_same_endpoints(
        steps in prop::collection::vec((outcome(), any::<bool>(), 0..60_000u64), 1..40),
        srv in any::<bool>(),
    ) {
        let hosts = if srv { ["a.", "b.", "_http._tcp.a"] } else { ["a", "b", "_http._tcp.a"] };
        let written_as = "endpoints = [\"http://a:80\", \"http://b:80\"]\ndiscovery = { family = \"auto\" }";
        let found_by = "discovery = { kind = \"srv\", name = \"_http._tcp.a\" }";
        let keys = if srv { found_by } else { written_as };
        let service = written(keys);
        let mut fixture = Fixture::new(keys);
        let mut seconds = 0.0;
        for ((host, answer), v6, step) in steps {
            seconds += step as f64 / 1e3;
            let record = |priority, port, target: &str| Record::Srv { priority, weight: 3, port, target: target.into() };
            let (kind, answer) = match (host, answer) {
                (2, Answer::Records { records, ttl }) => {
                    let targets = if records.len() > 1 { vec![record(0, 81, "a."), record(1, 82, "b.")] } else { vec![record(0, 83, "b.")] };
                    (RecordKind::Srv, Answer::Records { records: targets, ttl })
                }
                (2, other) => (RecordKind::Srv, other),
                (_, Answer::Records { ttl, .. }) if v6 => {
                    (RecordKind::Aaaa, Answer::Records { records: vec![Record::Address("fd00::1".parse().expect("an address"))], ttl })
                }
                (_, other) => (if v6 { RecordKind::Aaaa } else { RecordKind::A }, other),
            };
            fixture.answer(seconds, hosts[host], kind, &answer);
            let now = fixture.at(seconds);
            let mut next = Names::resume(&service, &fixture.names.known(), now);
            prop_assert_eq!(next.endpoints(), fixture.names.endpoints());
            next.expire(now, 0);
            let asked = next.take_effects();
            prop_assert!(!asked.is_empty());
            for effect in asked {
                let Effect::Ask(question) = effect else { panic!("{effect:?} before anybody has answered") };
                next.observe(&question, &failure(), now, 0);
            }
            // A failure may lead to addresses of the other family, and away from none.
            let mut found = fixture.names.endpoints().iter().filter(|located| located.address.is_some());
            prop_assert!(found.all(|located| next.endpoints().contains(located)));
        }
    }

    #[test]
    fn failures_change_nothing(known in prop::collection::vec(outcome(), 1..6), steps in prop::collection::vec((0..3usize, 0..4_000_000u64), 1..30)) {
        let hosts = ["a", "b", "c"];
        let mut fixture =
            Fixture::new("endpoints = [\"http://a:80\", \"http://b:80\", \"http://c:80\"]\ndiscovery = { family = \"ipv4\" }");
        for (host, answer) in known.into_iter().filter(|(_, answer)| *answer != gone()) {
            fixture.answer(0.1, hosts[host], RecordKind::A, &answer);
        }
        fixture.wake(3.0);
        let before = Arc::clone(&fixture.published);
        let mut now = fixture.at(3.0);
        for (host, step) in steps {
            now += Duration::from_millis(step);
            fixture.names.expire(now, 0);
            fixture.names.observe(&Question { name: hosts[host].into(), kind: RecordKind::A }, &failure(), now, 0);
            fixture.apply();
            prop_assert_eq!(&fixture.published, &before);
        }
    }
}
