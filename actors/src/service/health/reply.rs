//! Whether what an endpoint said to a probe is what it should have said.

use config::ProbeKind;
use std::fmt;

/// What came of a probe that was answered, as far as its kind has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply<'a> {
    /// A connection stands.
    Connected,
    /// An answer, with the first 64 KiB of its body.
    Http { status: u16, body: &'a [u8] },
    /// What `grpc.health.v1.Health/Check` returned: the call's status and, where it is 0, the number of the serving status.
    Grpc { status: u32, serving: u32 },
}

/// Why a probe failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeError {
    /// No connection came about, and what the system or TLS said about it.
    Connect(String),
    Timeout,
    /// The connection was closed, or what came over it is no answer.
    Broken(String),
    Status(u16),
    /// The body does not contain what it has to.
    Body,
    /// The call itself failed.
    Grpc(u32),
    /// It says so itself, by the number of its serving status.
    NotServing(u32),
}

impl Reply<'_> {
    /// What it says about the endpoint, to whom `kind` is put. A reply to another kind of question is no answer.
    pub fn judge(self, kind: &ProbeKind) -> Result<(), ProbeError> {
        /// `SERVING` of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
        const SERVING: u32 = 1;
        match (kind, self) {
            (ProbeKind::Tcp, _) => Ok(()),
            (ProbeKind::Http { statuses, body: wanted, .. }, Reply::Http { status, body }) => {
                if !statuses.iter().any(|range| range.contains(status)) {
                    return Err(ProbeError::Status(status));
                }
                match wanted {
                    Some(wanted) if !contains(body, wanted.as_bytes()) => Err(ProbeError::Body),
                    _ => Ok(()),
                }
            }
            (ProbeKind::Grpc { .. }, Reply::Grpc { status: 0, serving: SERVING }) => Ok(()),
            (ProbeKind::Grpc { .. }, Reply::Grpc { status: 0, serving }) => Err(ProbeError::NotServing(serving)),
            (ProbeKind::Grpc { .. }, Reply::Grpc { status, .. }) => Err(ProbeError::Grpc(status)),
            (ProbeKind::Http { .. } | ProbeKind::Grpc { .. }, _) => Err(ProbeError::Broken("the answer is of another kind".to_string())),
        }
    }
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || body.windows(wanted.len()).any(|window| window == wanted)
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "not connected: {why}"),
            Self::Timeout => f.write_str("not answered in time"),
            Self::Broken(why) => write!(f, "broken off: {why}"),
            Self::Status(status) => write!(f, "answered {status}, which is not among the statuses that pass"),
            Self::Body => f.write_str("the body does not contain the text that it has to"),
            // The two that say that the endpoint was asked for what it does not have.
            Self::Grpc(12) => f.write_str("the endpoint does not implement grpc.health.v1"),
            Self::Grpc(5) | Self::NotServing(3) => f.write_str("the endpoint does not know the service that was asked for"),
            Self::Grpc(status) => write!(f, "the call ended with status {status}"),
            Self::NotServing(2) => f.write_str("the endpoint says that it is not serving"),
            Self::NotServing(status) => write!(f, "the endpoint says that its serving status is {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::StatusRange;

    #[track_caller]
    fn check(kind: &ProbeKind, reply: Reply<'_>, expected: Result<(), ProbeError>) {
        assert_eq!(reply.judge(kind), expected, "{reply:?}");
    }

    fn http(statuses: &[(u16, u16)], body: Option<&str>) -> ProbeKind {
        let statuses = statuses.iter().map(|(first, last)| StatusRange { first: *first, last: *last }).collect();
        ProbeKind::Http { path: "/".into(), host: None, statuses, body: body.map(Into::into) }
    }

    #[test]
    fn an_answer_passes_by_its_status_and_its_body() {
        let plain = http(&[(200, 299), (404, 404)], None);
        check(&plain, Reply::Http { status: 200, body: b"" }, Ok(()));
        check(&plain, Reply::Http { status: 299, body: b"" }, Ok(()));
        check(&plain, Reply::Http { status: 404, body: b"" }, Ok(()));
        check(&plain, Reply::Http { status: 300, body: b"" }, Err(ProbeError::Status(300)));
        let fine = http(&[(200, 299)], Some("fine"));
        check(&fine, Reply::Http { status: 200, body: b"all is fine." }, Ok(()));
        check(&fine, Reply::Http { status: 200, body: b"fin" }, Err(ProbeError::Body));
        check(&fine, Reply::Http { status: 503, body: b"fine" }, Err(ProbeError::Status(503)));
    }

    #[test]
    fn grpc_says_by_itself_whether_it_serves() {
        let grpc = ProbeKind::Grpc { service: "".into() };
        check(&grpc, Reply::Grpc { status: 0, serving: 1 }, Ok(()));
        check(&grpc, Reply::Grpc { status: 0, serving: 2 }, Err(ProbeError::NotServing(2)));
        check(&grpc, Reply::Grpc { status: 0, serving: 0 }, Err(ProbeError::NotServing(0)));
        check(&grpc, Reply::Grpc { status: 12, serving: 1 }, Err(ProbeError::Grpc(12)));
        assert!(Reply::Http { status: 200, body: b"" }.judge(&grpc).is_err());
    }

    #[test]
    fn a_connection_is_all_that_tcp_asks_for() {
        check(&ProbeKind::Tcp, Reply::Connected, Ok(()));
        assert!(Reply::Connected.judge(&http(&[(200, 299)], None)).is_err());
    }
}
