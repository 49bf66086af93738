use super::*;
use cluster::{
    BoxFuture, BoxStream, Listener, Stamp,
    dns::{Answer, Question},
};
use http::{HeaderMap, StatusCode};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// A world with one sheet of paper, which may be full.
struct Desk(Arc<Paper>);

struct Paper {
    written: mpsc::UnboundedSender<(PathBuf, String)>,
    full: bool,
}

impl World for Desk {
    fn now(&self) -> Instant {
        unreachable!("a line brings its time")
    }

    fn wall(&self) -> SystemTime {
        unreachable!("a line brings its time")
    }

    fn chance(&self) -> u64 {
        unreachable!("a line brings its chance")
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        unreachable!("a log has no sockets")
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        unreachable!("a log has no sockets")
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], _: &'a Question) -> BoxFuture<'a, Answer> {
        unreachable!("a log has no sockets")
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async { work() })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        self.0.clone()
    }
}

impl Disk for Paper {
    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let text = String::from_utf8(content.to_vec()).expect("lines are UTF-8");
        self.written.send((path.into(), text)).expect("the test listens");
        Ok(())
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        unreachable!("a log only appends")
    }

    fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        unreachable!("a log only appends")
    }

    fn replace_secret(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        unreachable!("a log only appends")
    }

    fn open(&self, _: &Path) -> io::Result<Box<dyn cluster::DiskFile>> {
        unreachable!("a log only appends")
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        unreachable!("a log only appends")
    }

    fn stamp(&self, _: &Path) -> io::Result<Stamp> {
        unreachable!("a log only appends")
    }
}

fn desk(full: bool) -> (Desk, mpsc::UnboundedReceiver<(PathBuf, String)>) {
    let (written, sheets) = mpsc::unbounded_channel();
    (Desk(Arc::new(Paper { written, full })), sheets)
}

fn policy() -> Policy {
    let ratio = config::Ratio(1.0);
    let log = config::AccessLog { to: AccessLogTo::Stdout, success: ratio, errors: ratio, headers: Vec::new(), redact: Vec::new() };
    let node = config::Node {
        name: "west-1".into(),
        region: "west".into(),
        zone: "1".into(),
        state_dir: None,
        workers: None,
        max_connections: 1,
        max_connections_per_address: 1,
        trusted_proxies: Vec::new(),
        dns: Vec::new(),
        drain_wait: Duration::ZERO,
        drain_bound: Duration::ZERO,
    };
    Policy::new(&log, &node, &config::Revision("a1f3c9".into()))
}

fn write(log: &AccessLog, policy: &Policy, path: &str) {
    let line = Line {
        wall: UNIX_EPOCH,
        request_id: "1",
        trace: None,
        method: "GET",
        host: None,
        path,
        route: None,
        status: StatusCode::OK,
        error_code: None,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::ZERO,
        upstream_duration: None,
        service: None,
        upstream: None,
        retries: 0,
        limit: None,
        peer_ip: [127, 0, 0, 1].into(),
        client_ip: [127, 0, 0, 1].into(),
        tls: None,
        proto: "HTTP/2",
        headers: &HeaderMap::new(),
    };
    log.write(policy, &line);
}

#[tokio::test]
async fn lines_go_where_they_are_sent() {
    let (world, mut sheets) = desk(false);
    let (log, policy) = (AccessLog::new(2, Counter::default()), policy());
    log.send_to(&AccessLogTo::File("first".into()));
    write(&log, &policy, "/1");
    write(&log, &policy, "/2");
    log.flush(&world).await.expect("there is room");
    log.flush(&world).await.expect("there is room");
    log.send_to(&AccessLogTo::File("second".into()));
    log.send_to(&AccessLogTo::Off);
    write(&log, &policy, "/3");
    log.flush(&world).await.expect("there is room");
    drop(world);

    let mut seen = Vec::new();
    while let Some((path, text)) = sheets.recv().await {
        let paths: Vec<_> = ["/1", "/2", "/3"].into_iter().filter(|path| text.contains(&format!("\"{path}\""))).collect();
        assert_eq!(text.lines().count(), paths.len());
        seen.push((path, paths));
    }
    assert_eq!(seen, [("first".into(), vec!["/1", "/2"]), ("second".into(), vec!["/3"])]);
}

#[tokio::test]
async fn enough_lines_are_written_without_being_asked_for() {
    let (world, mut sheets) = desk(false);
    let log = Arc::new(AccessLog::new(1, Counter::default()));
    log.send_to(&AccessLogTo::File("log".into()));
    let running = tokio::spawn({
        let log = log.clone();
        async move { log.run(&world, |error| panic!("{error}")).await }
    });
    let policy = policy();
    let (mut written, mut read) = (0, 0);
    for _ in 0..3 {
        for _ in 0..1_000 {
            write(&log, &policy, "/");
            written += 1;
        }
        while read < written {
            read += sheets.recv().await.expect("the log runs").1.lines().count();
        }
    }
    running.abort();
    assert_eq!((read, log.dropped.get()), (3_000, 0));
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted() {
    let (world, mut sheets) = desk(false);
    let (log, policy) = (AccessLog::new(1, Counter::default()), policy());
    log.send_to(&AccessLogTo::File("log".into()));
    let path = "/long".repeat(200);
    for _ in 0..2_000 {
        write(&log, &policy, &path);
    }
    log.flush(&world).await.expect("there is room");
    let (_, text) = sheets.recv().await.expect("something fitted");
    assert!(text.len() <= BUFFER_MAX && text.ends_with("}\n"));
    assert_eq!(text.lines().count() as u64 + log.dropped.get(), 2_000);
}

#[tokio::test]
async fn a_full_disk_loses_lines_and_says_so() {
    let (world, _sheets) = desk(true);
    let (log, policy) = (AccessLog::new(1, Counter::default()), policy());
    write(&log, &policy, "/1");
    assert_eq!(log.flush(&world).await.expect_err("nowhere to go").kind(), io::ErrorKind::NotFound);
    log.send_to(&AccessLogTo::File("log".into()));
    write(&log, &policy, "/2");
    write(&log, &policy, "/3");
    assert_eq!(log.flush(&world).await.expect_err("the disk is full").kind(), io::ErrorKind::StorageFull);
    assert_eq!(log.dropped.get(), 3);
}

#[test]
fn a_buffer_in_use_is_passed_over() {
    let log = AccessLog::new(2, Counter::default());
    let held = lock(&log.buffers[0].0);
    assert!(log.keep(0, b"line\n"));
    let both = lock(&log.buffers[1].0);
    assert!(!log.keep(0, b"line\n"));
    assert_eq!((held.len(), both.len()), (0, 5));
}
