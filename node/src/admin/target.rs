//! Which page a request asks for, and what it asks of it.
//!
//! Segments are cut before they are decoded: a route's id may hold a slash, which then comes as `%2F`.

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
    Explain,
}

impl Target {
    pub(super) fn of(path: &str) -> Result<Self, Refusal> {
        match path {
            "/metrics" => Ok(Self::Metrics),
            "/v1/routes" => Ok(Self::Routes),
            "/v1/config" => Ok(Self::Config),
            "/v1/upstreams" => Ok(Self::Upstreams),
            "/v1/explain" => Ok(Self::Explain),
            _ => {
                let id = path.strip_prefix("/v1/routes/").or_else(|| path.strip_prefix("/routes/"));
                match id {
                    Some(id) if !id.is_empty() && !id.contains('/') => Ok(Self::Route(decode(id).ok_or(Refusal::Encoding)?)),
                    _ => Err(Refusal::NoPage),
                }
            }
        }
    }
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
        let refuse = |detail| Err(Refusal::Parameter { detail });
        let (mut limit, mut after) = (None, None);
        for (name, value) in self.pairs() {
            match name {
                "limit" if limit.is_none() => match value.parse() {
                    Ok(count) if (1..=Page::LIMIT_MAX).contains(&count) => limit = Some(count),
                    _ => return refuse(format!("`limit` is a number from 1 to {}", Page::LIMIT_MAX)),
                },
                "cursor" if after.is_none() => match uncursor(value) {
                    Some(id) => after = Some(id),
                    None => return refuse("`cursor` is what an answer gave as `next`".into()),
                },
                "limit" | "cursor" => return refuse(format!("`{name}` is there twice")),
                _ => return refuse(format!("`{}` is not known here; `limit` and `cursor` are", shown(name))),
            }
        }
        Ok(Page { limit: limit.unwrap_or(Page::LIMIT), after })
    }

    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
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
            ("/v1/explain", Some(Target::Explain)),
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
