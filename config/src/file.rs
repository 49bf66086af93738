//! What may be written: every table, every key, its type and its default.
//!
//! This is the one table of defaults, and the doc comments here are the manual: docs/configuration.md and the JSON Schema
//! are made from them. Everything that can be judged by looking at one value alone is judged while it is read; what
//! is wrong between the parts is the matter of `check`.

pub(crate) mod choice;
pub(crate) mod cluster;
pub(crate) mod endpoint;
pub(crate) mod judging;
pub(crate) mod manual;
pub(crate) mod quantity;
pub(crate) mod reader;
pub(crate) mod reference;
pub(crate) mod schema;
mod section;
pub(crate) mod shape;
pub(crate) mod text;
pub(crate) mod value;

pub(crate) use reader::{Read, Reader, near, reason};

use crate::{Family, KeyPart, LimitMode, Missing, Protocol, Rate, Ratio, Secret};
use choice::{AccessLogChoice, BalanceChoice, TlsChoice};
use cluster::{Advertised, ClusterName, SeedText};
use endpoint::{EndpointChoice, EndpointScheme, EndpointUrl, HostChoice, LookupName, ServerName};
use ipnet::IpNet;
use judging::{BreakerTable, HealthTable, OutlierTable};
use quantity::{Factor, MaxBody, Pause, Size, Total, Whole};
use reader::Words;
use reference::{Input, Output, Outside};
use section::section;
use std::{net::SocketAddr, time::Duration};
use text::{HeaderText, MatchText, Pattern, PatternPath, PatternTarget, Prefix, RedirectStatus, RespondStatus, Scheme, ValueChoice};
use value::{DnsServer, Http, List, LookupKind, MetricsAccess, Name, Named, OneOrMany, QueryOfRedirect, Scope, Serve, Tolerance, Version};

const COUNT: i64 = i64::MAX;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

section! {
    /// At the top of a file.
    Root {
        /// The version of this language.
        version: Version,
        /// Files that belong to it, relative to its folder: `["routes.d/*.toml"]`.
        /// `*` may stand only in the name of a file, matches are read in the order of their names, and an included file cannot include others.
        include: List<Words> = [],
        /// What this node is.
        node: NodeTable,
        /// The other nodes.
        cluster: ClusterTable,
        /// Where callers come in: `[listen.NAME]`, as many as you like.
        listen: Named<ListenTable> = {},
        /// Where requests go: `[service.NAME]`.
        service: Named<ServiceTable> = {},
        /// What happens to a request: `[[route]]`. The most specific match wins, wherever it stands.
        route: List<RouteTable> = [],
        /// How much is too much: `[limit.NAME]`, shared by all routes that name it.
        limit: Named<LimitTable> = {},
        /// Where operators come in.
        admin: AdminTable,
        /// What shoal tells about its work.
        telemetry: TelemetryTable,
        /// Breaking things on purpose.
        drills: DrillsTable,
    }
}

section! {
    /// This node.
    NodeTable {
        /// Its name in logs and metrics.
        name: Outside = "node",
        /// Where it runs, as in `westeurope`.
        region: Outside = "local",
        /// Where in the region it runs.
        zone: Outside = "local",
        /// A folder of its own for what must survive a restart.
        state_dir: Output,
        /// Threads that serve requests; one for each core where absent.
        /// Too few leave cores idle, more than cores cost context switches.
        workers: Whole<1, 1024>,
        /// Connections over all listeners; further ones are closed at once.
        /// Each idle one costs some ten KiB, so that memory is what bounds it.
        max_connections: Whole<1, COUNT> = 50000,
        /// Connections from one address (IPv6: from one /64), loopback and trusted proxies excepted.
        /// Too low hits offices behind one address, too high lets one caller take all.
        max_connections_per_address: Whole<1, COUNT> = 256,
        /// Whose `X-Forwarded-*` and `Forwarded` are believed; from others they are replaced.
        trusted_proxies: List<IpNet> = [],
        /// Resolvers that names of endpoints are asked of, as in `"10.0.0.10:53"`, in this order; those of `/etc/resolv.conf` where empty.
        dns: List<DnsServer> = [],
        /// How the node leaves.
        drain: DrainTable = {},
    }
}

section! {
    /// Leaving without failing a request.
    DrainTable {
        /// How long connections are still accepted while `/readyz` says no, so that load balancers notice. Too short, and
        /// callers meet a closed port.
        wait: Pause = "15s",
        /// How long requests in flight may take after that.
        bound: Pause = "30s",
    }
}

section! {
    /// The other nodes: how this one is found by them, finds them, and knows that it is them. A node without this section is alone.
    ClusterTable {
        /// What the cluster is called, the same on all of its nodes: lower-case letters, digits and `-`.
        name: ClusterName = required,
        /// Address and port where other nodes come in.
        bind: SocketAddr = required,
        /// The address that other nodes reach this one at; that of `bind` where absent. The port may be left out where it is the same.
        advertise: Advertised,
        /// Where other nodes may be found: `"host:port"`, `"dns:name:port"` for every address of a name, or `"srv:_name._tcp.domain"`.
        /// One that is up is enough, and a node that has been in the cluster finds it without any.
        join: List<SeedText> = [],
        /// A join token, as `shoal cluster token` prints it, for a node that has no certificate yet.
        token: Secret,
        /// Certificates that come from elsewhere, in place of those that the cluster makes.
        tls: ClusterTlsTable,
        /// The keyring of the cluster, as `shoal keyring new` makes it, where `tls` is given. Nodes that join by a token get it with their certificate.
        secrets: Secret,
    }
}

section! {
    /// A node's certificate from elsewhere. Changed files are read again without a restart.
    ClusterTlsTable {
        /// PEM file with the certificate and those that lead to its authority. Its SPIFFE id ends in the node's name, or its first DNS name is that.
        cert: Input = required,
        /// PEM file with the private key.
        key: Input = required,
        /// PEM file with the authorities that the nodes' certificates come from.
        ca: Input = required,
    }
}

section! {
    /// A bound address.
    ListenTable {
        /// Address and port, or several.
        bind: OneOrMany<SocketAddr> = required,
        /// Protocols that are spoken; with TLS chosen by ALPN, without it `h2` by prior knowledge.
        http: List<Http> = ["h1", "h2"],
        /// Certificates, or `"none"` to say that plaintext is meant. Off loopback one of the two should be written.
        tls: TlsChoice,
        /// Networks that must begin their connections with a PROXY header; empty means that nobody may.
        proxy_protocol: List<IpNet> = [],
        /// What is answered here beside the routes: `health` for `/livez`, `/readyz` and `/startupz`.
        serve: List<Serve> = [],
        /// Connections at a time. Further ones are closed at once.
        max_connections: Whole<1, COUNT> = 10000,
        /// What a caller may send, and how slowly.
        bounds: BoundsTable = {},
    }
}

section! {
    /// Bounds of a listener.
    BoundsTable {
        /// Size of a request's head; beyond it the answer is 431. Too low breaks large cookies.
        head_size: Size<{ 8 * KIB }, MIB> = "32KiB",
        /// Number of headers; beyond it the answer is 431.
        head_count: Whole<1, 1000> = 100,
        /// Size of a path with its query; beyond it the answer is 414.
        uri_size: Size<64, { 64 * KIB }> = "8KiB",
        /// Time for the head of a request to arrive; too long lets slow callers hold connections.
        head_timeout: Duration = "10s",
        /// How long a connection may be idle between requests. Too short costs handshakes; it should exceed that of the load balancer in front.
        keep_alive: Duration = "75s",
        /// Time between two pieces of a request's body.
        body_idle: Duration = "15s",
        /// Bytes a second that a body must reach once it has taken ten seconds.
        body_rate_min: Size<0, { 1024 * MIB }> = "500B",
        /// A write that makes no progress for so long ends the connection.
        write_stall: Duration = "30s",
        /// Time for a TLS handshake.
        tls_handshake: Duration = "5s",
        /// Requests after which a connection is closed politely.
        requests_per_connection: Whole<1, COUNT> = 10000,
        /// Concurrent streams of an HTTP/2 connection.
        h2_streams: Whole<1, 100_000> = 100,
        /// Control frames within ten seconds without a completed stream, beyond which an HTTP/2 connection is closed as abusive.
        h2_control_frames: Whole<10, 1_000_000> = 1000,
    }
}

section! {
    /// TLS of a listener. Changed files are read again without a restart.
    TlsTable {
        /// PEM file with the certificate and those that lead to its authority.
        cert: Input,
        /// PEM file with the private key.
        key: Input,
        /// Several certificates instead of one, chosen by the name that a caller asks for; the first where it names none.
        certificates: List<CertificateTable>,
        /// The oldest version of TLS that is spoken.
        min: crate::TlsVersion = "1.2",
        /// PEM file with the authorities of callers' certificates.
        client_ca: Input,
        /// Whether callers show a certificate; `required` where `client_ca` is given.
        client_auth: crate::ClientAuth,
    }
}

section! {
    /// A certificate and its key.
    CertificateTable {
        /// PEM file with the certificate and those that lead to its authority.
        cert: Input = required,
        /// PEM file with the private key.
        key: Input = required,
    }
}

section! {
    /// A set of endpoints that give the same answers.
    ServiceTable {
        /// Where it runs: `http://host:port`, `https://…`, or `h2c://…` for HTTP/2 in the clear. Every address of a host's name is an
        /// endpoint of its own. A service has either these or `discovery.name`.
        endpoints: List<EndpointChoice>,
        /// Looking up names, those of `endpoints` or one that stands for all of them.
        discovery: DiscoveryTable,
        /// How one is chosen: the better of two by latency and load, in turn, by requests in flight, or by a hash.
        balance: BalanceChoice = "peak_ewma",
        /// Share of endpoints that must be healthy for health to count. Below it, and when nobody farther away can help, requests go to all of
        /// them: that so many are down is less likely than that we see it wrongly, and the rest could not carry the load. `"0%"` turns it off.
        panic_threshold: Ratio = "50%",
        /// How an endpoint that is new or healthy again gets its share.
        slow_start: SlowStartTable = {},
        /// When requests go to endpoints farther away.
        locality: LocalityTable = {},
        /// What is spoken; `auto` is HTTP/1.1 in the clear and whatever ALPN agrees on over TLS.
        protocol: Protocol = "auto",
        /// TLS towards endpoints.
        tls: ServiceTlsTable,
        /// The `Host` that endpoints see: the caller's, the endpoint's own, or any other.
        host: HostChoice = "keep",
        /// How long is long enough.
        deadlines: DeadlinesTable = {},
        /// Trying again.
        retry: RetryTable = {},
        /// Connections that are kept.
        pool: PoolTable = {},
        /// Asking endpoints how they are. Nobody asks where absent.
        health: HealthTable,
        /// Ejecting endpoints whose requests fail.
        outlier: OutlierTable = {},
        /// Bounds of what is in flight, and breakers.
        breaker: BreakerTable = {},
    }
}

section! {
    /// An endpoint, and what is to be known of it.
    EndpointTable {
        /// Where it runs: `http://host:port`.
        url: EndpointUrl = required,
        /// Its share of requests against the weights of the others; 0 gets none. Where a name has several addresses, each has this weight.
        weight: Whole<0, 65_535> = 1,
        /// The region that it runs in; the node's own where absent.
        region: Words,
        /// The zone of that region that it runs in; the node's own where absent.
        zone: Words,
        /// Endpoints with a higher number are asked only when those with lower ones cannot carry the load. Within one number, those in the
        /// node's zone come first, then those in its region, then the others. Eight steps are told apart; whatever is beyond counts as the eighth.
        priority: Whole<0, 127> = 0,
        /// Whether it is leaving: it gets no new requests while another endpoint can take them, and those in flight end as they would.
        drain: bool = false,
    }
}

section! {
    /// Endpoints by name. Without `name` it is about the names in `endpoints`.
    DiscoveryTable {
        /// What is looked up: addresses (A and AAAA), or SRV records, which bring ports, weights and priorities; `dns` where absent.
        kind: LookupKind,
        /// The name, as in `orders.shop.internal` or `_http._tcp.orders.shop.internal`.
        name: LookupName,
        /// The port of every address, for `dns`; SRV records bring theirs.
        port: Whole<1, 65_535>,
        /// How endpoints are reached: `http` where absent, `https`, or `h2c` for HTTP/2 in the clear.
        scheme: EndpointScheme,
        /// Which addresses are used of a name that has both kinds. `auto` takes IPv4 if there is any and IPv6 otherwise; with `both`, a
        /// host that has an address of each kind counts as two endpoints.
        family: Family = "auto",
        /// An answer is used at least so long, even if its time to live is shorter. Too short asks the resolver too much.
        ttl_min: Duration = "1s",
        /// An answer is used at most so long, even if its time to live is longer. Too long finds changes late.
        ttl_max: Duration = "60s",
        /// How long the last addresses stay in use when the resolver says that the name is gone. A resolver that fails, or says
        /// nothing, never takes addresses away.
        stale: Pause = "5m",
    }
}

section! {
    /// A weight that grows: an endpoint that has just started has cold caches.
    SlowStartTable {
        /// How long it takes to grow, evenly, to the whole weight; `"0s"` turns it off. When a service begins and all are new, nobody waits.
        window: Pause = "30s",
        /// The share of its weight that it begins with. Too low and it stays cold, too high and it is overrun.
        weight_min: Ratio = "10%",
    }
}

section! {
    /// Near endpoints before far ones.
    LocalityTable {
        /// How many times its share a healthy endpoint is trusted with before requests spill to those farther away: at 1.4, as soon as less than
        /// 71 % are healthy. 1 spills with the first endpoint that fails; too high overloads those that are left.
        spill: Factor = 1.4,
        /// How long near endpoints must have been healthy before requests return to them. Too short, and they move to and fro.
        hysteresis: Pause = "30s",
    }
}

section! {
    /// The same key goes to the same endpoint.
    HashTable {
        /// What is hashed.
        hash: KeyPart = required,
        /// How many times its fair share an endpoint may carry before the next one helps. Too low moves keys often, too high lets
        /// one popular key overload its endpoint.
        bound: Factor = 1.25,
    }
}

section! {
    /// TLS towards endpoints.
    ServiceTlsTable {
        /// PEM file with the authorities that endpoints' certificates come from; the system's where absent.
        ca: Input,
        /// PEM file with a certificate to show.
        cert: Input,
        /// PEM file with its private key.
        key: Input,
        /// The name that is asked for and checked; the endpoint's own where absent.
        server_name: ServerName,
    }
}

section! {
    /// Deadlines of a service.
    DeadlinesTable {
        /// From the first byte of a request to the last of its answer; unbounded where absent or `"none"`, so that streams live.
        total: Total,
        /// Until a connection is there. Too short fails under load, too long delays the retry elsewhere.
        connect: Duration = "1s",
        /// From the request sent to the head of its answer; too short cuts off slow but healthy endpoints.
        first_byte: Duration = "30s",
        /// Between two pieces of an answer.
        idle: Duration = "300s",
    }
}

section! {
    /// Trying again, on another endpoint, only where nothing can be done twice.
    RetryTable {
        /// Attempts beyond the first; 0 turns it off.
        max: Whole<0, 10> = 1,
        /// Answers of an endpoint that are tried elsewhere too, for methods that are safe to repeat. `[]` passes all of them on.
        statuses: List<Whole<400, 599>> = [500, 502, 503, 504],
        /// Share of a service's requests that may be retries. Too high turns an outage into an avalanche.
        budget: Ratio = "20%",
        /// Retries a second that are allowed beside the share, for services with little traffic.
        budget_min: Whole<0, 1_000_000> = 10,
        /// The shortest wait before a retry; waits double, with chance in them.
        backoff_min: Pause = "25ms",
        /// The longest.
        backoff_max: Pause = "250ms",
    }
}

section! {
    /// Connections to endpoints.
    PoolTable {
        /// To one endpoint, busy and idle together. Further requests wait for one within their connect deadline.
        max_connections: Whole<1, COUNT> = 1024,
        /// Of these, how many may be idle; never more than `max_connections`.
        max_idle: Whole<0, COUNT> = 512,
        /// Connections that are kept open even if no request needs them, so that the first ones find them. Each costs the endpoint, too.
        warm: Whole<0, COUNT> = 0,
        /// How long one may be idle. It should be shorter than what the endpoint allows, or requests meet closed connections.
        idle: Duration = "60s",
        /// How old one may get before it is replaced, so that endpoints behind a changed name are found.
        age_max: Duration = "10m",
        /// How long requests may still be in flight to an address that has left; then their connections are closed.
        drain: Pause = "30s",
    }
}

section! {
    /// What happens to the requests that match.
    RouteTable {
        /// Its name in metrics, logs and the admin API; made from the match where absent.
        id: Name,
        /// Which requests: `"[METHOD[,METHOD] ][HOST]/PATH"`. Segments of the path are literals, `{name}` for one and `**` or `{name=**}` for all that follow.
        r#match: MatchText = required,
        /// Headers that a request must have: `{ name = "exact" }`, `{ name = { regex = "…" } }` or `{ name = { present = true } }`.
        headers: Named<ValueChoice> = {},
        /// Parameters of the query that it must have, written like `headers`.
        query: Named<ValueChoice> = {},
        /// What the whole path must match beside `match`.
        path_regex: Pattern,
        /// Decides between routes that are equally specific; the higher wins.
        priority: Whole<-1_000_000, 1_000_000>,
        /// Listeners that it is served on; all where empty.
        listen: List<Words> = [],
        /// Where requests go. A route has exactly one of `service`, `split`, `redirect` and `respond`.
        service: Words,
        /// Several services by weight.
        split: List<SplitTable>,
        /// What decides, instead of chance, which service of a split a caller stays with.
        sticky: KeyPart,
        /// Sends the caller elsewhere.
        redirect: RedirectTable,
        /// Answers by itself.
        respond: RespondTable,
        /// What it may cost: names of limits, or `"RATE[ burst N] per KEY[,KEY]"`. All have to agree.
        limit: OneOrMany<Words> = [],
        /// Networks that may call; all where empty.
        allow: List<IpNet> = [],
        /// Networks that may not; wins over `allow`.
        deny: List<IpNet> = [],
        /// What is changed on the way to the endpoint.
        request: RequestTable = {},
        /// What is changed on the way back.
        response: ResponseTable = {},
        /// Size of a request's body; beyond it the answer is 413.
        max_body: MaxBody = "1MiB",
        /// Overrides the service's, key by key.
        deadlines: DeadlinesOverride,
        /// Overrides the service's, key by key.
        retry: RetryOverride,
        /// What happens to `%2F` and `%5C` in a path: passed on as they are, or refused with 400.
        encoded_slash: Tolerance = "reject",
        /// What happens to `;` in a path.
        semicolon: Tolerance = "reject",
        /// Whether a request may become a WebSocket.
        websocket: bool = true,
    }
}

section! {
    /// A service and its share.
    SplitTable {
        /// Its name.
        service: Words = required,
        /// Its share against the weights of the others.
        weight: Whole<0, 1_000_000> = 1,
    }
}

section! {
    /// Where a caller is sent.
    RedirectTable {
        /// The whole location, `https://host/path{name}`; or its parts below. Without a path, the caller's is kept.
        to: PatternTarget,
        /// Only the scheme changes.
        scheme: Scheme,
        /// Only the host.
        host: ServerName,
        /// Only the port.
        port: Whole<1, 65_535>,
        /// Only the path, with captures of the match.
        path: PatternPath,
        /// 301, 302, 303, 307 or 308. The last two keep the method.
        status: RedirectStatus = 308,
        /// What happens to the caller's query.
        query: QueryOfRedirect = "keep",
    }
}

section! {
    /// An answer without an endpoint.
    RespondTable {
        /// Its status.
        status: RespondStatus = 200,
        /// Its body.
        body: Words = "",
        /// What the body is.
        content_type: HeaderText = "text/plain; charset=utf-8",
    }
}

section! {
    /// Changes of a request. Headers and parameters are removed first, then set, then added.
    RequestTable {
        /// Headers that replace what is there. A value may be `{ env = "X" }` or `{ file = "/path" }`.
        set: Named<Outside> = {},
        /// Headers beside what is there.
        add: Named<Outside> = {},
        /// Headers to take away.
        remove: List<Words> = [],
        /// The whole path anew, with captures of the match.
        path: PatternPath,
        /// Segments to take from the beginning of the path.
        strip_prefix: Prefix,
        /// Parameters.
        query: QueryTable = {},
    }
}

section! {
    /// Changes of a query.
    QueryTable {
        /// Parameters that replace what is there.
        set: Named<Words> = {},
        /// Parameters to take away.
        remove: List<Words> = [],
    }
}

section! {
    /// Changes of an answer. Headers are removed first, then set, then added.
    ResponseTable {
        /// Headers that replace what is there.
        set: Named<Outside> = {},
        /// Headers beside what is there.
        add: Named<Outside> = {},
        /// Headers to take away.
        remove: List<Words> = [],
    }
}

section! {
    /// Deadlines of a route; those of its service where a key is absent.
    DeadlinesOverride {
        /// From the first byte of a request to the last of its answer; `"none"` takes the service's away.
        total: Total,
        /// Until a connection is there.
        connect: Duration,
        /// From the request sent to the head of its answer.
        first_byte: Duration,
        /// Between two pieces of an answer.
        idle: Duration,
    }
}

section! {
    /// Retries of a route; those of its service where a key is absent.
    RetryOverride {
        /// Attempts beyond the first; 0 turns it off.
        max: Whole<0, 10>,
        /// Answers of an endpoint that are tried elsewhere too.
        statuses: List<Whole<400, 599>>,
        /// Share of a service's requests that may be retries.
        budget: Ratio,
        /// Retries a second that are allowed beside the share.
        budget_min: Whole<0, 1_000_000>,
        /// The shortest wait before a retry.
        backoff_min: Pause,
        /// The longest.
        backoff_max: Pause,
    }
}

section! {
    /// A limit that several routes can share.
    LimitTable {
        /// How many over time, on average.
        rate: Rate = required,
        /// How many at once; one second of the rate where absent, and at least 1.
        burst: Whole<1, { crate::pattern::BURST_MAX as i64 }>,
        /// What is counted apart: `client_ip`, `header:NAME`, `cookie:NAME`, `path:CAPTURE`, `host`, `route`, or several of them.
        key: OneOrMany<KeyPart> = "client_ip",
        /// Whether requests are refused, or only counted as if they were.
        mode: LimitMode = "enforce",
        /// What happens to requests without a value for the key: one bucket for all of them, no limit, or refusal.
        missing: Missing = "share",
        /// Over what is counted.
        scope: Scope = "node",
    }
}

section! {
    /// The admin API. Reachable off loopback only with TLS and a token of your own.
    AdminTable {
        /// Whether there is one.
        enabled: bool = true,
        /// Address and port.
        bind: SocketAddr = "127.0.0.1:9901",
        /// What callers show as a bearer token; one is made at every start where absent. Take 32 characters by chance.
        token: Secret,
        /// Whether `/metrics` asks for the token.
        metrics: MetricsAccess = "token",
        /// Certificates, as for a listener.
        tls: TlsChoice,
    }
}

section! {
    /// What shoal tells about its work.
    TelemetryTable {
        /// One line for each request.
        access_log: AccessLogTable = {},
        /// Time series of `/metrics`; further ones are counted under `_other`. Too high costs memory here and money there.
        max_series: Whole<100, 10_000_000> = 10000,
    }
}

section! {
    /// The access log.
    AccessLogTable {
        /// Where it goes.
        to: AccessLogChoice = "stdout",
        /// Share of answers below 400 that are written.
        success: Ratio = "100%",
        /// Share of the others.
        errors: Ratio = "100%",
        /// Request headers that are written too.
        headers: List<Words> = [],
        /// Headers whose value is never written, beside these four.
        redact: List<Words> = ["authorization", "cookie", "set-cookie", "x-api-key"],
    }
}

section! {
    /// Drills, for a node that nobody depends on or a team that knows what it does.
    DrillsTable {
        /// Whether an operator may kill and stall parts of the node through the admin API.
        allow: bool = false,
    }
}

section! {
    /// A file to write to.
    OutputTable {
        /// Its path.
        file: Output = required,
    }
}

/// The headers of all tables that have a key, as an error names them.
fn tables_with(key: &str) -> Vec<String> {
    fn search(shape: &shape::Shape, name: &str, key: &str, found: &mut Vec<String>) {
        let Some(table) = shape.table() else { return };
        let keys = (table.keys)();
        if keys.iter().any(|known| known.name == key) {
            found.push(name.to_string());
        }
        for inner in keys {
            search(&inner.shape, &format!("`{}` of {}", inner.name, name.rsplit(" of ").next().unwrap_or(name)), key, found);
        }
    }
    let mut found = Vec::new();
    let shape::Shape::Table(root) = Root::shape() else { return found };
    for section in (root.keys)() {
        search(&section.shape, &manual::header(section.name, &section.shape), key, &mut found);
    }
    found.truncate(3);
    found
}
