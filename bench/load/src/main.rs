//! Asks a proxy for answers in the four ways that wrk and h2load do not: at a fixed rate, with a fresh TLS handshake
//! each time, once on each of many connections that are then left open, and an exact number of times.
//!
//! At a fixed rate every request has an instant at which it is due, whether or not a connection is free by then, and
//! its latency counts from that instant. A proxy that stalls therefore pays for every request that should have been
//! sent meanwhile, and not only for those that a stalled connection happened to carry.
//!
//! One thread, HTTP/1.1, one JSON object on standard output.

mod answer;
mod connection;

use connection::{Connection, Progress, Target};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::OwnedFd,
    process::ExitCode,
    time::{Duration, Instant},
};

const USAGE: &str = "usage: load MODE --to ADDRESS [OPTION VALUE]...
  rate        --rate N --seconds S --connections C    open loop, latency from the instant each request was due;
                                                      one request on each connection first, then waits for stdin
  handshakes  --seconds S --connections C             a full TLS handshake for every request
  idle        --connections C --seconds S             one request on each, then held; ends early when stdin closes
  count       --requests N --connections C            closed loop, exactly N requests
requests: --path P (`{}` becomes a number of five digits) --paths N --keys N (x-api-key) --header 'NAME: VALUE' --tls yes";

/// How long answers are waited for once the last request is due.
const GRACE: Duration = Duration::from_secs(2);

/// Connections that may wait for their first answer while the others are opened: below any listen backlog.
const OPENING_MAX: usize = 64;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", options.to);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    raise_descriptors()?;
    let mut load = Load::new(options)?;
    match options.mode {
        Mode::Rate => load.rate(options),
        Mode::Handshakes => load.handshakes(options),
        Mode::Idle => load.idle(options),
        Mode::Count => load.count(options),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Rate,
    Handshakes,
    Idle,
    Count,
}

struct Options {
    mode: Mode,
    to: SocketAddr,
    rate: f64,
    seconds: f64,
    connections: usize,
    requests: u64,
    path: String,
    paths: usize,
    keys: usize,
    headers: String,
    tls: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mode = match arguments.next().as_deref() {
            Some("rate") => Mode::Rate,
            Some("handshakes") => Mode::Handshakes,
            Some("idle") => Mode::Idle,
            Some("count") => Mode::Count,
            other => return Err(format!("no mode {}", other.unwrap_or("given"))),
        };
        let mut options = Self {
            mode,
            to: SocketAddr::from(([127, 0, 0, 1], 8080)),
            rate: 5_000.0,
            seconds: 5.0,
            connections: 64,
            requests: 10_000,
            path: "/".into(),
            paths: 1,
            keys: 0,
            headers: String::new(),
            tls: mode == Mode::Handshakes,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = |value: &str| value.parse::<usize>().map_err(|_| format!("{name} {value} is not a number"));
            match name.as_str() {
                "--to" => options.to = value.parse().map_err(|_| format!("{value} is not an address with a port"))?,
                "--rate" => options.rate = number(&value)? as f64,
                "--seconds" => options.seconds = value.parse().map_err(|_| format!("{value} is not a number"))?,
                "--connections" => options.connections = number(&value)?.max(1),
                "--requests" => options.requests = number(&value)? as u64,
                "--path" => options.path = value,
                "--paths" => options.paths = number(&value)?.max(1),
                "--keys" => options.keys = number(&value)?,
                "--header" => options.headers.push_str(&format!("{value}\r\n")),
                "--tls" => options.tls = value == "yes",
                _ => return Err(format!("no option {name}")),
            }
        }
        Ok(options)
    }

    /// Every request that will be sent, in an order that jumps about among paths and keys.
    fn written(&self) -> Vec<Vec<u8>> {
        const STRIDE: usize = 7_919;
        let ends = if self.mode == Mode::Handshakes { "Connection: close\r\n" } else { "" };
        let one = |index: usize| {
            let path = self.path.replace("{}", &format!("{:05}", index * STRIDE % self.paths));
            let key = match self.keys {
                0 => String::new(),
                keys => format!("x-api-key: key-{:06}\r\n", index * STRIDE % keys),
            };
            format!("GET {path} HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: load\r\nAccept: */*\r\n{key}{ends}{}\r\n", self.headers)
                .into_bytes()
        };
        (0..self.paths.max(self.keys).max(1)).map(one).collect()
    }
}

/// What came of the requests.
#[derive(Default)]
struct Tally {
    /// Microseconds, one for each answer.
    latencies: Vec<u32>,
    /// Connections that broke, and answers that were none.
    errors: u64,
    not_2xx: u64,
}

impl Tally {
    fn answered(&mut self, status: u16, latency: Duration) {
        self.latencies.push(latency.as_micros().min(u128::from(u32::MAX)) as u32);
        self.not_2xx += u64::from(!(200..300).contains(&status));
    }

    fn print(mut self, elapsed: Duration, unsent: u64) {
        self.latencies.sort_unstable();
        let done = self.latencies.len();
        let quantile = |share: f64| match done {
            0 => 0,
            _ => self.latencies[((done as f64 * share).ceil() as usize).clamp(1, done) - 1],
        };
        println!(
            "{{\"done\":{done},\"seconds\":{:.4},\"errors\":{},\"not_2xx\":{},\"unsent\":{unsent},\"p50\":{},\"p90\":{},\"p99\":{},\"p999\":{},\"max\":{}}}",
            elapsed.as_secs_f64(),
            self.errors,
            self.not_2xx,
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
        );
    }
}

/// Connections by number, the readiness of each, and the requests to send.
struct Load {
    target: Target,
    requests: Vec<Vec<u8>>,
    sent: usize,
    poll: OwnedFd,
    ready: Vec<epoll::Event>,
    scratch: Vec<u8>,
    connections: Vec<Connection>,
}

impl Load {
    fn new(options: &Options) -> io::Result<Self> {
        Ok(Self {
            target: Target::new(options.to, options.tls)?,
            requests: options.written(),
            sent: 0,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(512),
            scratch: vec![0; 256 * 1024],
            connections: Vec::with_capacity(options.connections),
        })
    }

    fn rate(&mut self, options: &Options) -> io::Result<()> {
        let total = (options.rate * options.seconds) as u64;
        let mut tally = Tally { latencies: Vec::with_capacity(total as usize), ..Tally::default() };
        // Handshakes and first requests are not what a rate measures.
        let not_2xx = self.open_and_ask(options.connections)?;
        println!("{{\"ready\":{},\"not_2xx\":{not_2xx}}}", options.connections);
        io::stdout().flush()?;
        io::stdin().read_line(&mut String::new())?;

        let mut free: VecDeque<usize> = (0..options.connections).collect();
        let mut due_of = vec![Instant::now(); options.connections];
        let begun = Instant::now();
        let last = begun + Duration::from_secs_f64(options.seconds) + GRACE;
        let due = |index: u64| begun + Duration::from_secs_f64(index as f64 / options.rate);
        let mut begun_requests = 0;
        let mut open = 0;
        let mut end = begun;
        while begun_requests < total || open > 0 {
            let now = Instant::now();
            if now >= last {
                break;
            }
            while begun_requests < total && due(begun_requests) <= Instant::now() {
                let Some(index) = free.pop_front() else { break };
                due_of[index] = due(begun_requests);
                begun_requests += 1;
                match self.send(index) {
                    Ok(()) => open += 1,
                    Err(_) => {
                        tally.errors += 1;
                        self.reopen(index)?;
                        free.push_back(index);
                    }
                }
            }
            let wake = if begun_requests < total && !free.is_empty() { due(begun_requests) } else { last };
            for index in self.wait(wake)? {
                match self.receive(index) {
                    Ok(Progress::Waiting) => continue,
                    Ok(Progress::Answered { status, last_one }) => {
                        open -= 1;
                        end = Instant::now();
                        tally.answered(status, end - due_of[index]);
                        if last_one {
                            self.reopen(index)?;
                        }
                    }
                    // An idle connection may be closed at any time; only a lost answer is an error.
                    Err(_) => {
                        let lost = self.connections[index].asked();
                        self.reopen(index)?;
                        if !lost {
                            continue;
                        }
                        open -= 1;
                        tally.errors += 1;
                    }
                }
                free.push_back(index);
            }
        }
        tally.errors += open;
        tally.print(end - begun, total - begun_requests);
        Ok(())
    }

    fn handshakes(&mut self, options: &Options) -> io::Result<()> {
        let mut tally = Tally::default();
        let begun = Instant::now();
        let last = begun + Duration::from_secs_f64(options.seconds);
        let mut begun_at = vec![begun; options.connections];
        for _ in 0..options.connections {
            let index = self.open()?;
            self.send(index)?;
        }
        while Instant::now() < last {
            for index in self.wait(last)? {
                match self.receive(index) {
                    Ok(Progress::Waiting) => continue,
                    Ok(Progress::Answered { status, .. }) => tally.answered(status, begun_at[index].elapsed()),
                    Err(_) => tally.errors += 1,
                }
                if tally.errors > 1_000 {
                    return Err(io::Error::other("a thousand handshakes failed"));
                }
                begun_at[index] = Instant::now();
                self.reopen(index)?;
                self.send(index)?;
            }
        }
        tally.print(begun.elapsed(), 0);
        Ok(())
    }

    fn count(&mut self, options: &Options) -> io::Result<()> {
        let mut tally = Tally::default();
        let begun = Instant::now();
        let mut begun_at = vec![begun; options.connections];
        let mut left = options.requests;
        let mut open = 0;
        for _ in 0..options.connections.min(left as usize) {
            let index = self.open()?;
            self.send(index)?;
            open += 1;
            left -= 1;
        }
        while open > 0 {
            for index in self.wait(Instant::now() + Duration::from_secs(60))? {
                match self.receive(index)? {
                    Progress::Waiting => continue,
                    Progress::Answered { status, last_one } => {
                        tally.answered(status, begun_at[index].elapsed());
                        open -= 1;
                        if last_one {
                            self.reopen(index)?;
                        }
                    }
                }
                if left > 0 {
                    left -= 1;
                    open += 1;
                    begun_at[index] = Instant::now();
                    self.send(index)?;
                }
            }
        }
        tally.print(begun.elapsed(), left);
        Ok(())
    }

    fn idle(&mut self, options: &Options) -> io::Result<()> {
        let not_2xx = self.open_and_ask(options.connections)?;
        println!("{{\"ready\":{},\"not_2xx\":{not_2xx}}}", options.connections);
        io::stdout().flush()?;

        let held = std::thread::spawn(|| io::stdin().read(&mut [0]));
        let last = Instant::now() + Duration::from_secs_f64(options.seconds);
        while Instant::now() < last && !held.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut closed = 0;
        for index in self.wait(Instant::now())? {
            closed += usize::from(self.receive(index).is_err());
        }
        println!("{{\"held\":{},\"closed\":{closed}}}", options.connections - closed);
        Ok(())
    }

    /// Opens connections and sends one request on each, a few at a time. Returns how many answers were not 2xx.
    fn open_and_ask(&mut self, connections: usize) -> io::Result<usize> {
        let mut answered = 0;
        let mut not_2xx = 0;
        while answered < connections {
            while self.connections.len() < connections && self.connections.len() - answered < OPENING_MAX {
                let index = self.open()?;
                self.send(index)?;
            }
            for index in self.wait(Instant::now() + Duration::from_secs(10))? {
                if let Progress::Answered { status, .. } = self.receive(index)? {
                    answered += 1;
                    not_2xx += usize::from(!(200..300).contains(&status));
                }
            }
        }
        Ok(not_2xx)
    }

    fn open(&mut self) -> io::Result<usize> {
        let index = self.connections.len();
        let connection = self.target.connect()?;
        self.watch(index, &connection)?;
        self.connections.push(connection);
        Ok(index)
    }

    /// A new connection in the place of one that has ended. Dropping the old one also ends its watch.
    fn reopen(&mut self, index: usize) -> io::Result<()> {
        let connection = self.target.connect()?;
        self.watch(index, &connection)?;
        self.connections[index] = connection;
        Ok(())
    }

    fn watch(&self, index: usize, connection: &Connection) -> io::Result<()> {
        epoll::add(&self.poll, connection.socket(), epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        Ok(())
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let request = &self.requests[self.sent % self.requests.len()];
        self.sent += 1;
        self.connections[index].send(request)
    }

    fn receive(&mut self, index: usize) -> io::Result<Progress> {
        self.connections[index].receive(&mut self.scratch)
    }

    /// The connections that have something to read, at the latest at `until`.
    fn wait(&mut self, until: Instant) -> io::Result<Vec<usize>> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        self.ready.clear();
        match epoll::wait(&self.poll, spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.ready.iter().map(|event| event.data.u64() as usize).collect())
    }
}

fn raise_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
