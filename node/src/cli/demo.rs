//! `shoal demo`: services, a gateway in front of them and a little traffic, all in this process, and what to try.
//!
//! Nothing is written and nothing outside this machine is asked. Where a port is taken, another one does.

mod services;
mod traffic;

use super::{
    Exit, Failure, Surroundings, Terminal, error,
    run::{Signals, runtime},
    version::VERSION,
};
use crate::startup::{Running, StartError, start};
use ::config::{Gateway, OsSource, load_text};
use cluster::World;
use services::Sample;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use traffic::Tally;

const TEXT: &str = include_str!("demo/demo.toml");

/// How long what is in flight may take once the demo is over; its streams would go on for ever.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Requests a second of its own traffic.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Leave all requests to you.
    #[arg(long, conflicts_with = "rate")]
    no_traffic: bool,
    /// End by itself after so long.
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    lasts: Option<Duration>,
}

pub(super) fn demo(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let runtime = runtime(None)?;
    let shown = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let world = &surroundings.world;
        let running = begin(world).await?;
        let scene = Scene::of(&running, args, &surroundings.program);
        scene.write(terminal.out)?;

        let tally = Arc::new(Tally::default());
        let flow = match args.no_traffic {
            true => None,
            false => Some(tokio::spawn(traffic::flow(world.clone(), scene.gateway, args.rate, tally.clone()))),
        };
        tokio::select! {
            _ = signals.leaving() => {}
            () = lasting(args.lasts) => {}
        }
        if let Some(flow) = flow {
            flow.abort();
        }
        tokio::select! {
            _ = running.drain(Duration::ZERO, LAST_REQUESTS) => {}
            _ = signals.leaving() => {}
        }
        writeln!(terminal.out, "{}", farewell(&tally))?;
        Ok(Exit::Ok)
    });
    // The services go with the runtime.
    runtime.shutdown_timeout(LAST_REQUESTS);
    shown
}

async fn lasting(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

fn farewell(tally: &Tally) -> String {
    let classes = (2..=5).map(|class| (class, tally.of(class))).filter(|(_, number)| *number > 0);
    let classes: Vec<_> = classes.map(|(class, number)| format!("{number} × {class}xx")).collect();
    match &*classes.join(", ") {
        "" => "over; nothing is kept".to_string(),
        classes => format!("over; its own requests: {classes}; nothing is kept"),
    }
}

/// Starts everything, on the usual ports where they are free.
async fn begin(world: &Arc<dyn World>) -> Result<Running, Failure> {
    let mut text = TEXT.to_string();
    for sample in Sample::ALL {
        let address = sample.start(&**world).await.map_err(|error| no_service(&error))?;
        text = text.replace(&sample.placeholder(), &address.to_string());
    }
    let usual = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut main, mut admin) = (usual(8080), usual(9901));
    loop {
        match start(world.clone(), gateway(&text, main, admin)).await {
            Ok(running) => return Ok(running),
            Err(StartError::Bind { address, error, .. }) if error.kind() == io::ErrorKind::AddrInUse && address.port() != 0 => {
                let taken = if address == main { &mut main } else { &mut admin };
                taken.set_port(0);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn no_service(error: &io::Error) -> Failure {
    let message = format!("the demo's own services find no port on 127.0.0.1: {error}");
    Failure { exit: Exit::Failed, code: error::BIND, message, help: None }
}

/// What is served, once every address is known.
fn gateway(text: &str, main: SocketAddr, admin: SocketAddr) -> Gateway {
    let text = text.replace("MAIN", &main.to_string()).replace("ADMIN", &admin.to_string());
    let loaded = load_text(Path::new("demo.toml"), &text, &OsSource::default());
    loaded.gateway.expect("the demo's configuration has no errors")
}

/// What there is to see, and what to try.
struct Scene {
    gateway: SocketAddr,
    admin: SocketAddr,
    token: String,
    traffic: String,
    program: String,
}

/// Comments stand below each other behind commands of this length.
const COMMAND: usize = 68;

/// One command, and what comes of it.
struct Try {
    topic: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
    note: &'static str,
}

const fn attempt(topic: &'static str, path: &'static str, status: u16, note: &'static str) -> Try {
    Try { topic, path, headers: &[], status, note }
}

const TRIES: &[Try] = &[
    attempt("route", "/v1/catalog/3", 200, "two endpoints share the work"),
    attempt("", "/old/3", 308, "to /v1/catalog/3"),
    attempt("", "/", 200, "from the gateway itself"),
    attempt("", "/internal/user/7", 403, "only from 10.0.0.0/8"),
    attempt("", "/v1/nothing", 404, "a problem document, as for whatever the gateway refuses"),
    Try {
        topic: "rewrite",
        path: "/api/users/7?page=2",
        headers: &[("x-debug", "1")],
        status: 200,
        note: "the request as the service got it",
    },
];

impl Scene {
    fn of(running: &Running, args: &Args, program: &str) -> Self {
        let gateway = running.addresses().first().map(|(_, address)| *address).expect("the demo has a listener");
        let admin = running.admin_address().expect("the demo has an admin listener");
        let traffic = if args.no_traffic { "no traffic of its own".to_string() } else { format!("{} requests/s of traffic", args.rate) };
        Self { gateway, admin, token: running.admin_token().reveal().to_string(), traffic, program: program.to_string() }
    }

    fn write(&self, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
        let Self { gateway, admin, token, traffic, program } = self;
        writeln!(out, "shoal {VERSION} demo · {} endpoints of 5 services, {traffic} · nothing is kept, ctrl-c ends it", Sample::ALL.len())?;
        writeln!(out, "  gateway  http://{gateway}\n  admin    http://{admin}  token {token}\n")?;
        for (topic, command, note) in self.commands() {
            writeln!(out, "{topic:<9}{command:<COMMAND$}  # {note}")?;
        }
        let ask = format!("curl -s -H 'Authorization: Bearer {token}' http://{admin}");
        let explain = format!("{program} explain GET http://{gateway}/v1/catalog/3 --admin {admin} --token {token}");
        writeln!(out, "{:<9}{explain}\n{:<9}{ask}/metrics\n{:<9}{ask}/v1/config", "why", "look", "")
    }

    /// Topic, command, and what comes of it.
    fn commands(&self) -> Vec<(&'static str, String, String)> {
        let at = format!("http://{}", self.gateway);
        let mut commands: Vec<_> = TRIES
            .iter()
            .map(|attempt| {
                let headers: String = attempt.headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
                (attempt.topic, format!("curl -i{headers} '{at}{}'", attempt.path), format!("{}: {}", attempt.status, attempt.note))
            })
            .collect();
        commands.push((
            "split",
            format!("for user in 1 2 3 4 5 6 7 8; do curl -s -H \"x-user: $user\" {at}/v1/orders; done"),
            "200: v1 for three of four users, and for each always the same".to_string(),
        ));
        commands.push((
            "limit",
            format!("for i in $(seq 25); do curl -s -o /dev/null -w '%{{http_code}} ' {at}/v1/search; done; echo"),
            "200 about ten times, then 429 until the second is over".to_string(),
        ));
        commands.push(("stream", format!("curl -N {at}/v1/ticks"), "200: one event a second, as it happens".to_string()));
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::ask::{Address, ask},
        world::RealWorld,
    };
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;

    #[test]
    fn the_configuration_leaves_nothing_to_be_said() {
        let mut text = TEXT.replace("MAIN", "127.0.0.1:8080").replace("ADMIN", "127.0.0.1:9901");
        for (index, sample) in Sample::ALL.into_iter().enumerate() {
            assert!(text.contains(&sample.placeholder()), "{sample:?}");
            text = text.replace(&sample.placeholder(), &format!("127.0.0.1:{}", 9_000 + index));
        }
        let loaded = load_text(Path::new("demo.toml"), &text, &OsSource::default());
        assert!(loaded.problems.is_empty(), "{}", loaded.problems.iter().map(ToString::to_string).collect::<String>());
    }

    #[tokio::test]
    async fn every_command_ends_as_it_says() {
        let world: Arc<dyn World> = Arc::new(RealWorld::new());
        let running = begin(&world).await.unwrap_or_else(|failure| panic!("{failure}"));
        let (_, gateway) = running.addresses()[0].clone();
        let address = Address { tls: false, host: gateway.ip().to_string(), port: gateway.port() };
        for attempt in TRIES {
            let mut request = Request::get(attempt.path);
            for (name, value) in attempt.headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::new())).expect("a request");
            let answer = ask(&*world, &address, None, request, Duration::from_secs(5)).await;
            let answer = answer.unwrap_or_else(|failure| panic!("{}: {failure}", attempt.path));
            assert_eq!(answer.status().as_u16(), attempt.status, "{}: {:?}", attempt.path, answer.body());
            if attempt.topic == "rewrite" {
                let got = String::from_utf8_lossy(answer.body()).into_owned();
                assert!(got.starts_with("GET /internal/user/7?page=2&source=gateway "), "{got}");
                assert!(got.contains("x-seen-by: shoal demo") && !got.contains("x-debug"), "{got}");
            }
        }
        running.drain(Duration::ZERO, LAST_REQUESTS).await;
    }

    #[test]
    fn a_demo_ends_by_itself_and_says_what_happened() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let world: Arc<dyn World> = Arc::new(RealWorld::new());
        let surroundings = Surroundings { world, environment: Arc::default(), program: "shoal".into() };
        let args = Args { rate: 100, no_traffic: false, lasts: Some(Duration::from_millis(300)) };
        let exit = demo(&args, &surroundings, &mut Terminal { out: &mut out, err: &mut err }).unwrap_or_else(|failure| panic!("{failure}"));
        let text = String::from_utf8(out).expect("text");
        assert_eq!((exit, err.len()), (Exit::Ok, 0));
        let last = text.lines().last().expect("a last line");
        assert!(last.starts_with("over; its own requests: ") && last.contains(" × 2xx"), "{text}");
    }
}
