use super::*;
use crate::service::{
    Balancer, Breaker, Failure, Load, Prober, Rank, Shares, Target, Watched, Why,
    breaker::tests::{breaker, outlier},
    load::tests::epoch,
};
use cluster::BoxFuture;
use config::{Balance, HealthPolicy, Locality, OsSource, ProbeKind, Ratio, SlowStart, SpreadPolicy};
use futures_util::FutureExt;
use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Says at each probe what it was told to say, and then that all is well.
#[derive(Default)]
struct Scripted {
    answers: Mutex<Vec<Result<(), ProbeError>>>,
    asked: AtomicU64,
}

impl Prober for Scripted {
    fn probe(&self, _: &HealthPolicy) -> BoxFuture<'static, Result<(), ProbeError>> {
        self.asked.fetch_add(1, Relaxed);
        let answer = self.answers.lock().expect("nobody panics while it holds them").pop().unwrap_or(Ok(()));
        Box::pin(std::future::ready(answer))
    }
}

fn health() -> HealthPolicy {
    HealthPolicy {
        probe: ProbeKind::Tcp,
        port: None,
        interval: Duration::from_secs(5),
        jitter: Ratio(0.0),
        timeout: Duration::from_secs(1),
        unhealthy: 3,
        healthy: 2,
    }
}

fn spread() -> SpreadPolicy {
    let slow_start = SlowStart { window: Duration::from_secs(30), weight_min: Ratio(0.1) };
    SpreadPolicy { panic_threshold: Ratio(0.5), slow_start, spill: 1.4, hysteresis: Duration::from_secs(30) }
}

/// A service whose first `near` endpoints are nearer than the others, and whoever watches it.
struct Fixture {
    watch: Arc<Watch>,
    probers: Vec<Arc<Scripted>>,
    loads: Vec<Arc<Load>>,
    life: Watching,
    now: Instant,
}

fn name(at: usize) -> Arc<str> {
    format!("10.0.0.{at}:80").into()
}

/// Where no name is asked for.
struct Nowhere;

impl Outside for Nowhere {
    fn lookup(&self, question: Question) -> BoxFuture<'static, Answer> {
        panic!("nobody has a name: {question:?}")
    }

    fn publish(&self, _: Arc<Service>, endpoints: Arc<[Located]>) -> BoxFuture<'static, ()> {
        panic!("addresses do not change: {endpoints:?}")
    }

    fn too_many(&self, name: &str, _: usize, _: usize) {
        panic!("nobody is called {name}")
    }
}

/// A service as a file has it, but for what is judged by.
fn written(endpoints: &[String], health: Option<HealthPolicy>) -> Arc<Service> {
    let text = format!("[service.up]\nendpoints = {endpoints:?}\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n");
    let loaded = config::load_text(Path::new("test.toml"), &text, &OsSource::default());
    let service = Service::clone(&loaded.gateway.expect("a good text").services[0]);
    Arc::new(Service { health, outlier: Some(outlier()), breaker: breaker(), spread: spread(), ..service })
}

fn roster(loads: &[Arc<Load>], probers: &[Arc<Scripted>], near: usize, health: Option<HealthPolicy>, now: Instant) -> Roster {
    let rank = |at: usize| Rank { priority: u16::from(at >= near), locality: Locality::Zone, doubted: false };
    let target = |(at, load): (usize, &Arc<Load>)| Target { weight: 1, id: at as u64, rank: rank(at), drain: false, load: load.clone() };
    let balancer = Balancer::new(&Balance::PeakEwma, &spread(), loads.iter().enumerate().map(target).collect(), now);
    let watched = |(at, (load, prober)): (usize, (&Arc<Load>, &Arc<Scripted>))| Watched {
        endpoint: name(at),
        drain: false,
        load: load.clone(),
        prober: prober.clone(),
    };
    let endpoints: Vec<String> = (0..loads.len()).map(|at| format!("http://{}", name(at))).collect();
    let service = written(&endpoints, health);
    Roster {
        located: Names::new(&service, now).endpoints().clone(),
        service,
        balancer: Arc::new(balancer),
        endpoints: loads.iter().zip(probers).enumerate().map(watched).collect(),
    }
}

impl Fixture {
    fn new(endpoints: usize, near: usize) -> Self {
        let now = epoch();
        let made = Arc::new(Breaker::new(&breaker(), Some(&outlier())));
        let loads: Vec<_> = (0..endpoints).map(|_| Arc::new(Load::judged(made.clone(), now))).collect();
        let probers: Vec<_> = (0..endpoints).map(|_| Arc::new(Scripted::default())).collect();
        let watch = Watch::new(made, roster(&loads, &probers, near, Some(health()), now));
        let life = Watching::new(watch.clone(), Arc::new(Nowhere), &Turn::new(now, &|| 0, 64));
        Self { watch, probers, loads, life, now }
    }

    /// Lets the time pass, and the body have its turns.
    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.life.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let mut turn = Turn::new(self.now, &|| 0, 64);
            self.life.expire(&mut turn);
            for task in turn.take_tasks() {
                let order = task.now_or_never().expect("a script answers at once");
                self.life.handle(order, &mut Turn::new(self.now, &|| 0, 64));
            }
        }
        self.now = until;
    }

    /// Ends the life, as a kill does, and begins another one.
    fn kill(&mut self) {
        self.life = Watching::new(self.watch.clone(), Arc::new(Nowhere), &Turn::new(self.now, &|| 0, 64));
    }

    fn fails(&self, at: usize, times: usize) {
        let mut answers = self.probers[at].answers.lock().expect("nobody panics while it holds them");
        answers.extend(std::iter::repeat_n(Err(ProbeError::Timeout), times));
    }

    fn verdicts(&self) -> String {
        self.watch.verdicts(self.now).endpoints.iter().map(|judged| judged.verdict.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn shares(&self) -> Shares {
        self.watch.roster().balancer.shares()
    }
}

#[test]
fn an_endpoint_that_fails_its_probes_is_out_until_it_passes_them() {
    let mut fixture = Fixture::new(3, 3);
    fixture.fails(1, 3);
    fixture.pass(9);
    assert_eq!(fixture.verdicts(), "healthy healthy healthy", "two failures are not enough");
    fixture.pass(5);
    assert_eq!(fixture.verdicts(), "healthy unhealthy healthy");
    let judged = fixture.watch.verdicts(fixture.now).endpoints[1].clone();
    assert_eq!((judged.why, judged.last_probe_error.map(|error| error.what)), (Some(Why::Probes), Some("not answered in time".into())));
    fixture.pass(10);
    assert_eq!(fixture.verdicts(), "healthy healthy healthy");
    let grown = fixture.watch.roster().balancer.ramp_of(1, fixture.now);
    assert!((0.1..0.5).contains(&grown), "it is back slowly: {grown}");
    let counted = fixture.watch.counted();
    assert_eq!((counted.probes_failed, counted.probes_passed > 10), (3, true));
}

#[test]
fn what_requests_decide_is_noticed_and_counted() {
    let mut fixture = Fixture::new(3, 1);
    assert_eq!(format!("{:?}", fixture.shares()), "100");
    (0..5).for_each(|_| fixture.loads[0].begin(fixture.now).failed(Failure::Timeout, fixture.now));
    fixture.pass(1);
    assert_eq!(fixture.verdicts(), "ejected healthy healthy");
    assert_eq!(format!("{:?}", fixture.shares()), "0 100", "the farther level has all");
    let counted = fixture.watch.counted().ejections;
    assert!(counted.contains(&(Why::ConsecutiveLocalOriginFailure, 1)), "{counted:?}");
}

#[test]
fn another_life_changes_nothing() {
    let mut fixture = Fixture::new(4, 2);
    fixture.fails(0, 100);
    fixture.fails(1, 3);
    fixture.pass(15);
    assert_eq!(fixture.verdicts(), "unhealthy unhealthy healthy healthy");
    fixture.pass(10);
    assert_eq!(fixture.verdicts(), "unhealthy healthy healthy healthy");
    let before = fixture.shares();
    assert_eq!(format!("{before:?}"), "0 100", "the nearer level has to wait");
    for _ in 0..3 {
        fixture.kill();
        assert_eq!((fixture.verdicts().as_str(), fixture.shares()), ("unhealthy healthy healthy healthy", before));
        fixture.pass(1);
        assert_eq!((fixture.verdicts().as_str(), fixture.shares()), ("unhealthy healthy healthy healthy", before));
    }
    fixture.pass(35);
    assert_eq!(format!("{:?}", fixture.shares()), "70 30");
}

#[test]
fn an_actor_that_is_dead_leaves_requests_to_themselves() {
    let mut fixture = Fixture::new(3, 3);
    // Nobody looks while an endpoint fails, comes back and fails again.
    (0..5).for_each(|_| fixture.loads[2].begin(fixture.now).failed(Failure::Reset, fixture.now));
    assert_eq!(fixture.verdicts(), "healthy healthy ejected");
    fixture.now += Duration::from_secs(6);
    assert_eq!(fixture.verdicts(), "healthy healthy half_open");
    fixture.loads[2].admit(fixture.now).expect("it may be tried").failed(Failure::Reset, fixture.now);
    assert_eq!(fixture.verdicts(), "healthy healthy ejected");
    fixture.kill();
    assert_eq!(fixture.verdicts(), "healthy healthy ejected");
}

#[test]
fn who_leaves_is_asked_no_more_and_takes_no_place() {
    let mut fixture = Fixture::new(3, 3);
    (0..5).for_each(|_| fixture.loads[2].begin(fixture.now).failed(Failure::Reset, fixture.now));
    assert_eq!(fixture.watch.breaker().out(), 1);
    fixture.watch.follow(roster(&fixture.loads[..2], &fixture.probers[..2], 2, Some(health()), fixture.now), fixture.now);
    assert_eq!(fixture.watch.breaker().out(), 0);
    fixture.life.handle(Order::Look, &mut Turn::new(fixture.now, &|| 0, 64));
    let asked = fixture.probers[2].asked.load(Relaxed);
    fixture.pass(20);
    assert_eq!((fixture.probers[2].asked.load(Relaxed), fixture.verdicts().as_str()), (asked, "healthy healthy"));
    // Back again, it is as it was left.
    fixture.watch.follow(roster(&fixture.loads, &fixture.probers, 3, Some(health()), fixture.now), fixture.now);
    fixture.life.handle(Order::Look, &mut Turn::new(fixture.now, &|| 0, 64));
    assert_eq!(fixture.watch.breaker().out(), 1);
    fixture.pass(20);
    assert!(fixture.probers[2].asked.load(Relaxed) > asked);
}

#[test]
fn nobody_stays_unhealthy_by_probes_that_are_not_sent_any_more() {
    let mut fixture = Fixture::new(2, 2);
    fixture.fails(0, 3);
    fixture.pass(15);
    assert_eq!(fixture.verdicts(), "unhealthy healthy");
    fixture.watch.follow(roster(&fixture.loads, &fixture.probers, 2, None, fixture.now), fixture.now);
    fixture.life.handle(Order::Look, &mut Turn::new(fixture.now, &|| 0, 64));
    assert_eq!(fixture.verdicts(), "healthy healthy");
    assert_eq!(fixture.watch.verdicts(fixture.now).endpoints[0].last_probe_error, None);
}

#[test]
fn an_outcome_that_comes_too_late_for_its_endpoint_changes_nothing() {
    let mut fixture = Fixture::new(2, 2);
    let probed = Probed { endpoint: "10.0.0.9:80".into(), number: 1, outcome: Err(ProbeError::Timeout) };
    fixture.life.handle(Order::Probed(probed), &mut Turn::new(fixture.now, &|| 0, 64));
    assert_eq!(fixture.watch.counted().probes_failed, 0);
}

#[test]
fn what_it_shows_names_every_endpoint_and_its_next_probe() {
    let mut fixture = Fixture::new(2, 1);
    fixture.pass(1);
    let shown = fixture.life.inspect(fixture.now);
    assert_eq!(shown["endpoints"]["endpoints"].as_array().map(Vec::len), Some(2), "{shown}");
    assert!(shown["probes"][0]["next_in_ms"].as_u64().is_some_and(|wait| wait <= 5_500), "{shown}");
    assert_eq!(shown["levels"], "100");
}

mod drained;
mod named;
