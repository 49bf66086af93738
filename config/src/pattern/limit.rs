//! Limits on the spot, and the keys that limits count by.

use super::{PatternError, header_name, path};
use crate::{KeyPart, Rate, problem::codes};
use std::ops::Range;

/// A limit that a route has for itself.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct InlineLimit {
    pub(crate) rate: Rate,
    pub(crate) burst: Option<u64>,
    /// With the place of each inside the text.
    pub(crate) key: Vec<(KeyPart, Range<usize>)>,
}

/// Whether a text is meant to be a limit on the spot: no name has a slash or a space.
pub(crate) fn is_inline_limit(text: &str) -> bool {
    text.contains(['/', ' '])
}

pub(crate) fn inline_limit(text: &str) -> Result<InlineLimit, PatternError> {
    const FORM: &str = "a limit is the name of a [limit.NAME], or RATE[ burst N] per KEY[,KEY], as in `10/s burst 20 per client_ip`";
    let wrong = |range: Range<usize>, message: String| Err(PatternError::new(codes::BAD_LIMIT, range, message, FORM));
    let mut words = Vec::new();
    let mut at = 0;
    for word in text.split(' ') {
        words.push((word, at..at + word.len()));
        at += word.len() + 1;
    }
    let (rate, burst, per) = match &words[..] {
        [rate, (word, _), burst, rest @ ..] if *word == "burst" => (rate, Some(burst), rest),
        [rate, rest @ ..] => (rate, None, rest),
        [] => unreachable!("splitting a text gives at least one piece"),
    };
    let rate = Rate::parse(rate.0)
        .map_err(|error| PatternError::new(codes::BAD_QUANTITY, rate.1.clone(), format!("`{}` is no rate", rate.0), error.0))?;
    let burst = match burst {
        None => None,
        Some((number, range)) => match number.parse::<u64>() {
            Ok(burst @ 1..=BURST_MAX) => Some(burst),
            _ => return wrong(range.clone(), format!("a burst is a whole number of at least 1, not `{number}`")),
        },
    };
    let (keys, range) = match per {
        [(word, _), keys] if *word == "per" => keys,
        [] => return wrong(0..text.len(), "this limit does not say what it counts apart".to_string()),
        [(word, range), ..] if *word != "per" => return wrong(range.clone(), format!("`per` is expected here, not `{word}`")),
        [(_, range)] => return wrong(range.clone(), "a key is missing behind `per`".to_string()),
        [_, _, (_, range), ..] => return wrong(range.start..text.len(), "keys are separated by commas, without spaces".to_string()),
        _ => return wrong(0..text.len(), "this is no limit".to_string()),
    };
    let mut key = Vec::new();
    let mut at = range.start;
    for word in keys.split(',') {
        let part = key_part(word).map_err(|error| error.moved(at))?;
        if key.iter().any(|(earlier, _)| *earlier == part) {
            return wrong(at..at + word.len(), format!("`{word}` is named twice"));
        }
        key.push((part, at..at + word.len()));
        at += word.len() + 1;
    }
    Ok(InlineLimit { rate, burst, key })
}

/// Far beyond what anyone admits at once, and far from overflowing.
pub(crate) const BURST_MAX: u64 = 1_000_000_000;

pub(crate) fn key_part(text: &str) -> Result<KeyPart, PatternError> {
    const FORM: &str = "a key is client_ip, header:NAME, cookie:NAME, path:CAPTURE, host or route";
    let all = 0..text.len();
    let wrong = |message: String| Err(PatternError::new(codes::BAD_KEY, all.clone(), message, FORM));
    match text.split_once(':') {
        None => match text {
            "client_ip" => Ok(KeyPart::ClientIp),
            "host" => Ok(KeyPart::Host),
            "route" => Ok(KeyPart::Route),
            "principal" => Err(later(all, text)),
            _ => {
                let near = crate::file::near(text, ["client_ip", "host", "route"]);
                wrong(format!("`{text}` is no key{}", near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()))
            }
        },
        Some(("claim", _)) => Err(later(all, text)),
        Some((_, "")) => wrong(format!("`{text}` names nothing")),
        Some(("header", name)) => match header_name(name) {
            Ok(name) => Ok(KeyPart::Header(name)),
            Err(error) => Err(error.moved("header:".len())),
        },
        Some(("cookie", name)) if name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b)) => {
            Ok(KeyPart::Cookie(name.into()))
        }
        Some(("path", name)) if path::is_capture(name) => Ok(KeyPart::Path(name.into())),
        Some(_) => wrong(format!("`{text}` is no key")),
    }
}

fn later(range: Range<usize>, text: &str) -> PatternError {
    let help = "limit by client_ip or header:NAME";
    PatternError::new(
        codes::NOT_IN_THIS_VERSION,
        range,
        format!("this version of shoal does not know callers, so `{text}` is no key yet"),
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn keys_say_what_is_counted_apart() {
        for (text, expected) in [
            ("client_ip", Ok(KeyPart::ClientIp)),
            ("host", Ok(KeyPart::Host)),
            ("route", Ok(KeyPart::Route)),
            ("header:X-Tenant", Ok(KeyPart::Header(HeaderName::from_static("x-tenant")))),
            ("cookie:sid", Ok(KeyPart::Cookie("sid".into()))),
            ("path:id", Ok(KeyPart::Path("id".into()))),
            ("clientip", Err(codes::BAD_KEY)),
            ("header:", Err(codes::BAD_KEY)),
            ("header:x_y", Err(codes::BAD_HEADER)),
            ("path:a-b", Err(codes::BAD_KEY)),
            ("principal", Err(codes::NOT_IN_THIS_VERSION)),
            ("claim:sub", Err(codes::NOT_IN_THIS_VERSION)),
        ] {
            assert_eq!(key_part(text).map_err(|error| error.code), expected, "{text}");
        }
    }

    #[test]
    fn a_limit_on_the_spot_is_a_rate_a_burst_and_keys() {
        let check = |text: &str, expected: &str| {
            let found = match inline_limit(text) {
                Ok(limit) => {
                    format!("{} {:?} {:?}", limit.rate, limit.burst, limit.key.iter().map(|(_, at)| &text[at.clone()]).collect::<Vec<_>>())
                }
                Err(error) => format!("{} at `{}`", error.code, &text[error.range]),
            };
            assert_eq!(found, expected, "{text}");
        };
        check("10/s per client_ip", "10/s None [\"client_ip\"]");
        check("5/min burst 20 per header:x-a,path:id", "5/min Some(20) [\"header:x-a\", \"path:id\"]");
        check("10/s", "E1115 at `10/s`");
        check("10/s per", "E1115 at `per`");
        check("10/s by client_ip", "E1115 at `by`");
        check("10/m per client_ip", "E1104 at `10/m`");
        check("10/s burst 0 per client_ip", "E1115 at `0`");
        check("10/s per client_ip, host", "E1115 at `host`");
        check("10/s per client_ip,", "E1114 at ``");
        check("10/s per client_ip host", "E1115 at `host`");
        check("10/s per host,host", "E1115 at `host`");
        check("10/s per client_ip,hots", "E1114 at `hots`");
    }
}
