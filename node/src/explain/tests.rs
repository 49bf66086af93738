//! Explanations beside journeys: the same configuration, the same request, the same moment.

use super::*;
use crate::{
    listener::{Caller, LiveListener},
    request::Trip,
    startup::{Running, start},
};
use cluster::{BoxFuture, BoxStream, Disk, Listener, Stamp, dns};
use config::Source;
use http::Request;
use rcgen::{CertificateParams, KeyPair};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

const CONFIGURATIONS: u64 = 200;
const REQUESTS: u64 = 100;

#[tokio::test]
async fn an_explanation_and_a_journey_agree() {
    agree(CONFIGURATIONS, REQUESTS).await;
}

#[tokio::test]
#[ignore = "minutes in a debug build"]
async fn an_explanation_and_a_journey_agree_at_length() {
    agree(CONFIGURATIONS, 10_000).await;
}

async fn agree(configurations: u64, requests: u64) {
    let world = Stage::new();
    let mut lot = Lot(1);
    let mut met = Met::default();
    let running = start(world.clone(), configuration(&mut lot, &world)).await.expect("a node that starts");
    for _ in 0..configurations {
        let gateway = configuration(&mut lot, &world);
        running.apply(gateway).await.expect("a revision that can be served");
        for _ in 0..requests {
            world.pass(Duration::from_millis(lot.below(100)));
            let question = question(&mut lot);
            check(&running, &world, &question, &mut lot, &mut met);
        }
    }
    // Agreeing about nothing but 404 would prove nothing.
    let rejections = "E4000 E4001 E4030 E4031 E4040 E4050 E4130 E4140 E4210 E4290 E4291 E4310 E5010";
    for kind in "forward sticky chance redirect respond health over not shadow".split(' ').chain(rejections.split(' ')) {
        assert!(met.0.get(kind) >= Some(&10), "too few requests met {kind}: {:?}", met.0);
    }
}

/// How often each kind of outcome was met.
#[derive(Default)]
struct Met(BTreeMap<String, u64>);

impl Met {
    fn note(&mut self, kind: &str) {
        *self.0.entry(kind.to_string()).or_default() += 1;
    }
}

/// Asks first, and then lets the request go on its way.
#[track_caller]
fn check(running: &Running, world: &Stage, question: &Question, lot: &mut Lot, met: &mut Met) {
    let node = &running.node;
    world.chance.store(lot.next(), Relaxed);
    let explanation = explain(node, question).expect("a question that can be answered");

    let asked = question.read().expect("a request");
    let listener = listener(running, &explanation.listener);
    let address = SocketAddr::new(question.client_ip.expect("every question says where it comes from"), 40_000);
    let caller = Caller::imagined(node, &listener, address, asked.server_name.as_deref());
    let (parts, uri) = (asked.parts.clone(), asked.parts.uri.clone());
    let snapshot = node.snapshot.load_full();
    let mut trip = Trip::begin(&caller, snapshot.clone(), &Request::from_parts(parts.clone(), ()));
    let decided = decide(&parts, &uri, asked.declared, &caller.entrance(), &snapshot, &mut *trip);

    let (chosen, path) = match &decided {
        Ok(Decided::Routed(Routed { step: Step::Forward(onward), .. })) => {
            (Some(onward.service.service.name.to_string()), Some(onward.path.to_string()))
        }
        _ => (None, None),
    };
    let route = trip.route.as_ref().map(|live| live.route.id.to_string());
    let verdict = verdict(decided);
    let about = || format!("{question:?}\n{explanation}");
    assert_eq!(explanation.verdict, verdict, "{}", about());
    assert_eq!(explanation.route.as_ref().map(|taken| taken.id.clone()), route, "{}", about());
    assert_eq!(explanation.service.as_ref().map(|chosen| chosen.name.clone()), chosen, "{}", about());
    assert_eq!(explanation.service.as_ref().map(|chosen| chosen.path.clone()), path, "{}", about());
    if explanation.understood.is_some() {
        assert_eq!(explanation.understood.as_ref().map(|understood| understood.client_ip), Some(trip.client_ip), "{}", about());
    }

    match (&explanation.verdict, &explanation.service) {
        (Verdict::Reject { code, .. }, _) => met.note(code),
        (Verdict::Forward, Some(Chosen { by: ChosenBy::Sticky, .. })) => met.note("sticky"),
        (Verdict::Forward, Some(Chosen { by: ChosenBy::Chance, .. })) => met.note("chance"),
        (Verdict::Forward, _) => met.note("forward"),
        (Verdict::Redirect { .. }, _) => met.note("redirect"),
        (Verdict::Respond { .. }, _) => met.note("respond"),
        (Verdict::Health, _) => met.note("health"),
    }
    for other in &explanation.others {
        met.note(if other.how == How::Over { "over" } else { "not" });
    }
    if explanation.limits.iter().any(|limit| limit.answer == LimitAnswer::ShadowRefusal) {
        met.note("shadow");
    }
    trip.answered(http::StatusCode::OK);
}

fn listener(running: &Running, name: &str) -> Arc<LiveListener> {
    let listeners = running.node.listeners();
    let mut live = listeners.values().map(|serves| serves.borrow().clone());
    live.find(|live| live.name.as_str() == name).expect("the listener that was explained")
}

#[tokio::test]
async fn a_question_takes_nothing() {
    let world = Stage::new();
    let text = "version = 1\n[listen.main]\nbind = \"127.0.0.1:80\"\n[admin]\nenabled = false\n[[route]]\nmatch = \"/**\"\n\
                respond = { status = 204 }\nlimit = \"1/h per client_ip\"\n";
    let running = start(world.clone(), load(text, &world).expect("a configuration")).await.expect("a node that starts");
    let question = Question {
        method: "GET".into(),
        url: "http://a.test/".into(),
        headers: BTreeMap::new(),
        client_ip: Some([192, 0, 2, 1].into()),
        listener: None,
    };
    for _ in 0..3 {
        let explanation = explain(&running.node, &question).expect("an explanation");
        assert_eq!(explanation.verdict, Verdict::Respond { status: 204 });
        assert_eq!(explanation.limits[0].remaining, Some(1));
    }
}

/// Numbers of a seed.
struct Lot(u64);

impl Lot {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "PURGE"];
const HOSTS: &[&str] = &["a.test", "b.a.test", "c.b.a.test", "other.test"];
const SEGMENTS: &[&str] = &["a", "b", "c", "v1"];
const VALUES: &[&str] = &["1", "2", "3"];
const ADDRESSES: &[&str] = &["192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1", "10.0.0.1"];

/// A configuration that can be served; what is generated is tried until it can be.
fn configuration(lot: &mut Lot, world: &Stage) -> config::Gateway {
    loop {
        if let Some(gateway) = load(&written(lot), world) {
            return gateway;
        }
    }
}

fn load(text: &str, world: &Stage) -> Option<config::Gateway> {
    let loaded = config::load_text(Path::new("test.toml"), text, world);
    for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
        // Only what depends on several choices at once may go wrong here.
        assert!(matches!(problem.code, "E2041" | "E2024"), "{problem}\n{text}");
    }
    loaded.gateway
}

fn written(lot: &mut Lot) -> String {
    let mut text = String::from(
        "version = 1\n[node]\ntrusted_proxies = [\"10.0.0.0/8\"]\n[admin]\nenabled = false\n[telemetry]\naccess_log = { to = \"off\" }\n\
         [listen.plain]\nbind = \"127.0.0.1:80\"\nserve = [\"health\"]\nbounds = { head_size = \"8KiB\", uri_size = \"128B\" }\n\
         [listen.secure]\nbind = \"127.0.0.1:443\"\ntls = { cert = \"a.pem\", key = \"a.key\" }\n\
         [service.s0]\nendpoints = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n\
         [service.s1]\nendpoints = [\"http://127.0.0.1:3\"]\nbalance = { hash = \"client_ip\" }\n\
         [service.s2]\nendpoints = [\"http://127.0.0.1:4\"]\n",
    );
    for number in 0..3 {
        let (rate, burst) = (1 + lot.below(3), 1 + lot.below(4));
        let key = lot.of(&["client_ip", "header:x-a", "host", "route", "cookie:c"]);
        let mode = lot.of(&["enforce", "enforce", "shadow"]);
        let missing = lot.of(&["share", "skip", "refuse"]);
        text += &format!(
            "[limit.l{number}]\nrate = \"{rate}/s\"\nburst = {burst}\nkey = \"{key}\"\nmode = \"{mode}\"\nmissing = \"{missing}\"\n"
        );
    }
    for _ in 0..1 + lot.below(12) {
        text += &route(lot);
    }
    if lot.once_in(2) {
        let limit = lot.of(&["l0", "l1", "l2"]);
        text += &format!(
            "[[route]]\nid = \"rest\"\nmatch = \"/**\"\npriority = -1\nlimit = [\"{limit}\"]\nservice = \"s1\"\nwebsocket = false\n"
        );
    }
    text
}

fn route(lot: &mut Lot) -> String {
    let methods = if lot.once_in(2) { format!("{} ", lot.of(&["GET", "POST", "GET,HEAD", "PUT,PURGE"])) } else { String::new() };
    let host = if lot.once_in(2) { lot.of(&["a.test", "*.a.test", "*.test", "b.a.test"]) } else { "" };
    let mut path = String::new();
    for index in 0..lot.below(3) {
        path += "/";
        path += &if lot.once_in(3) { format!("{{p{index}}}") } else { lot.of(SEGMENTS).to_string() };
    }
    match lot.below(4) {
        0 => path += "/**",
        1 => path += "/{rest=**}",
        _ if path.is_empty() => path += "/",
        _ => {}
    }
    let mut text = format!("[[route]]\nmatch = \"{methods}{host}{path}\"\n");
    let mut add = |line: String| {
        text += &line;
        text += "\n";
    };
    if lot.once_in(4) {
        let wanted = lot.of(&["\"1\"", "{ regex = \"[12]\" }", "{ present = true }"]);
        add(format!("headers = {{ x-a = {wanted} }}"));
    }
    if lot.once_in(4) {
        let wanted = lot.of(&["\"1\"", "{ regex = \"[12]\" }", "{ present = true }"]);
        add(format!("query = {{ q = {wanted} }}"));
    }
    if lot.once_in(8) {
        add("path_regex = \"/(a|b).*\"".into());
    }
    if lot.once_in(2) {
        add(format!("priority = {}", lot.below(1_000)));
    }
    if lot.once_in(8) {
        add(format!("listen = [\"{}\"]", lot.of(&["plain", "secure"])));
    }
    if lot.once_in(3) {
        let limit =
            lot.of(&["\"l0\"", "\"l0\", \"l1\"", "\"l2\", \"l1\", \"l0\"", "\"2/s per client_ip,host\"", "\"l1\", \"1/s per header:x-b\""]);
        add(format!("limit = [{limit}]"));
    }
    match lot.below(6) {
        0 => add("allow = [\"192.0.2.0/24\", \"2001:db8::/32\"]".into()),
        1 => add("deny = [\"192.0.2.2\"]".into()),
        _ => {}
    }
    if lot.once_in(3) {
        add("encoded_slash = \"keep\"".into());
    }
    if lot.once_in(3) {
        add("semicolon = \"keep\"".into());
    }
    let captures = path.contains("{rest=**}");
    match lot.below(6) {
        0 => add(format!("respond = {{ status = {}, body = \"x\" }}", lot.of(&["200", "410", "418"]))),
        1 => add("redirect = { scheme = \"https\", port = 8443, status = 308 }".into()),
        2 if captures => add("redirect = { path = \"/moved/{rest}\", status = 301, query = \"drop\" }".into()),
        3 | 4 => {
            add("split = [{ service = \"s0\", weight = 3 }, { service = \"s1\", weight = 2 }, { service = \"s2\", weight = 1 }]".into());
            if lot.once_in(2) {
                add(format!("sticky = \"{}\"", lot.of(&["client_ip", "header:x-a", "cookie:c"])));
            }
        }
        _ => {
            add("service = \"s0\"".into());
            match lot.below(4) {
                0 if captures => add("request = { path = \"/in/{rest}\", query = { set = { a = \"b\" }, remove = [\"q\"] } }".into()),
                1 => add("max_body = \"1KiB\"".into()),
                2 => add("websocket = false".into()),
                _ => {}
            }
        }
    }
    text
}

fn question(lot: &mut Lot) -> Question {
    let mut path = String::new();
    for _ in 0..lot.below(4) {
        let strange = ["%61", "..", ".", "", "a%2Fb", "a;b", "..;", "%zz", "%c3%a4", "%00", "a%5cb", "readyz"];
        path += "/";
        path += if lot.once_in(16) { lot.of(&strange) } else { lot.of(SEGMENTS) };
    }
    match lot.below(24) {
        0 => path = "/readyz".into(),
        1 if lot.once_in(4) => path += &"/long".repeat(40),
        2 => path += "/",
        _ if path.is_empty() => path += "/",
        _ => {}
    }
    if lot.once_in(3) {
        path += &format!("?q={}&r=1", lot.of(VALUES));
    }
    let scheme = lot.of(&["http", "http", "https"]);
    let mut headers = BTreeMap::new();
    let mut add = |name: &str, value: &str| {
        headers.insert(name.to_string(), Values::One(value.to_string()));
    };
    for name in ["x-a", "x-b"] {
        if lot.once_in(2) {
            add(name, lot.of(VALUES));
        }
    }
    match lot.below(16) {
        0 => add("host", lot.of(&["A.test:80", "b.a.test.", "other.test", "c.b.a.test", "a b", "a.test:x"])),
        1 => add("transfer-encoding", lot.of(&["chunked", "gzip, chunked"])),
        2 => add("content-length", lot.of(&["1", "1025", "1048577", "x"])),
        3 => {
            add("connection", "upgrade");
            add("upgrade", "websocket");
        }
        4 if lot.once_in(8) => add("x_a", "1"),
        5 => add("connection", lot.of(&["x-a", "host", "close"])),
        6 => add("x-forwarded-for", lot.of(&["192.0.2.1, 10.0.0.2", "nobody", "2001:db8::2"])),
        7 => add("x-forwarded-proto", "https"),
        8 if lot.once_in(4) => add("x-large", &"x".repeat(9_000)),
        _ => {}
    }
    if lot.once_in(3) {
        add("cookie", lot.of(&["c=1; d=2", "d=2", "c=", "c=3"]));
    }
    Question {
        method: if lot.once_in(64) { lot.of(&["TRACE", "CONNECT"]) } else { lot.of(METHODS) }.into(),
        url: format!("{scheme}://{}{path}", lot.of(HOSTS)),
        headers,
        client_ip: Some(lot.of(ADDRESSES).parse().expect("an address")),
        listener: None,
    }
}

use super::question::Values;

/// A world without an outside: time and chance are what the test says, and nobody ever connects.
struct Stage {
    began: Instant,
    passed: AtomicU64,
    chance: AtomicU64,
    files: Arc<Files>,
}

impl Stage {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from; nothing depends on which")]
    fn new() -> Arc<Self> {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["a.test".to_string(), "*.a.test".to_string()];
        let mut certificate = CertificateParams::new(names).expect("names");
        certificate.not_before = rcgen::date_time_ymd(2000, 1, 1);
        certificate.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let certificate = certificate.self_signed(&key).expect("a certificate");
        let files = [("a.pem", certificate.pem()), ("a.key", key.serialize_pem())];
        let files = files.into_iter().map(|(name, text)| (PathBuf::from(name), text.into_bytes())).collect();
        Arc::new(Self {
            began: Instant::now(),
            passed: AtomicU64::new(0),
            chance: AtomicU64::new(7),
            files: Arc::new(Files(Mutex::new(files))),
        })
    }

    fn pass(&self, time: Duration) {
        self.passed.fetch_add(time.as_millis() as u64, Relaxed);
    }
}

impl World for Stage {
    fn now(&self) -> Instant {
        self.began + Duration::from_millis(self.passed.load(Relaxed))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn chance(&self) -> u64 {
        self.chance.load(Relaxed)
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(Deaf(address)) as Box<dyn Listener>) })
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], _: &'a dns::Question) -> BoxFuture<'a, dns::Answer> {
        Box::pin(async { dns::Answer::Nothing(dns::Absence::NoName) })
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move { work() })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        self.files.clone()
    }
}

impl Source for Stage {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// An address at which nobody is heard.
struct Deaf(SocketAddr);

impl Listener for Deaf {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        Poll::Pending
    }

    fn address(&self) -> SocketAddr {
        self.0
    }
}

struct Files(Mutex<HashMap<PathBuf, Vec<u8>>>);

impl Disk for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.lock().expect("no test panics with the files").get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn replace_secret(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, _: &Path) -> io::Result<Box<dyn cluster::DiskFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn append(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let length = self.read(path)?.len() as u64;
        Ok(Stamp { modified: Duration::ZERO, length, identity: 0 })
    }
}
