//! `shoal error`: what a code means and what to do about it, also without a network.
//!
//! E1xxx to W4xxx are about a configuration, and `config` knows them. E4xxx and E5xxx end a request, E6xxx a verb of the
//! command line, E9xxx a question to admin.

use super::{Exit, Failure, Terminal};
use ::config::explain_code;

pub(super) const USAGE: &str = "E6000";
pub(super) const NO_FILE: &str = "E6001";
pub(super) const PROBLEMS: &str = "E6002";
pub(super) const BIND: &str = "E6003";
pub(super) const TLS: &str = "E6004";
pub(super) const UNREACHABLE: &str = "E6005";
pub(super) const TOKEN: &str = "E6006";
pub(super) const NOT_READY: &str = "E6007";
pub(super) const OTHER_VERSION: &str = "E6008";
pub(super) const OUTPUT: &str = "E6009";
pub(super) const NO_CODE: &str = "E6010";
pub(super) const SIGNALS: &str = "E6011";
pub(super) const NO_SERVICE: &str = "E6012";
pub(super) const NO_MEMBER: &str = "E6020";
pub(super) const STILL_THERE: &str = "E6021";
pub(super) const CLUSTER: &str = "E6022";
pub(super) const NO_CLUSTER: &str = "E6013";
pub(super) const CLUSTER_EXISTS: &str = "E6014";
pub(super) const MEMORY: &str = "E6015";
pub(super) const AUTHORITY: &str = "E6016";
pub(super) const KEYRING: &str = "E6017";

/// Columns of a paragraph on a terminal.
const WIDTH: usize = 88;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// As in E4290.
    code: String,
}

pub(super) fn error(args: &Args, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let code = args.code.to_ascii_uppercase();
    let Some(text) = meaning(&code) else {
        let help = "codes are a letter and four digits, as problems, logs and answers show them".to_string();
        return Err(Failure { exit: Exit::Failed, code: NO_CODE, message: format!("there is no code `{code}`"), help: Some(help) });
    };
    writeln!(terminal.out, "{code}\n{}", wrapped(text))?;
    Ok(Exit::Ok)
}

fn meaning(code: &str) -> Option<&'static str> {
    let ours = TABLE.iter().find(|(known, _)| *known == code).map(|(_, text)| *text);
    ours.or_else(|| explain_code(code))
}

/// A code of the table, as it stands there.
pub(super) fn known(code: &str) -> &'static str {
    TABLE.iter().find(|(known, _)| *known == code).map(|(known, _)| *known).expect("the code is in the table")
}

/// The text in lines of two spaces and some words.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from(" ")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line from the beginning");
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("  {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n")
}

const TABLE: &[(&str, &str)] = &[
    (
        "E4000",
        "The head of the request says two things, or something that no endpoint should see: several Hosts, a length and an \
         encoding, a name with an underscore, a body that is longer than it says. Nothing of it was forwarded, and an HTTP/1.1 \
         connection was closed after it. The detail of the answer says what it was; the caller has to send it differently.",
    ),
    (
        "E4001",
        "The path could be read in more than one way: an encoded slash, a semicolon, an escape that is none, a path that leaves \
         its root, bytes that are not UTF-8. The detail of the answer says which. Where a route means to take them, \
         `encoded_slash = \"keep\"` and `semicolon = \"keep\"` let the first two pass.",
    ),
    (
        "E4030",
        "The route has `allow` or `deny`, and the caller's address is not among those that may call. Deny wins. Behind a load \
         balancer, name it in `[node] trusted_proxies`, or every caller has its address. `shoal explain --client-ip` shows how \
         an address is judged.",
    ),
    ("E4031", "The request asks for a WebSocket, and the route says `websocket = false`."),
    (
        "E4040",
        "No route takes the request. `shoal explain METHOD URL` names the routes that came near and what each of them misses: often \
         a host that is written on the route, a method, or the listener.",
    ),
    ("E4050", "TRACE is never forwarded: it would show a caller what proxies have added to its request."),
    (
        "E4080",
        "The body stood still longer than the listener's `bounds.body_idle`, or came slower than `bounds.body_rate_min` once it had \
         taken ten seconds. Slow callers on purpose are what these bounds are for; for slow networks, lower the rate.",
    ),
    (
        "E4130",
        "The body is longer than the route's `max_body`, which is 1MiB where the route does not say. `max_body = \"unlimited\"` streams \
         whatever comes.",
    ),
    ("E4140", "The target of the request is longer than the listener's `bounds.uri_size`. Parameters of that size belong into a body."),
    (
        "E4210",
        "The connection was opened for one host and the request asks for another, which the certificate of the connection does not \
         cover. Well-behaved callers open another connection. Where both names belong together, use a certificate that has both.",
    ),
    (
        "E4290",
        "A limit of the route had no token left. The answer names the limit and says in `Retry-After` when there will be one. \
         `shoal explain` shows by what the caller is counted; `mode = \"shadow\"` counts without refusing.",
    ),
    (
        "E4291",
        "A limit of the route counts by something that the request does not have, such as a header, and says `missing = \"refuse\"`. \
         The caller has to send it, or the limit has to say `missing = \"share\"` or `\"skip\"`.",
    ),
    (
        "E4310",
        "The head of the request has more fields than the listener's `bounds.head_count`, or more bytes than `bounds.head_size`. Cookies \
         that grow without end are the usual cause.",
    ),
    (
        "E4990",
        "The caller went away before it had the whole answer, or before it had sent its whole body. Many of them at once mean that \
         callers are less patient than the service is fast.",
    ),
    ("E5010", "CONNECT is not served: a gateway opens no tunnels to wherever a caller likes."),
    (
        "E5020",
        "No endpoint of the service could be connected to within `deadlines.connect`, the retries included. `shoal upstreams` \
         shows the endpoints and what each of them failed by; the access log names the one that was asked last.",
    ),
    (
        "E5021",
        "An endpoint was connected to, and what it sent was no HTTP, or it closed the connection before it had answered. Check that the \
         endpoint speaks the service's `protocol`, and that its keep-alive is longer than `pool.idle`.",
    ),
    (
        "E5022",
        "The endpoint broke off its answer, after the head of it had been passed on. The caller has seen a connection that ends early.",
    ),
    (
        "E5030",
        "All connections that `pool.max_connections` allows to the endpoint were busy, and none came free within `deadlines.connect`. \
         The service is slower than it is asked, or the pool is too small.",
    ),
    (
        "E5031",
        "As many requests to the service are in flight as `breaker.max_requests` allows, or as many to each of its endpoints as \
         `breaker.max_requests_per_endpoint` does. Either the service has become slow, or the bound is too small for what it is asked.",
    ),
    (
        "E5032",
        "All connections that `pool.max_connections` allows were busy, and `breaker.max_waiting` requests waited for one already. One more \
         would wait in vain.",
    ),
    (
        "E5033",
        "Every endpoint that could have been asked has failed so large a share of its requests that its breaker is open \
         (`breaker.error_ratio`). `shoal upstreams` shows what they failed by and when they are tried again.",
    ),
    (
        "E5034",
        "The service's name (`discovery.name`) has no SRV records with addresses: none was found yet, or the name has been gone for longer \
         than `discovery.stale`. `shoal upstreams` shows what is known of the name and why.",
    ),
    ("E5040", "The endpoint had the request and did not begin to answer within `deadlines.first_byte`."),
    ("E5041", "The request took longer than `deadlines.total`. If the answer had begun, it was cut off."),
    (
        "E5042",
        "The endpoint paused in the middle of its answer for longer than `deadlines.idle`. A stream that is silent for long needs a \
         longer one, or a sign of life now and then.",
    ),
    (USAGE, "The command line was not understood. `shoal --help` and `shoal VERB --help` say what may be written."),
    (
        NO_FILE,
        "No file was named, and there is no shoal.toml in this folder. Ten lines are enough for one; `shoal proxy` and `shoal demo` need \
         none.",
    ),
    (
        PROBLEMS,
        "The configuration has errors, which are shown above with their places. A node is never started with half a configuration, and \
         one that runs goes on with what it has.",
    ),
    (
        BIND,
        "An address could not be bound. Most often another process listens there (`ss -ltnp` shows which), or the port is below 1024 and \
         the process may not use those, or the address is not one of this machine.",
    ),
    (TLS, "A certificate, a key or an authority could not be used: the message says which file and why. Nothing was bound."),
    (
        UNREACHABLE,
        "The node that was asked did not answer as one. Its admin listener is at 127.0.0.1:9901 unless its file says otherwise; \
         --admin or SHOAL_ADMIN names another. `shoal explain --on FILE` needs no node.",
    ),
    (
        TOKEN,
        "Admin asks for its token. It is set in `[admin] token`, or else made at every start and printed with the banner. Give it by \
         --token or SHOAL_TOKEN.",
    ),
    (NOT_READY, "The node answers and does not want requests: it is starting, or it is on its way out."),
    (OTHER_VERSION, "The node's answer could not be read. It is probably another version of shoal than the one that asked."),
    (OUTPUT, "What was to be printed could not be written: the pipe it went to is closed, or the disk is full."),
    (NO_CODE, "`shoal error` was asked about a code that this version does not have."),
    (
        SIGNALS,
        "The operating system did not let the process listen for signals or make its threads, so it could not be told to stop. Look at the \
         limits of the process.",
    ),
    (NO_SERVICE, "`shoal upstreams` was asked about a service that the node's configuration does not have. Without a name it shows all."),
    (
        NO_CLUSTER,
        "The verb is about a cluster, and the configuration says nothing of one, or not enough: a node of a cluster has `[cluster]` with \
         a name, `[node]` with a name of its own and a `state_dir`, and no `tls` where the cluster makes its certificates itself. Or the node \
         has not been made a member yet.",
    ),
    (
        CLUSTER_EXISTS,
        "What was to be made is there already, and nothing was written over. A root key that is lost cannot be made again: other nodes \
         believe the one that there was.",
    ),
    (
        MEMORY,
        "What the node remembers in `[node] state_dir` could not be read or written: the message says which file and why. A node that \
         runs goes on without it; a command that is about nothing else cannot.",
    ),
    (AUTHORITY, "A certificate could not be made, because the authority for it is missing, has expired, or cannot be read."),
    (
        KEYRING,
        "The keyring stays as it is. A key is added on every node before any uses it, used on every node before the old one is removed; \
         `shoal keyring list` shows where this one is.",
    ),
    (NO_MEMBER, "The cluster has no such member, as the node that was asked knows it. `shoal members` lists whom it knows."),
    (
        STILL_THERE,
        "The node was told to drain and has not ended in time. Requests in flight may take `[node] drain.bound`; connections are cut off after that.",
    ),
    (
        CLUSTER,
        "A node with a `[cluster]` needs a way to show who it is: a certificate in its `state_dir`, a join token, certificates from outside, or, \
         on loopback alone, --insecure-dev. The message says what is missing. `shoal cluster init` makes a new cluster, `shoal cluster token` lets \
         a node into one.",
    ),
    ("E9001", "A request to admin named no host, or two that differ. HTTP/1.1 asks for exactly one `Host`."),
    (
        "E9002",
        "Admin was called by a name that is not its own. It answers to its addresses, to localhost, and to the names of its certificate, so \
         that a page on the web cannot reach it by a name that points here.",
    ),
    ("E9003", "A browser sent the question for a page of another site. Admin answers its own pages only."),
    ("E9004", "The question needs the admin token, as `Authorization: Bearer TOKEN`."),
    ("E9005", "The admin token is wrong. A node without `[admin] token` makes a new one at every start."),
    ("E9006", "Ten wrong tokens came within a minute. The right one is still taken; wrong ones are answered later."),
    ("E9007", "The path of a question to admin is not UTF-8, or has a percent sign without two hexadecimal digits."),
    ("E9008", "Admin has no such page."),
    ("E9009", "No route has this id in the revision that is served. `/v1/routes` lists them."),
    (
        "E9010",
        "The page exists and does not know the method. Reading is GET; `/v1/explain`, `/v1/drills`, `/v1/leave`, and orders to endpoints and \
         members take POST.",
    ),
    ("E9011", "A parameter of the question is unknown, repeated, or out of its range. The detail says which."),
    ("E9012", "A body for admin has to be labelled `Content-Type: application/json`."),
    ("E9013", "The body of a question to admin is larger than it reads."),
    ("E9014", "The body of a question to admin is not JSON. The detail says where."),
    (
        "E9015",
        "The question is JSON and cannot be answered: a member is missing or unknown, the URL is none, or the listener does not exist.",
    ),
    (
        "E9016",
        "A drill breaks something on purpose, and a node refuses it unless its file says `[drills] allow = true`. Say so where nobody \
         depends on the node, or where you know what you do.",
    ),
    ("E9017", "No actor of the node has this id. `shoal actors tree` shows all of them; `root/` in front may be left out."),
    (
        "E9018",
        "The actor was part of the node and is not any more, most often because a reload took away its service or its endpoint. The \
         answer says how its last life ended.",
    ),
    (
        "E9019",
        "A drill needs an actor that runs. This one has just failed, or waits to be started again, or one above it does, \
         without which nobody below it is started: the detail says which. `shoal actors why` tells its story.",
    ),
    ("E9020", "The node's configuration has no service of this name. `shoal upstreams` shows all of them."),
    (
        "E9021",
        "The service has no endpoint of this name now. An endpoint is called by its address and port, and one that was found by a name as \
         `name@address:port`; `shoal upstreams SERVICE` shows them.",
    ),
    (
        "E9022",
        "The endpoint is the last one of its service that is well: if it drained, requests would go to endpoints that fail, or would still go \
         to it where all others drain too. `--force` insists, and `shoal upstreams` shows what is wrong with the others.",
    ),
    (
        "E9023",
        "The file says `drain = true` of this endpoint, and an order cannot take that back. Take it out of the file; a reload is enough.",
    ),
    (
        "E9030",
        "The node was asked about its cluster and has none: its file has no `[cluster]`. That takes effect at a start, not at a reload.",
    ),
    (
        "E9031",
        "The node knows no member of this name, or none in this region. `shoal members` lists whom it knows, those that are gone included.",
    ),
    (
        "E9032",
        "A page of another member was asked for, and that member did not answer: it is gone, cut off, or too busy. The detail says which, \
         and since when it has not been seen. Ask again, or ask the member itself.",
    ),
    (
        "E9033",
        "Members are forgotten when they are gone and will not come back. One that is alive would be back within a second; tell it to \
         leave instead.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code that stands in a source, between quotation marks.
    fn codes(source: &str) -> impl Iterator<Item = &str> {
        let quoted = source.split('"').skip(1).step_by(2);
        quoted.filter(|text| text.len() == 5 && text.starts_with('E') && text[1..].bytes().all(|byte| byte.is_ascii_digit()))
    }

    #[test]
    fn every_code_that_can_be_met_is_explained() {
        let mut met = 0;
        for source in [include_str!("../request/rejection.rs"), include_str!("../admin/refusal.rs"), include_str!("error.rs")] {
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for code in codes(source) {
                met += 1;
                assert!(meaning(code).is_some(), "nothing is said about {code}");
            }
        }
        assert!(met > 40, "the sources are not read any more: {met}");
    }

    #[test]
    fn no_code_means_two_things() {
        for (index, (code, text)) in TABLE.iter().enumerate() {
            assert!(explain_code(code).is_none(), "{code} is also a problem of a configuration");
            assert!(TABLE[..index].iter().all(|(earlier, _)| earlier < code), "{code} is out of order or used twice");
            assert!(text.ends_with('.') && !text.contains("  "), "{code}: {text}");
        }
    }

    #[test]
    fn a_paragraph_fits_a_terminal() {
        let shown = wrapped(meaning("E4290").expect("a text"));
        assert!(shown.lines().count() > 1);
        assert!(shown.lines().all(|line| line.starts_with("  ") && line.chars().count() <= WIDTH), "{shown}");
    }
}
