//! `shoal proxy`: everything that comes in at one address goes to one target, as if a file said so.

use super::{Exit, FILE, Failure, Surroundings, Terminal, ask::Address, run};
use ::config::{OsSource, load_text};
use std::{net::SocketAddr, path::Path};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Where to listen: `127.0.0.1:8080`, or `:8080` for this machine alone.
    listen: String,
    /// Where requests go: `http://127.0.0.1:3000`, `https://…`, `h2c://…`.
    target: String,
}

pub(super) fn proxy(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let (listen, target) = (listen(&args.listen)?, target(&args.target)?);
    if args.listen.starts_with(':') {
        let port = listen.port();
        writeln!(terminal.err, "`:{port}` listens for this machine alone; write 0.0.0.0:{port} to let others in")?;
    }
    let loaded = load_text(Path::new("shoal proxy"), &text(listen, &target), &OsSource::default());
    for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
        write!(terminal.err, "{problem}")?;
    }
    let Some(gateway) = loaded.gateway else { return Err(Failure::problems(&loaded.problems)) };
    run::serve(gateway, None, crate::cluster::part::Given::default(), surroundings, terminal)
}

fn listen(text: &str) -> Result<SocketAddr, Failure> {
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    whole.parse().map_err(|_| Failure::usage(format!("`{text}` is no address to listen on"), "write it as 127.0.0.1:8080 or :8080"))
}

/// The endpoint, as a file would name it.
fn target(text: &str) -> Result<String, Failure> {
    let (h2c, rest) = match text.strip_prefix("h2c://") {
        Some(rest) => (true, format!("http://{rest}")),
        None => (false, text.to_string()),
    };
    let address: Address = rest.parse().map_err(|_| {
        let help = format!("write it as http://127.0.0.1:3000; routes that rewrite paths are written in {FILE}");
        Failure::usage(format!("`{text}` is no target"), help)
    })?;
    Ok(if h2c { format!("h2c://{}", address.authority()) } else { address.to_string() })
}

/// What a file would say. Nothing that a proxy passes through is bounded by a size, because nobody has said one.
fn text(listen: SocketAddr, target: &str) -> String {
    format!(
        r#"[listen.main]
bind = "{listen}"
tls  = "none"

[service.target]
endpoints = ["{target}"]

[[route]]
id       = "everything"
match    = "/**"
service  = "target"
max_body = "unlimited"

[admin]
enabled = false
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listen_at: &str, to: &str, expected: &str) {
        let read = listen(listen_at).and_then(|listen| {
            let loaded = load_text(Path::new("shoal proxy"), &text(listen, &target(to)?), &OsSource::default());
            assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
            let gateway = loaded.gateway.expect("a gateway without problems");
            let endpoint = &gateway.services[0].endpoints[0];
            Ok(format!(
                "{} -> {} tls={} {:?}",
                gateway.listeners[0].bind[0],
                endpoint.authority(),
                endpoint.tls,
                gateway.services[0].protocol
            ))
        });
        assert_eq!(read.unwrap_or_else(|failure| failure.message), expected);
    }

    #[test]
    fn addresses_may_be_written_short() {
        check(":8080", "http://127.0.0.1:3000", "127.0.0.1:8080 -> 127.0.0.1:3000 tls=false Auto");
        check("0.0.0.0:8080", ":3000", "0.0.0.0:8080 -> 127.0.0.1:3000 tls=false Auto");
        check("localhost:1", "localhost:3000", "127.0.0.1:1 -> localhost:3000 tls=false Auto");
        check("[::1]:1", "https://shop.example", "[::1]:1 -> shop.example:443 tls=true Auto");
        check(":1", "h2c://127.0.0.1:3000", "127.0.0.1:1 -> 127.0.0.1:3000 tls=false H2");
        check("8080", ":1", "`8080` is no address to listen on");
        check(":1", "http://a.example/path", "`http://a.example/path` is no target");
        check(":1", "a.example", "`a.example` is no target");
    }
}
