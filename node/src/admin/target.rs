//! Which page a request asks for, and what it asks of it.
//!
//! Segments are cut before they are decoded: a route's id may hold a slash, and an actor's always does, which then comes
//! as `%2F`.

use super::refusal::Refusal;
use http::Uri;
use std::borrow::Cow;

#[derive(PartialEq, Eq, Debug)]
pub(super) enum Target {
    Metrics,
    Routes,
    Route(String),
    Config,
    Upstreams,
    Drain {
        service: String,
        endpoint: String,
    },
    Undrain {
        service: String,
        endpoint: String,
    },
    Explain,
    Actors,
    Actor(String),
    History(String),
    Drills,
    Members,
    /// One member, or one of its pages, which is a path behind `/v1/`.
    Member {
        name: String,
        page: Option<String>,
    },
    /// Who sees whom, as they say themselves.
    Views,
    /// Whom this node sees.
    Sees,
    Join,
    Forget,
    Leave,
}

impl Target {
    pub(super) fn of(path: &str) -> Result<Self, Refusal> {
        match path {
            "/metrics" => Ok(Self::Metrics),
            "/v1/routes" => Ok(Self::Routes),
            "/v1/config" => Ok(Self::Config),
            "/v1/upstreams" => Ok(Self::Upstreams),
            "/v1/explain" => Ok(Self::Explain),
            "/v1/actors" => Ok(Self::Actors),
            "/v1/drills" => Ok(Self::Drills),
            "/v1/members" => Ok(Self::Members),
            "/v1/members/join" => Ok(Self::Join),
            "/v1/members/forget" => Ok(Self::Forget),
            "/v1/views" => Ok(Self::Views),
            "/v1/sees" => Ok(Self::Sees),
            "/v1/leave" => Ok(Self::Leave),
            _ => {
                if let Some(actor) = path.strip_prefix("/v1/actors/") {
                    return match actor.strip_suffix("/history") {
                        Some(id) => segment(id).map(Self::History),
                        None => segment(actor).map(Self::Actor),
                    };
                }
                if let Some(member) = path.strip_prefix("/v1/members/") {
                    let (name, page) = member.split_once('/').map_or((member, None), |(name, page)| (name, Some(page.to_string())));
                    return segment(name).map(|name| Self::Member { name, page });
                }
                if let Some(upstream) = path.strip_prefix("/v1/upstreams/") {
                    return endpoint(upstream);
                }
                let id = path.strip_prefix("/v1/routes/").or_else(|| path.strip_prefix("/routes/"));
                segment(id.ok_or(Refusal::NoPage)?).map(Self::Route)
            }
        }
    }
}

/// What is wanted of an endpoint: `SERVICE/endpoints/ENDPOINT/drain`, or `undrain`.
fn endpoint(written: &str) -> Result<Target, Refusal> {
    let segments: Vec<&str> = written.split('/').collect();
    let [service, "endpoints", endpoint, wish] = segments[..] else { return Err(Refusal::NoPage) };
    let (service, endpoint) = (segment(service)?, segment(endpoint)?);
    match wish {
        "drain" => Ok(Target::Drain { service, endpoint }),
        "undrain" => Ok(Target::Undrain { service, endpoint }),
        _ => Err(Refusal::NoPage),
    }
}

/// One segment of a path, decoded.
fn segment(written: &str) -> Result<String, Refusal> {
    if written.is_empty() || written.contains('/') {
        return Err(Refusal::NoPage);
    }
    decode(written).ok_or(Refusal::Encoding)
}

/// The parameters behind the `?`, as they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(&'a str);

/// Which part of a list is wanted.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub(super) limit: usize,
    /// The last id of the page before.
    pub(super) after: Option<String>,
}

/// Which actors are wanted.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Filter {
    /// Steps below the root, or below `under`.
    pub(super) depth: Option<usize>,
    /// This actor and all below it.
    pub(super) under: Option<String>,
    pub(super) kind: Option<String>,
    /// As it was written, for the way to the next page.
    pub(super) written: String,
}

impl Page {
    pub(super) const LIMIT: usize = 50;
    pub(super) const LIMIT_MAX: usize = 500;

    /// Where the page behind this id begins. Nobody should read anything into it.
    pub(super) fn cursor(after: &str) -> String {
        use std::fmt::Write;
        after.bytes().fold(String::with_capacity(after.len() * 2), |mut cursor, byte| {
            write!(cursor, "{byte:02x}").expect("a string takes whatever is written");
            cursor
        })
    }
}

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a Uri) -> Self {
        Self(uri.query().unwrap_or(""))
    }

    /// A parameter that is not known is refused: a misspelt `limit` would otherwise hide what was asked for.
    pub(super) fn none(self) -> Result<(), Refusal> {
        match self.pairs().next() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::Parameter { detail: format!("`{}` is not known here", shown(name)) }),
        }
    }

    pub(super) fn page(self) -> Result<Page, Refusal> {
        let mut page = Reading::default();
        for (name, value) in self.pairs() {
            if !page.takes(name, value)? {
                return Err(unknown(name, "`limit` and `cursor` are"));
            }
        }
        Ok(page.read())
    }

    pub(super) fn actors(self) -> Result<(Page, Filter), Refusal> {
        let (mut page, mut filter) = (Reading::default(), Filter::default());
        for (name, value) in self.pairs() {
            let decoded = || {
                decode(value).filter(|value| !value.is_empty()).ok_or_else(|| refused(format!("`{name}` is a word, encoded as in a path")))
            };
            let twice = match name {
                "depth" => {
                    let depth = value.parse().map_err(|_| refused("`depth` is a number of steps below the root".into()))?;
                    filter.depth.replace(depth).is_some()
                }
                "under" => filter.under.replace(decoded()?).is_some(),
                "kind" => filter.kind.replace(decoded()?).is_some(),
                _ if page.takes(name, value)? => continue,
                _ => return Err(unknown(name, "`depth`, `under`, `kind`, `limit` and `cursor` are")),
            };
            if twice {
                return Err(refused(format!("`{name}` is there twice")));
            }
            filter.written += &format!("&{name}={value}");
        }
        Ok((page.read(), filter))
    }

    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

/// A page whose parameters are being read.
#[derive(Default)]
struct Reading {
    limit: Option<usize>,
    after: Option<String>,
}

impl Reading {
    /// Whether the parameter is about which page is wanted.
    fn takes(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        let twice = match name {
            "limit" => match value.parse() {
                Ok(count) if (1..=Page::LIMIT_MAX).contains(&count) => self.limit.replace(count).is_some(),
                _ => return Err(refused(format!("`limit` is a number from 1 to {}", Page::LIMIT_MAX))),
            },
            "cursor" => match uncursor(value) {
                Some(id) => self.after.replace(id).is_some(),
                None => return Err(refused("`cursor` is what an answer gave as `next`".into())),
            },
            _ => return Ok(false),
        };
        if twice { Err(refused(format!("`{name}` is there twice"))) } else { Ok(true) }
    }

    fn read(self) -> Page {
        Page { limit: self.limit.unwrap_or(Page::LIMIT), after: self.after }
    }
}

fn refused(detail: String) -> Refusal {
    Refusal::Parameter { detail }
}

fn unknown(name: &str, known: &str) -> Refusal {
    refused(format!("`{}` is not known here; {known}", shown(name)))
}

/// A name for a sentence.
fn shown(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

fn uncursor(cursor: &str) -> Option<String> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    let pairs = cursor.as_bytes().chunks_exact(2);
    if cursor.is_empty() || !pairs.remainder().is_empty() {
        return None;
    }
    let bytes: Option<Vec<u8>> = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    String::from_utf8(bytes?).ok()
}

/// Resolves every `%XX` once. `None` if one is half, or if what comes out is not text.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = segment.bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                decoded.push((high << 4 | low) as u8);
            }
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_lead_to_pages() {
        for (path, expected) in [
            ("/metrics", Some(Target::Metrics)),
            ("/v1/routes", Some(Target::Routes)),
            ("/v1/config", Some(Target::Config)),
            ("/v1/upstreams", Some(Target::Upstreams)),
            (
                "/v1/upstreams/shop/endpoints/10.0.0.1:80/drain",
                Some(Target::Drain { service: "shop".into(), endpoint: "10.0.0.1:80".into() }),
            ),
            (
                "/v1/upstreams/shop/endpoints/a.test%40%5B::1%5D:80/undrain",
                Some(Target::Undrain { service: "shop".into(), endpoint: "a.test@[::1]:80".into() }),
            ),
            ("/v1/upstreams/shop/endpoints/10.0.0.1:80", None),
            ("/v1/upstreams/shop/endpoints/10.0.0.1:80/kill", None),
            ("/v1/upstreams/shop/endpoints//drain", None),
            ("/v1/upstreams/shop/endpoints/%ff/drain", None),
            ("/v1/upstreams//endpoints/10.0.0.1:80/drain", None),
            ("/v1/upstreams/shop", None),
            ("/v1/explain", Some(Target::Explain)),
            ("/v1/actors", Some(Target::Actors)),
            ("/v1/drills", Some(Target::Drills)),
            ("/v1/actors/root", Some(Target::Actor("root".into()))),
            ("/v1/actors/root%2Fservices%2Fshop%2Fpool:%5B::1%5D:80", Some(Target::Actor("root/services/shop/pool:[::1]:80".into()))),
            ("/v1/actors/root%2Fservices%2Fa%2520b", Some(Target::Actor("root/services/a%20b".into()))),
            ("/v1/actors/root%2Flimits/history", Some(Target::History("root/limits".into()))),
            ("/v1/actors/root/limits", None),
            ("/v1/actors/", None),
            ("/v1/actors//history", None),
            ("/routes/stock", Some(Target::Route("stock".into()))),
            ("/v1/routes/stock", Some(Target::Route("stock".into()))),
            ("/v1/routes/GET%20shop%2fv1%2F%7bsku%7D", Some(Target::Route("GET shop/v1/{sku}".into()))),
            ("/v1/routes/%252F", Some(Target::Route("%2F".into()))),
            ("/routes/%C3%A4", Some(Target::Route("ä".into()))),
            ("/routes/%ff", None),
            ("/routes/%4", None),
            ("/routes/%", None),
            ("/routes/%+1", None),
            ("/routes/a/b", None),
            ("/routes/", None),
            ("/routes", None),
            ("/v1/metrics", None),
            ("/metrics/", None),
            ("/", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(Target::of(path).ok(), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_read_strictly() {
        let page = |limit, after: Option<&str>| Some(Page { limit, after: after.map(str::to_owned) });
        for (query, expected) in [
            ("", page(50, None)),
            ("limit=500", page(500, None)),
            ("cursor=6162&limit=1", page(1, Some("ab"))),
            ("limit=0", None),
            ("limit=501", None),
            ("limit=-1", None),
            ("limit=", None),
            ("limit=1&limit=1", None),
            ("cursor=", None),
            ("cursor=6", None),
            ("cursor=ff", None),
            ("cursor=zz", None),
            ("limti=5", None),
        ] {
            assert_eq!(Query(query).page().ok(), expected, "{query}");
        }
        assert!(Query("").none().is_ok() && Query("&").none().is_ok() && Query("pretty").none().is_err());
    }

    #[test]
    fn actors_are_asked_for_strictly() {
        let filter = |depth, under: Option<&str>, kind: Option<&str>| Some((depth, under.map(str::to_owned), kind.map(str::to_owned)));
        for (query, expected) in [
            ("", filter(None, None, None)),
            ("depth=0&limit=1", filter(Some(0), None, None)),
            ("under=root%2Fservices&kind=pool", filter(None, Some("root/services"), Some("pool"))),
            ("depth=", None),
            ("depth=-1", None),
            ("depth=1&depth=1", None),
            ("under=", None),
            ("under=%ff", None),
            ("kind=pool&kind=shard", None),
            ("deep=1", None),
            ("limit=0", None),
        ] {
            let read = Query(query).actors().ok().map(|(_, filter)| (filter.depth, filter.under, filter.kind));
            assert_eq!(read, expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back(id in ".{1,40}") {
            prop_assert_eq!(uncursor(&Page::cursor(&id)), Some(id));
        }

        #[test]
        fn an_encoded_id_is_found(id in ".{1,20}") {
            let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(Target::of(&format!("/routes/{encoded}")).ok(), Some(Target::Route(id)));
        }

        #[test]
        fn any_path_is_survived(path in ".{0,40}|/routes/[%a-f0-9/]{0,20}") {
            let _ = Target::of(&path);
        }
    }
}
