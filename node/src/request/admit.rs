//! Whether a request may go on: by where it comes from, and by what it has used up.

use crate::{
    request::{
        answer::Answer,
        origin::client_key,
        rejection::{Limited, Rejection, seconds_up},
    },
    snapshot::{Fnv, LiveLimit, LiveRoute},
};
use actors::limiter::{Decision, KeyHasher, Take};
use config::{Balance, KeyPart, Missing, Networks, Route};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use std::{fmt::Write, net::IpAddr, time::Duration};

static RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Deny wins; an empty `allow` allows everyone.
pub(crate) fn network(networks: &Networks, client: IpAddr) -> Result<(), Rejection> {
    let denied = networks.deny.iter().any(|network| network.contains(&client));
    let allowed = networks.allow.is_empty() || networks.allow.iter().any(|network| network.contains(&client));
    if denied || !allowed { Err(Rejection::Network) } else { Ok(()) }
}

/// What a key can be made of: one request, after routing.
pub(crate) struct Keys<'a> {
    pub(crate) client_ip: IpAddr,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) host: &'a str,
    /// Normalised.
    pub(crate) path: &'a str,
    pub(crate) route: &'a Route,
}

impl Keys<'_> {
    /// Gives the value of one part to `take`; false where the request has none.
    pub(crate) fn part(&self, part: &KeyPart, take: &mut impl FnMut(&[u8])) -> bool {
        let found = match part {
            KeyPart::ClientIp => {
                take(&client_key(self.client_ip));
                return true;
            }
            KeyPart::Header(name) => only(self.headers.get_all(name).iter()).map(HeaderValue::as_bytes),
            KeyPart::Cookie(name) => cookie(self.headers, name),
            KeyPart::Path(name) => self.route.matcher.path.capture(self.path, name).map(str::as_bytes),
            KeyPart::Host => Some(self.host.as_bytes()),
            KeyPart::Route => Some(self.route.id.as_str().as_bytes()),
        };
        // An empty value names nobody: a caller must not get a bucket of its own by sending an empty header.
        match found.filter(|value| !value.is_empty()) {
            Some(value) => take(value),
            None => return false,
        }
        true
    }

    /// A number that is the same for the same value, on every node; `None` where there is no value.
    pub(crate) fn number(&self, part: &KeyPart) -> Option<u64> {
        let mut hash = Fnv::default();
        let found = self.part(part, &mut |value| hash.add(value));
        found.then(|| hash.mixed())
    }

    /// What chooses a service of a split: the caller's own value, or chance.
    pub(crate) fn lot(&self, sticky: Option<&KeyPart>, chance: impl FnOnce() -> u64) -> u64 {
        sticky.and_then(|part| self.number(part)).unwrap_or_else(chance)
    }

    /// What a hashing balancer goes by.
    pub(crate) fn affinity(&self, balance: &Balance) -> Option<u64> {
        match balance {
            Balance::Hash { key, .. } => self.number(key),
            _ => None,
        }
    }

    fn hash(&self, parts: &[KeyPart], hasher: &mut KeyHasher) -> bool {
        let mut complete = true;
        for part in parts {
            let found = self.part(part, &mut |value| {
                hasher.value(value);
            });
            if !found {
                hasher.absent();
                complete = false;
            }
        }
        complete
    }
}

/// The only one. Which of several an endpoint would go by is not known here, and a caller must not choose what it is
/// counted as apart from what it is served as.
fn only<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    values.next().filter(|_| values.next().is_none())
}

/// A cookie's value (RFC 6265, section 5.4), the first where there are several.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..equals].trim_ascii_end() == name.as_bytes()).then(|| pair[equals + 1..].trim_ascii())
    })
}

/// That the limits let a request pass, and what its caller is told about them.
pub(crate) struct Grant<'a> {
    live: &'a LiveRoute,
    /// `None` where the route has no limit that applies.
    decision: Option<Decision>,
    /// Which limits of the route were asked, where not all of them were.
    asked: Option<Vec<usize>>,
}

/// Puts a request to all limits of its route that apply, by `spend`: they let it pass together, or it is refused.
pub(crate) fn limits<'a>(
    live: &'a LiveRoute,
    keys: &Keys<'_>,
    spend: impl FnOnce(&[Take<'_>]) -> Decision,
) -> Result<Grant<'a>, Rejection> {
    let mut grant = Grant { live, decision: None, asked: None };
    if live.limits.is_empty() {
        return Ok(grant);
    }
    let mut takes = Vec::with_capacity(live.limits.len());
    for (index, limited) in live.limits.iter().enumerate() {
        let mut hasher = limited.policy.key();
        let complete = keys.hash(&limited.limit.key, &mut hasher);
        match (complete, limited.limit.missing) {
            (false, Missing::Skip) => {
                grant.asked.get_or_insert_with(|| (0..index).collect());
                continue;
            }
            (false, Missing::Refuse) => return Err(Rejection::LimitKey),
            _ => {}
        }
        if let Some(asked) = &mut grant.asked {
            asked.push(index);
        }
        takes.push(Take { policy: &limited.policy, key: hasher.finish(), cost: 1 });
    }
    if takes.is_empty() {
        return Ok(grant);
    }
    let decision = spend(&takes);
    let granted = decision.granted();
    grant.decision = Some(decision);
    if granted { Ok(grant) } else { Err(Rejection::Limited(grant.refusal())) }
}

impl Grant<'_> {
    fn limit(&self, take: usize) -> &LiveLimit {
        &self.live.limits[self.asked.as_ref().map_or(take, |asked| asked[take])]
    }

    fn refusal(&self) -> Limited {
        let decision = self.decision.as_ref().expect("what has been refused has been decided");
        let tightest = decision.tightest().expect("only a limit that is enforced refuses");
        let retry_after = decision.retry_after().unwrap_or(Duration::from_secs(u32::MAX.into()));
        Limited { policy: self.limit(tightest).limit.name.clone(), retry_after, fields: self.fields() }
    }

    /// Adds the `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers-11). What an endpoint says of
    /// limits of its own stays beside them: both fields are lists.
    pub(crate) fn annotate(&self, mut response: Response<Answer>) -> Response<Answer> {
        if let Some(fields) = self.fields() {
            fields.write(response.headers_mut());
        }
        response
    }

    fn fields(&self) -> Option<RateLimitFields> {
        let decision = self.decision.as_ref()?;
        let policy = self.live.limit_policies.clone()?;
        let tightest = decision.tightest()?;
        let verdict = decision.verdicts().nth(tightest)?;
        let wait = if verdict.granted() { verdict.reset() } else { verdict.retry_after().unwrap_or(verdict.reset()) };
        let mut text = String::with_capacity(48);
        let name = &self.limit(tightest).quoted;
        write!(text, "{name};r={};t={}", verdict.remaining(), seconds_up(wait)).expect("writing to a string cannot go wrong");
        let state = HeaderValue::try_from(text).ok()?;
        Some(RateLimitFields { policy, state })
    }
}

/// What a caller is told about its limits.
#[derive(Clone, Debug)]
pub(crate) struct RateLimitFields {
    policy: HeaderValue,
    state: HeaderValue,
}

impl RateLimitFields {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.append(&RATELIMIT_POLICY, self.policy);
        headers.append(&RATELIMIT, self.state);
    }
}

/// A name as a structured field's string (RFC 9651, section 3.3.3): quoted, and only what may stand in one.
pub(crate) fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}
