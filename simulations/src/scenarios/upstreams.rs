//! One node and the endpoints of one service, which crash, are slow, flap and are cut off; and actors that a drill kills or
//! stalls meanwhile.
//!
//! Callers ask all the while, and an operator looks every tenth of a second. At least one endpoint has no trouble in a run.
//! When all trouble is over and has had the time that it may take to be forgotten, the operator looks a last time, and the
//! node is told to drain.

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
use node::start;
use operator::{Findings, Operator};
use plan::Plan;
use promises::Upheld;
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

const PROMISES: Promises = Promises {
    rate_per_second: 1,
    burst: 1,
    deadline: Duration::from_secs(2),
    attempts: 3,
    nodes: 1,
    drain: Duration::from_secs(5),
    latency_max: Duration::from_millis(10),
};

const NODE_PORT: u16 = 8080;
const ENDPOINT_PORT: u16 = 9000;
const ENDPOINTS: [&str; 5] = ["shop-1", "shop-2", "shop-3", "shop-4", "shop-5"];
const SERVICE: &str = "shop";

/// What the configuration says, and what the invariants are held against.
const FIRST_BYTE: Duration = Duration::from_millis(300);
const PROBE_EVERY: Duration = Duration::from_millis(250);
const PROBE_WITHIN: Duration = Duration::from_millis(200);
const PROBES_FAIL: u32 = 2;
const EJECTED_MAX: Duration = Duration::from_secs(2);
const MIN_HEALTHY: usize = 3;

/// Trouble begins within this time from the start.
const TROUBLE_FOR: Duration = Duration::from_secs(5);
/// What it takes at most, when trouble is over, until nothing is left of it: the longest ejection with its jitter, as many
/// passed probes as an endpoint that went to and fro needs, and the requests that try it.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(6);
/// By then every run has ended: what has not has hung.
const PATIENCE: Duration = Duration::from_secs(60);

const DEPARTURE: Departure =
    Departure { wait: Duration::from_millis(500), bound: Duration::from_secs(4), access_log: "/var/log/shoal/access.log" };

/// Plays it, and says which of its own promises are broken.
pub(super) fn play(seed: u64, trace: &Trace, history: &History) -> (Faults, Promises, Vec<Violation>) {
    let mut chance = Chance::of(seed, "upstreams");
    let mut plan = Plan::draw(&mut Chance::of(seed, "plan"));
    let callers = u32::try_from(chance.between(2..=4)).expect("the range fits");

    let mut builder = turmoil::Builder::new();
    builder
        .epoch(std::time::SystemTime::UNIX_EPOCH + shim::EPOCH)
        .simulation_duration(2 * PATIENCE)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(PROMISES.latency_max)
        .tcp_capacity(1_024)
        .rng_seed(chance.draw());
    if chance.one_in(2) {
        builder.enable_random_order();
    }
    let mut sim = builder.build();

    let mut names = Names::new();
    for (at, host) in ENDPOINTS.into_iter().enumerate() {
        let endpoint = Endpoint::new(seed, host, plan.manners(at), history.clone());
        sim.host(host, move || endpoint.clone().serve(ENDPOINT_PORT));
        names.insert(format!("{host}.internal"), vec![sim.lookup(host)]);
    }

    let world = SimWorld::new("node", seed, usize::MAX, names, trace.clone());
    let (stop, findings) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Findings::default())));
    {
        let operator = Operator::new(plan.drills(), Arc::clone(&findings), trace.clone());
        let (stop, history) = (Arc::clone(&stop), history.clone());
        sim.host("node", move || node(world.clone(), operator.clone(), Arc::clone(&stop), history.clone()));
    }

    let (node, enough) = (SocketAddr::new(sim.lookup("node"), NODE_PORT), Arc::new(AtomicBool::new(false)));
    sim.client("caller", {
        let (history, enough) = (history.clone(), Arc::clone(&enough));
        async move {
            for number in 0..callers {
                tokio::spawn(Caller::new(seed, number, node, history.clone()).ask(Arc::clone(&enough)));
            }
            // The connections that the callers leave behind end on this host's runtime.
            sleep(2 * PATIENCE).await;
            Ok(())
        }
    });

    let calm = plan.end() + FORGOTTEN_WITHIN;
    let mut told = false;
    while sim.elapsed() < PATIENCE {
        plan.apply(&mut sim, trace);
        if let Err(error) = sim.step() {
            trace.line("network", format_args!("the simulation ends: {error}"));
            break;
        }
        shim::advance_to(sim.elapsed());
        if sim.elapsed() >= calm {
            enough.store(true, Relaxed);
        }
        let record = history.record();
        if !told && record.callers_done == callers {
            told = true;
            trace.line("network", "the node is told to drain");
            stop.notify_one();
        }
        if !record.left.is_empty() {
            break;
        }
    }
    if let Err(error) = history.count_threads() {
        trace.line("network", format_args!("the threads cannot be counted: {error}"));
    }
    let findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
    let violations = Upheld { record: &history.record(), findings: &findings, plan: &plan }.violations();
    (Faults::none(), PROMISES, violations)
}

/// What the node is told to be, as an operator would write it.
fn gateway(world: &SimWorld) -> Gateway {
    let endpoints: Vec<String> = ENDPOINTS.iter().map(|host| format!("\"http://{host}.internal:{ENDPOINT_PORT}\"")).collect();
    let text = format!(
        r#"
        [node]
        drain = {{ wait = "{wait}ms", bound = "{bound}ms" }}

        [listen.plain]
        bind = "0.0.0.0:{NODE_PORT}"
        http = ["h1"]
        tls = "none"

        [service.{SERVICE}]
        endpoints = [{endpoints}]
        protocol = "h1"
        deadlines = {{ total = "{deadline}ms", connect = "250ms", first_byte = "{first_byte}ms" }}
        retry = {{ max = {retries} }}
        slow_start = {{ window = "1s" }}

        [service.{SERVICE}.health]
        path = "/health"
        interval = "{every}ms"
        timeout = "{within}ms"
        unhealthy = {PROBES_FAIL}
        healthy = 2

        [service.{SERVICE}.outlier]
        consecutive_5xx = 3
        consecutive_gateway_failure = 3
        consecutive_local_origin_failure = 3
        interval = "1s"
        base_ejection_time = "1s"
        max_ejection_time = "{ejected}ms"
        max_ejection_percent = "60%"
        min_healthy = {MIN_HEALTHY}

        [[route]]
        match = "/**"
        service = "{SERVICE}"

        [drills]
        allow = true

        [telemetry]
        access_log = {{ to = {{ file = "{log}" }}, headers = ["x-request"] }}
        "#,
        wait = DEPARTURE.wait.as_millis(),
        bound = DEPARTURE.bound.as_millis(),
        endpoints = endpoints.join(", "),
        deadline = PROMISES.deadline.as_millis(),
        first_byte = FIRST_BYTE.as_millis(),
        retries = PROMISES.attempts - 1,
        every = PROBE_EVERY.as_millis(),
        within = PROBE_WITHIN.as_millis(),
        ejected = EJECTED_MAX.as_millis(),
        log = DEPARTURE.access_log,
    );
    let loaded = config::load_text(Path::new("/etc/shoal.toml"), &text, world);
    assert!(loaded.gateway.is_some(), "the gateway of this scenario has no mistakes: {:?}", loaded.problems);
    loaded.gateway.expect("a gateway without mistakes exists")
}

/// The node's host: starts it, lets the operator look and drill until the word comes, and drains it.
async fn node(world: SimWorld, operator: Operator, stop: Arc<Notify>, history: History) -> turmoil::Result {
    let running = start(Arc::new(world.clone()), gateway(&world)).await?;
    let admin = running.admin_address().ok_or("this gateway has an admin listener")?;
    operator.work(admin, running.admin_token().reveal(), &stop).await?;
    depart::depart(running, &world, &DEPARTURE, &history).await
}
