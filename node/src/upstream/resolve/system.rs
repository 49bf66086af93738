//! What the machine says about names: its list of hosts, its DNS servers, and where it looks for names that are not whole.
//!
//! Read anew for every question, as the C library does: a machine that moves to another network changes both files.

use cluster::{
    Disk,
    dns::{Absence, Answer, Question, Record, RecordKind},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
const PORT: u16 = 53;

/// A list of hosts says nothing of time; this is soon enough for a change of it.
const HOSTS_TTL: Duration = Duration::from_secs(10);

/// Bounds of resolv.conf(5).
const NDOTS_MAX: usize = 15;
const TIMEOUT_MAX: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// Domains that a name is looked for in, at most; as many as Kubernetes allows.
const SEARCH_MAX: usize = 32;

#[derive(PartialEq, Eq, Debug)]
pub(super) struct System {
    pub(super) servers: Vec<SocketAddr>,
    /// Without a dot at the end.
    search: Vec<String>,
    /// Dots that make a name be tried as it is before it is looked for in the search list.
    ndots: usize,
    /// For one server to answer one question.
    pub(super) timeout: Duration,
    /// How often every server is asked where none says anything.
    pub(super) attempts: u32,
    hosts: String,
}

impl System {
    /// Blocks. A file that does not exist says nothing, and neither does one that cannot be read.
    pub(super) fn read(disk: &dyn Disk) -> Self {
        let text = |path: &str| -> io::Result<String> { Ok(String::from_utf8_lossy(&disk.read(Path::new(path))?).into_owned()) };
        Self::of(&text(RESOLV_CONF).unwrap_or_default(), text(HOSTS).unwrap_or_default())
    }

    /// Takes what is understood, and the rest as if it was not there: a file for others may say more.
    pub(super) fn of(resolv_conf: &str, hosts: String) -> Self {
        let mut system = Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2, hosts };
        for line in resolv_conf.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, PORT));
                    system.servers.extend(server);
                }
                // The last of these lines counts.
                Some("search" | "domain") => {
                    let domains = words.map(|domain| domain.trim_matches('.').to_ascii_lowercase());
                    system.search = domains.filter(|domain| !domain.is_empty()).take(SEARCH_MAX).collect();
                }
                Some("options") => words.for_each(|option| system.option(option)),
                _ => {}
            }
        }
        system
    }

    fn option(&mut self, option: &str) {
        let Some((name, number)) = option.split_once(':') else { return };
        let Ok(number) = number.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = (number as usize).min(NDOTS_MAX),
            "timeout" => self.timeout = Duration::from_secs(u64::from(number).clamp(1, TIMEOUT_MAX)),
            "attempts" => self.attempts = number.clamp(1, ATTEMPTS_MAX),
            _ => {}
        }
    }

    /// What needs no server. A name in the list of hosts has the addresses that stand there and no others; `localhost` and
    /// `invalid`, and what is below them, never leave the machine (RFC 6761).
    pub(super) fn known(&self, question: &Question) -> Option<Answer> {
        let name = question.name.strip_suffix('.').unwrap_or(&question.name);
        let mut addresses = self.listed(name);
        let below = |top: &str| name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(top));
        let local = below("localhost");
        if addresses.is_empty() && local {
            addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if addresses.is_empty() && below("invalid") {
            return Some(Answer::Nothing(Absence::NoName));
        }
        if addresses.is_empty() || question.kind == RecordKind::Srv && !local {
            return None;
        }
        addresses.retain(|ip| match question.kind {
            RecordKind::A => ip.is_ipv4(),
            RecordKind::Aaaa => ip.is_ipv6(),
            RecordKind::Srv => false,
        });
        if addresses.is_empty() {
            return Some(Answer::Nothing(Absence::NoRecord));
        }
        Some(Answer::Records { records: addresses.into_iter().map(Record::Address).collect(), ttl: HOSTS_TTL })
    }

    fn listed(&self, name: &str) -> Vec<IpAddr> {
        let lines = self.hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
        lines
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let ip = words.next()?.parse().ok()?;
                words.any(|host| host.eq_ignore_ascii_case(name)).then_some(ip)
            })
            .collect()
    }

    /// The whole names that a name may stand for, in the order to try them, each with its dot at the end.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_string()];
        }
        let itself = format!("{name}.");
        let found = self.search.iter().map(|domain| format!("{name}.{domain}."));
        if name.matches('.').count() >= self.ndots {
            std::iter::once(itself).chain(found).collect()
        } else {
            found.chain(std::iter::once(itself)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: RecordKind) -> Question {
        Question { name: name.into(), kind }
    }

    #[test]
    fn resolv_conf_is_read_as_the_c_library_reads_it() {
        let check = |text: &str, expected: &str| {
            let system = System::of(text, String::new());
            let servers: Vec<_> = system.servers.iter().map(ToString::to_string).collect();
            let found = format!(
                "{} | {} | {} {} {}",
                servers.join(" "),
                system.search.join(" "),
                system.ndots,
                system.timeout.as_secs(),
                system.attempts
            );
            assert_eq!(found, expected, "{text}");
        };
        check("", " |  | 1 5 2");
        check("nameserver 10.0.0.10\nnameserver ::1\n", "10.0.0.10:53 [::1]:53 |  | 1 5 2");
        check("# nameserver 1.1.1.1\n; x\nnameserver dns.example\nnameserver", " |  | 1 5 2");
        check("search a.svc Cluster.Local.\noptions ndots:5 edns0 timeout:2 attempts:1", " | a.svc cluster.local | 5 2 1");
        check("search a b\ndomain c", " | c | 1 5 2");
        check("search -- .", " | -- | 1 5 2");
        check("options ndots:99 timeout:0 attempts:99 rotate ndots:x", " |  | 15 1 5");
        check(&format!("search {}", "d ".repeat(99)), &format!(" | {} | 1 5 2", vec!["d"; SEARCH_MAX].join(" ")));
    }

    #[test]
    fn a_name_that_is_not_whole_is_looked_for_in_the_search_list() {
        let check = |ndots: usize, name: &str, expected: &str| {
            let system = System::of(&format!("search a.test b.test\noptions ndots:{ndots}"), String::new());
            assert_eq!(system.candidates(name).join(" "), expected, "{ndots} {name}");
        };
        check(1, "orders", "orders.a.test. orders.b.test. orders.");
        check(1, "orders.shop", "orders.shop. orders.shop.a.test. orders.shop.b.test.");
        check(5, "orders.shop", "orders.shop.a.test. orders.shop.b.test. orders.shop.");
        check(5, "orders.shop.", "orders.shop.");
        check(0, "orders", "orders. orders.a.test. orders.b.test.");
    }

    #[test]
    fn what_the_machine_knows_is_asked_of_nobody() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1\tOrders orders.shop # 10.0.0.9 no\n10.0.0.2 orders\nfe80::1 orders\nx y\n10.0.0.3";
        let check = |name: &str, kind: RecordKind, expected: &str| {
            let found = match System::of("", hosts.into()).known(&question(name, kind)) {
                None => "asked".to_string(),
                Some(Answer::Nothing(absence)) => format!("{absence:?}"),
                Some(answer) => answer.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" "),
            };
            assert_eq!(found, expected, "{name} {kind:?}");
        };
        check("orders", RecordKind::A, "10.0.0.1 10.0.0.2");
        check("ORDERS.", RecordKind::Aaaa, "fe80::1");
        check("orders.shop", RecordKind::A, "10.0.0.1");
        check("orders.shop", RecordKind::Aaaa, "NoRecord");
        check("orders", RecordKind::Srv, "asked");
        check("no", RecordKind::A, "asked");
        check("y", RecordKind::A, "asked");
        check("localhost", RecordKind::A, "127.0.0.1");
        check("localhost", RecordKind::Aaaa, "NoRecord");
        check("a.LocalHost.", RecordKind::A, "127.0.0.1");
        check("a.localhost", RecordKind::Aaaa, "::1");
        check("localhost", RecordKind::Srv, "NoRecord");
        check("localhost.shop", RecordKind::A, "asked");
        check("orders.invalid", RecordKind::A, "NoName");
        check("orders.invalid.", RecordKind::Srv, "NoName");
    }
}
