//! A whole cluster: nodes in regions that find each other, are cut off from each other in every way there is, crash and come
//! back, and find each other again. Callers ask all of them all the while.
//!
//! Each node has its own address, disk and wall clock. Each region has an endpoint, which its nodes prefer and always reach. An
//! operator at each node looks twice a second whom it sees. Faults come in episodes, some long enough that everybody must
//! have noticed, some so short that not everybody does. When the last one is over and has had the time in which all has to be
//! well again, the operators look a last time, and the nodes are told to drain.

mod caller;
mod endpoint;
mod operator;
mod plan;
mod promises;

use super::depart::{self, Departure};
use crate::{
    chance::Chance,
    faults::Faults,
    history::History,
    invariants::{Promises, Violation},
    shim,
    trace::Trace,
    world::{Names, SimWorld},
};
use caller::Caller;
use config::Gateway;
use endpoint::Endpoint;
use node::{Given, start_given};
use operator::{Findings, Operator};
use plan::{Plan, Present};
use promises::{LOGGED_WITHIN, Upheld};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

const PROMISES: Promises = Promises {
    rate_per_second: 1,
    burst: 1,
    deadline: Duration::from_secs(3),
    attempts: 3,
    // Filled in by the plan.
    nodes: 0,
    drain: Duration::from_secs(6),
    latency_max: Duration::from_millis(30),
};

const NODES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const ENDPOINTS: [&str; 3] = ["shop-1", "shop-2", "shop-3"];
const SERVICE: &str = "shop";

const NODE_PORT: u16 = 8080;
const PEER_PORT: u16 = 7946;
const ENDPOINT_PORT: u16 = 9000;

/// Nobody acts more often: what this costs is most of what a run costs.
const TICK: Duration = Duration::from_millis(5);

/// By then everybody knows of a change.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
/// As long as that, and long enough for some looks.
const QUIET: Duration = Duration::from_secs(12);
/// How long it takes until a node knows that an endpoint can be reached, or not.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// By then every run has ended: what has not has hung.
const PATIENCE: Duration = Duration::from_secs(240);

const DEPARTURE: Departure =
    Departure { wait: Duration::from_millis(500), bound: Duration::from_secs(4), access_log: "/var/log/shoal/access.log" };

/// Plays it, and says which of its own promises are broken.
pub(super) fn play(seed: u64, trace: &Trace, history: &History) -> (Faults, Promises, Vec<Violation>) {
    let mut chance = Chance::of(seed, "cuts");
    let plan = Arc::new(Plan::draw(&mut Chance::of(seed, "plan")));
    let count = plan.places.len();
    for (name, place) in NODES.iter().zip(&plan.places) {
        trace.line("network", format_args!("{name} is in {place}"));
    }

    let mut builder = turmoil::Builder::new();
    builder
        .epoch(std::time::SystemTime::UNIX_EPOCH + shim::EPOCH)
        .simulation_duration(2 * PATIENCE)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(PROMISES.latency_max)
        .tcp_capacity(1_024)
        .rng_seed(chance.draw());
    if chance.one_in(2) {
        builder.enable_random_order();
    }
    let mut sim = builder.build();

    let mut names = Names::new();
    for host in &ENDPOINTS[..plan.regions] {
        let endpoint = Endpoint::new(seed, host, history.clone());
        sim.host(*host, move || endpoint.clone().serve(ENDPOINT_PORT));
        names.insert(format!("{host}.internal"), vec![sim.lookup(*host)]);
    }
    names.insert("nodes.internal".to_owned(), plan.seeds.iter().map(|seed| loopback(*seed)).collect());
    let neighbours: BTreeMap<IpAddr, IpAddr> = (0..count).map(|number| (loopback(number), sim.lookup(NODES[number]))).collect();

    let findings = Arc::new(Mutex::new(Findings::default()));
    let machines: Vec<Machine> = (0..count)
        .map(|number| {
            let world = SimWorld::new(NODES[number], seed, usize::MAX, names.clone(), trace.clone()).beside(neighbours.clone());
            Machine {
                number,
                world,
                plan: Arc::clone(&plan),
                operator: Operator::new(number, Arc::clone(&findings), trace.clone()),
                clock: Arc::new(Mutex::new(Chance::of(seed, &format!("clock of {}", NODES[number])))),
                history: history.clone(),
                lives: Arc::default(),
                up: Arc::default(),
                stop: Arc::default(),
            }
        })
        .collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(NODES[machine.number], move || machine.clone().run());
    }

    let enough = Arc::new(AtomicBool::new(false));
    let callers: Vec<Caller> = machines
        .iter()
        .map(|machine| {
            let node = SocketAddr::new(sim.lookup(NODES[machine.number]), NODE_PORT);
            let number = u32::try_from(machine.number).expect("there are few nodes");
            Caller::new(seed, number, node, Arc::clone(&machine.up), history.clone())
        })
        .collect();
    sim.client("caller", {
        let enough = Arc::clone(&enough);
        async move {
            for caller in callers {
                tokio::spawn(caller.ask(Arc::clone(&enough)));
            }
            // The connections that the callers leave behind end on this host's runtime.
            sleep(2 * PATIENCE).await;
            Ok(())
        }
    });

    let calm = plan.end() + QUIET;
    let (mut present, mut told) = (Present::default(), false);
    while sim.elapsed() < PATIENCE {
        for node in plan.apply(&mut present, &mut sim, trace) {
            machines[node].up.store(false, Relaxed);
            let caller = u32::try_from(node).expect("there are few nodes");
            history.crashed(caller, sim.elapsed().saturating_sub(LOGGED_WITHIN));
        }
        if let Err(error) = sim.step() {
            trace.line("network", format_args!("the simulation ends: {error}"));
            break;
        }
        shim::advance_to(sim.elapsed());
        if sim.elapsed() >= calm {
            enough.store(true, Relaxed);
        }
        let record = history.record();
        if !told && record.callers_done as usize == count {
            told = true;
            trace.line("network", "the nodes are told to drain");
            machines.iter().for_each(|machine| machine.stop.notify_one());
        }
        if record.left.len() == count {
            break;
        }
    }
    if let Err(error) = history.count_threads() {
        trace.line("network", format_args!("the threads cannot be counted: {error}"));
    }
    let findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
    let violations = Upheld { record: &history.record(), findings: &findings, plan: &plan }.violations();
    (Faults::none(), Promises { nodes: count, ..PROMISES }, violations)
}

/// Where the nodes believe each other to be: processes on one machine, as far as they know.
fn loopback(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).expect("there are few nodes")).into()
}

/// One node's host, over all its lives.
#[derive(Clone)]
struct Machine {
    number: usize,
    world: SimWorld,
    plan: Arc<Plan>,
    operator: Operator,
    /// Draws how wrong the wall clock is in each life.
    clock: Arc<Mutex<Chance>>,
    history: History,
    lives: Arc<AtomicU32>,
    /// Whether the node serves.
    up: Arc<AtomicBool>,
    stop: Arc<Notify>,
}

impl Machine {
    /// Starts the node, lets the operator look until the word comes, and drains it.
    async fn run(self) -> turmoil::Result {
        let life = self.lives.fetch_add(1, SeqCst);
        if life == 0 {
            sleep(self.plan.places[self.number].starts).await;
        }
        let ahead = self.clock.lock().unwrap_or_else(PoisonError::into_inner).between(0..=20_000_000);
        self.world.set_clock(i64::try_from(ahead).expect("the range fits") - 10_000_000);
        let given = Given { insecure_dev: true, ..Given::default() };
        let running = start_given(Arc::new(self.world.clone()), self.gateway(), given).await?;
        self.up.store(true, Relaxed);
        let admin = running.admin_address().ok_or("this gateway has an admin listener")?;
        self.operator.work(life, admin, running.admin_token().reveal(), &self.stop).await?;
        depart::depart(running, &self.world, &DEPARTURE, &self.history).await
    }

    /// What the node is told to be, as an operator would write it.
    fn gateway(&self) -> Gateway {
        let place = self.plan.places[self.number];
        let endpoints = ENDPOINTS[..self.plan.regions]
            .iter()
            .zip(1..)
            .map(|(host, region)| format!("{{ url = \"http://{host}.internal:{ENDPOINT_PORT}\", region = \"r{region}\" }}"));
        let text = format!(
            r#"
            [node]
            name = "{name}"
            region = "r{region}"
            zone = "z{zone}"
            state_dir = "/var/lib/shoal"
            drain = {{ wait = "{wait}ms", bound = "{bound}ms" }}

            [cluster]
            name = "sim"
            bind = "{address}:{PEER_PORT}"
            advertise = "{address}:{PEER_PORT}"
            join = ["dns:nodes.internal:{PEER_PORT}"]

            [listen.plain]
            bind = "0.0.0.0:{NODE_PORT}"
            http = ["h1"]
            tls = "none"

            [service.{SERVICE}]
            endpoints = [{endpoints}]
            protocol = "h1"
            deadlines = {{ total = "{deadline}ms", connect = "250ms", first_byte = "500ms" }}
            retry = {{ max = {retries} }}

            [service.{SERVICE}.health]
            path = "/health"
            interval = "1s"
            timeout = "500ms"
            unhealthy = 2
            healthy = 2

            [[route]]
            match = "/**"
            service = "{SERVICE}"

            [telemetry]
            access_log = {{ to = {{ file = "{log}" }}, headers = ["x-request"] }}
            "#,
            name = NODES[self.number],
            region = place.region + 1,
            zone = place.zone,
            wait = DEPARTURE.wait.as_millis(),
            bound = DEPARTURE.bound.as_millis(),
            address = loopback(self.number),
            endpoints = endpoints.collect::<Vec<String>>().join(", "),
            deadline = PROMISES.deadline.as_millis(),
            retries = PROMISES.attempts - 1,
            log = DEPARTURE.access_log,
        );
        let loaded = config::load_text(Path::new("/etc/shoal.toml"), &text, &self.world);
        assert!(loaded.gateway.is_some(), "the gateway of this scenario has no mistakes: {:?}", loaded.problems);
        loaded.gateway.expect("a gateway without mistakes exists")
    }
}
