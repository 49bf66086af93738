//! A service whose endpoints are found by name.

use super::*;
use crate::service::{
    Drain,
    discovery::{Absence, Record, RecordKind, State},
};

const NAME: &str = "orders.test";

/// A node with one service, and the servers that it asks.
struct Node {
    watch: Arc<Watch>,
    breaker: Arc<Breaker>,
    says: Mutex<Answer>,
    asked: AtomicU64,
    published: AtomicU64,
    /// By name, as long as anybody was there.
    loads: Mutex<BTreeMap<String, Arc<Load>>>,
    refuses: Mutex<bool>,
    prober: Arc<Scripted>,
}

struct At(Arc<Node>, Instant);

impl Outside for At {
    fn lookup(&self, question: Question) -> BoxFuture<'static, Answer> {
        self.0.asked.fetch_add(u64::from(question.kind == RecordKind::A), Relaxed);
        let says = match question.kind {
            RecordKind::A => lock(&self.0.says).clone(),
            RecordKind::Aaaa | RecordKind::Srv => Answer::Nothing(Absence::NoRecord),
        };
        Box::pin(std::future::ready(says))
    }

    fn publish(&self, service: Arc<Service>, endpoints: Arc<[Located]>) -> BoxFuture<'static, ()> {
        let Self(node, now) = self;
        if !*lock(&node.refuses) {
            node.published.fetch_add(1, Relaxed);
            node.watch.follow(node.roster(service, endpoints, *now), *now);
        }
        Box::pin(std::future::ready(()))
    }

    fn too_many(&self, name: &str, _: usize, _: usize) {
        panic!("{name} has two addresses")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while it holds it")
}

fn made(
    breaker: &Arc<Breaker>,
    loads: &Mutex<BTreeMap<String, Arc<Load>>>,
    service: Arc<Service>,
    located: Arc<[Located]>,
    prober: &Arc<Scripted>,
    now: Instant,
) -> Roster {
    let mut loads = lock(loads);
    let endpoints: Vec<Watched> = located
        .iter()
        .map(|located| Watched {
            endpoint: located.name().into(),
            drain: false,
            load: loads.entry(located.name()).or_insert_with(|| Arc::new(Load::judged(breaker.clone(), now))).clone(),
            prober: prober.clone(),
        })
        .collect();
    let target = |(at, watched): (usize, &Watched)| Target {
        weight: 1,
        id: at as u64,
        rank: Rank { priority: 0, locality: Locality::Zone, doubted: false },
        drain: false,
        load: watched.load.clone(),
    };
    let targets = endpoints.iter().enumerate().map(target).collect();
    let balancer = Arc::new(Balancer::new(&Balance::PeakEwma, &spread(), targets, now));
    Roster { service, located, balancer, endpoints }
}

impl Node {
    fn roster(&self, service: Arc<Service>, located: Arc<[Located]>, now: Instant) -> Roster {
        made(&self.breaker, &self.loads, service, located, &self.prober, now)
    }
}

/// A node, and whoever looks after its service.
struct Fixture {
    node: Arc<Node>,
    life: Watching,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self::probed(None)
    }

    fn probed(health: Option<HealthPolicy>) -> Self {
        let now = epoch();
        let service = written(&[format!("http://{NAME}:80")], health);
        let prober = Arc::new(Scripted::default());
        let breaker = Arc::new(Breaker::new(&breaker(), Some(&outlier())));
        let loads = Mutex::default();
        let located = Names::new(&service, now).endpoints().clone();
        let watch = Watch::new(breaker.clone(), made(&breaker, &loads, service, located, &prober, now));
        let node = Arc::new(Node {
            watch,
            breaker,
            says: Mutex::new(addresses(&["10.0.0.1", "10.0.0.2"])),
            asked: AtomicU64::new(0),
            published: AtomicU64::new(0),
            loads,
            refuses: Mutex::new(false),
            prober,
        });
        let life = begun(&node, now);
        Self { node, life, now }
    }

    fn kill(&mut self) {
        self.life = begun(&self.node, self.now);
    }

    fn says(&self, answer: Answer) {
        *lock(&self.node.says) = answer;
    }

    /// Lets the time pass, and the body have its turns.
    fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(due) = self.life.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let mut turn = Turn::new(self.now, &|| 0, 64);
            self.life.expire(&mut turn);
            let mut tasks = turn.take_tasks();
            while let Some(task) = tasks.pop() {
                let mut turn = Turn::new(self.now, &|| 0, 64);
                self.life.handle(task.now_or_never().expect("everybody answers at once"), &mut turn);
                tasks.extend(turn.take_tasks());
            }
        }
        self.now = until;
    }

    fn endpoints(&self) -> String {
        self.node.watch.roster().located.iter().map(Located::name).collect::<Vec<_>>().join(" ").replace("orders.test@", "")
    }

    fn state(&self) -> State {
        self.node.watch.resolved().states[0].1.clone()
    }
}

fn begun(node: &Arc<Node>, now: Instant) -> Watching {
    Watching::new(node.watch.clone(), Arc::new(At(node.clone(), now)), &Turn::new(now, &|| 0, 64))
}

fn addresses(ips: &[&str]) -> Answer {
    let records = ips.iter().map(|ip| Record::Address(ip.parse().expect("an address"))).collect();
    Answer::Records { records, ttl: Duration::from_secs(60) }
}

#[test]
fn every_address_of_a_name_is_an_endpoint_of_its_own() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.endpoints(), "orders.test:80", "it stands for itself until it is known");
    fixture.pass(0);
    assert_eq!((fixture.endpoints().as_str(), fixture.state()), ("10.0.0.1:80 10.0.0.2:80", State::Fresh));
    fixture.says(addresses(&["10.0.0.2", "10.0.0.3"]));
    let kept = fixture.node.watch.roster().endpoints[1].load.clone();
    fixture.pass(60_000);
    assert_eq!(fixture.endpoints(), "10.0.0.2:80 10.0.0.3:80");
    assert!(Arc::ptr_eq(&kept, &fixture.node.watch.roster().endpoints[0].load));
    assert_eq!(fixture.node.published.load(Relaxed), 2);
}

#[test]
fn another_life_goes_on_with_the_addresses_in_use_whatever_the_servers_say() {
    for answer in [Answer::Failed("SERVFAIL".into()), Answer::Nothing(Absence::NoName)] {
        let mut fixture = Fixture::new();
        fixture.pass(0);
        fixture.says(answer);
        for _ in 0..3 {
            fixture.kill();
            fixture.pass(5_000);
            assert_eq!((fixture.endpoints().as_str(), fixture.node.published.load(Relaxed)), ("10.0.0.1:80 10.0.0.2:80", 1));
        }
        assert!(matches!(fixture.state(), State::Stale { .. }), "{:?}", fixture.state());
    }
}

#[test]
fn a_publication_that_came_to_nothing_is_made_up_for() {
    let mut fixture = Fixture::new();
    *lock(&fixture.node.refuses) = true;
    fixture.pass(2_000);
    assert_eq!(fixture.endpoints(), "orders.test:80");
    *lock(&fixture.node.refuses) = false;
    fixture.pass(500);
    assert_eq!(fixture.endpoints(), "10.0.0.1:80 10.0.0.2:80");
}

#[test]
fn a_name_is_asked_for_again_when_nobody_can_connect_to_any_of_its_addresses() {
    let mut fixture = Fixture::new();
    fixture.pass(10_000);
    let asked = || fixture.node.asked.load(Relaxed);
    let before = asked();
    let loads: Vec<_> = fixture.node.watch.roster().endpoints.iter().map(|watched| watched.load.clone()).collect();
    loads[0].begin(fixture.now).failed(Failure::Connect, fixture.now);
    loads[1].begin(fixture.now).failed(Failure::Timeout, fixture.now);
    fixture.pass(1_000);
    assert_eq!(fixture.node.asked.load(Relaxed), before, "one of them was connected to");
    for load in &loads {
        load.begin(fixture.now).failed(Failure::Connect, fixture.now);
    }
    fixture.says(addresses(&["10.0.0.3"]));
    fixture.pass(1_000);
    assert_eq!(fixture.endpoints(), "10.0.0.3:80");
}

#[test]
fn a_name_is_asked_for_again_when_no_probe_can_connect_to_any_of_its_addresses() {
    let refused = ProbeError::Connect("refused".into());
    for (said, other, moves) in
        [(&refused, &refused, true), (&refused, &ProbeError::Timeout, true), (&refused, &ProbeError::Status(500), false)]
    {
        let mut fixture = Fixture::probed(Some(health()));
        fixture.pass(20_000);
        fixture.says(addresses(&["10.0.0.3"]));
        // One of the two is asked first, and then the other.
        lock(&fixture.node.prober.answers).extend([Err(other.clone()), Err(said.clone())].into_iter().cycle().take(40));
        fixture.pass(11_000);
        assert_eq!(fixture.endpoints() == "10.0.0.3:80", moves, "{said} and {other}");
    }
}

#[test]
fn who_drains_says_nothing_of_whether_a_name_is_right() {
    let mut fixture = Fixture::new();
    fixture.pass(10_000);
    let loads: Vec<_> = fixture.node.watch.roster().endpoints.iter().map(|watched| watched.load.clone()).collect();
    fixture.node.watch.drain("orders.test@10.0.0.2:80", Drain::Begin { force: false }, fixture.now).expect("the other one is well");
    loads[0].begin(fixture.now).failed(Failure::Connect, fixture.now);
    fixture.says(addresses(&["10.0.0.3"]));
    fixture.pass(1_000);
    assert_eq!(fixture.endpoints(), "10.0.0.3:80");
}
