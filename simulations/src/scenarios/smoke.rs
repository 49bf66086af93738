//! One node between a handful of callers and one service, on a network that is slow and now and then unkind.
//!
//! The callers ask some dozens of requests: small and big, with and without bodies, on connections that are kept and on
//! ones that are not. Then everything that went wrong ends, each caller asks one slow request more, and the node is told to
//! drain while those are on their way.

mod body;
mod caller;
mod service;

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
use node::start;
use service::Service;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{Barrier, Notify},
    time::sleep,
};

const PROMISES: Promises = Promises {
    rate_per_second: 4,
    burst: 3,
    deadline: Duration::from_secs(3),
    attempts: 2,
    nodes: 1,
    drain: Duration::from_secs(5),
    latency_max: Duration::from_millis(40),
};

const DEPARTURE: Departure =
    Departure { wait: Duration::from_millis(500), bound: Duration::from_secs(4), access_log: "/var/log/shoal/access.log" };

const NODE_PORT: u16 = 8080;
const SERVICE_PORT: u16 = 9000;

/// Faults begin within this time from the start.
const UNKIND_FOR: Duration = Duration::from_secs(3);

/// By then every caller has been answered or has given up: what has not ended has hung.
const PATIENCE: Duration = Duration::from_secs(90);

/// Plays it. Has no promises beside those of every run.
pub(super) fn play(seed: u64, trace: &Trace, history: &History) -> (Faults, Promises, Vec<Violation>) {
    let mut chance = Chance::of(seed, "smoke");
    let mut faults = Faults::draw(&mut Chance::of(seed, "faults"), UNKIND_FOR);
    let callers = u32::try_from(chance.between(3..=6)).expect("the range fits");
    let requests = u32::try_from(chance.between(8..=20)).expect("the range fits");
    let write_max = if chance.one_in(3) { 700 } else { usize::MAX };

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

    let service = Service::new(seed, history.clone());
    sim.host("service", move || service.clone().serve(SERVICE_PORT));

    let names = Names::from([("service.internal".to_owned(), vec![sim.lookup("service")])]);
    let world = SimWorld::new("node", seed, write_max, names, trace.clone());
    let stop = Arc::new(Notify::new());
    {
        let (stop, history) = (Arc::clone(&stop), history.clone());
        sim.host("node", move || node(world.clone(), Arc::clone(&stop), history.clone()));
    }

    // The last request of each is on its way when the node is told to drain.
    let (together, calm) = (Arc::new(Barrier::new(callers as usize)), faults.end() + 2 * PROMISES.latency_max);
    let node = SocketAddr::new(sim.lookup("node"), NODE_PORT);
    sim.client("caller", {
        let history = history.clone();
        async move {
            for number in 0..callers {
                let caller = Caller::new(seed, number, node, history.clone());
                tokio::spawn(caller.ask(requests, Arc::clone(&together), calm));
            }
            // The connections that the callers leave behind end on this host's runtime.
            sleep(2 * PATIENCE).await;
            Ok(())
        }
    });

    let mut draining_at = None;
    while sim.elapsed() < PATIENCE {
        faults.apply(&sim, trace);
        if let Err(error) = sim.step() {
            trace.line("network", format_args!("the simulation ends: {error}"));
            break;
        }
        shim::advance_to(sim.elapsed());
        let record = history.record();
        let all_asked = record.exchanges.len() == (callers * requests) as usize;
        if draining_at.is_none() && all_asked {
            // The last bytes of the last request have arrived by then.
            draining_at = Some(sim.elapsed() + 2 * PROMISES.latency_max);
        }
        if draining_at == Some(sim.elapsed()) {
            trace.line("network", "the node is told to drain");
            stop.notify_one();
        }
        if !record.left.is_empty() && record.callers_done == callers {
            break;
        }
    }
    if let Err(error) = history.count_threads() {
        trace.line("network", format_args!("the threads cannot be counted: {error}"));
    }
    (faults, PROMISES, Vec::new())
}

/// What the node is told to be, as an operator would write it.
fn gateway(world: &SimWorld) -> Gateway {
    let Promises { rate_per_second, burst, deadline, attempts, .. } = PROMISES;
    let text = format!(
        r#"
        [node]
        drain = {{ wait = "{wait}ms", bound = "{bound}ms" }}

        [listen.plain]
        bind = "0.0.0.0:{NODE_PORT}"
        http = ["h1"]
        tls = "none"

        [service.only]
        endpoints = ["http://service.internal:{SERVICE_PORT}"]
        protocol = "h1"
        deadlines = {{ total = "{deadline}ms", connect = "1s" }}
        retry = {{ max = {retries} }}

        [[route]]
        match = "/**"
        service = "only"
        max_body = "64KiB"

        [[route]]
        match = "/limited/**"
        service = "only"
        max_body = "64KiB"
        limit = "{rate_per_second}/s burst {burst} per client_ip"

        [admin]
        enabled = false

        [telemetry]
        access_log = {{ to = {{ file = "{log}" }}, headers = ["x-request"] }}
        "#,
        wait = DEPARTURE.wait.as_millis(),
        bound = DEPARTURE.bound.as_millis(),
        deadline = deadline.as_millis(),
        retries = attempts - 1,
        log = DEPARTURE.access_log,
    );
    let loaded = config::load_text(Path::new("/etc/shoal.toml"), &text, world);
    assert!(loaded.problems.is_empty(), "the gateway of this scenario has no mistakes: {:?}", loaded.problems);
    loaded.gateway.expect("a gateway without problems exists")
}

/// The node's host: starts it, waits for the word, drains it, and looks at what is left.
async fn node(world: SimWorld, stop: Arc<Notify>, history: History) -> turmoil::Result {
    let running = start(Arc::new(world.clone()), gateway(&world)).await?;
    stop.notified().await;
    depart::depart(running, &world, &DEPARTURE, &history).await
}
