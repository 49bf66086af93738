//! Paths with captures: those that match, and those that are made.

use super::PatternError;
use crate::{PathPattern, Rest, Segment, TemplatePart, problem::codes};
use std::{ops::Range, sync::Arc};

/// The walk over patterns is as deep as the deepest; requests of the default 8 KiB can be longer and then match nothing.
const SEGMENTS_MAX: usize = 128;

/// Reads the path of a match, which begins with a slash.
pub(crate) fn path(text: &str) -> Result<PathPattern, PatternError> {
    if let Some(at) = text.find(['?', '#']) {
        let help = if text[at..].starts_with('?') { "use `query = { name = \"value\" }`" } else { "callers never send a fragment" };
        return Err(PatternError::new(codes::BAD_PATH, at..text.len(), "a match ends with its path", help));
    }
    let mut pattern = PathPattern { segments: Vec::new(), rest: None };
    let mut at = 1;
    let mut left = text[1..].split('/').peekable();
    while let Some(segment) = left.next() {
        let range = at..at + segment.len();
        let last = left.peek().is_none();
        if let Some(rest) = rest(segment) {
            let name = rest.map_err(|error| error.moved(range.start))?;
            if !last {
                let help = "move it to the end, or write `{name}` for a single segment";
                return Err(PatternError::new(codes::BAD_CAPTURE, range, format!("`{segment}` can only be the last segment"), help));
            }
            twice(&pattern, &name, &range)?;
            pattern.rest = Some(Rest(name));
        } else {
            let segment = self::segment(segment, last).map_err(|error| error.moved(range.start))?;
            if let Segment::Capture(name) = &segment {
                twice(&pattern, name, &range)?;
            }
            pattern.segments.push(segment);
        }
        at = range.end + 1;
    }
    if pattern.segments.len() > SEGMENTS_MAX {
        let help = format!("shorten it to {SEGMENTS_MAX} segments, or end it with `**`");
        return Err(PatternError::new(codes::BAD_PATH, 0..text.len(), "this path has too many segments", help));
    }
    Ok(pattern)
}

fn twice(pattern: &PathPattern, name: &str, range: &Range<usize>) -> Result<(), PatternError> {
    if name.is_empty() || !pattern.capture_names().any(|earlier| earlier == name) {
        return Ok(());
    }
    Err(PatternError::new(codes::BAD_CAPTURE, range.clone(), format!("`{name}` is captured twice"), "give one of them another name"))
}

pub(super) fn is_capture(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 64
}

/// The name in `**` (none) or `{name=**}`, if the segment is one of them.
fn rest(segment: &str) -> Option<Result<Arc<str>, PatternError>> {
    if segment == "**" {
        return Some(Ok("".into()));
    }
    let name = segment.strip_prefix('{')?.strip_suffix("=**}")?;
    Some(capture_name(name, 1))
}

fn capture_name(name: &str, at: usize) -> Result<Arc<str>, PatternError> {
    if is_capture(name) {
        return Ok(name.into());
    }
    let message = if name.is_empty() { "a capture needs a name".to_string() } else { format!("`{name}` cannot name a capture") };
    let help = "names of captures consist of letters, digits and `_`, and begin with a letter: `{name}`";
    Err(PatternError::new(codes::BAD_CAPTURE, at..at + name.len(), message, help))
}

fn segment(text: &str, last: bool) -> Result<Segment, PatternError> {
    let all = 0..text.len();
    let whole = text.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    if let Some(name) = whole.filter(|name| !name.contains(['{', '}'])) {
        return capture_name(name, 1).map(Segment::Capture);
    }
    if text.contains(['{', '}']) {
        return Err(PatternError::new(
            codes::BAD_CAPTURE,
            all,
            format!("`{text}` mixes a capture with other text"),
            "a capture is a whole segment: `/{name}/`",
        ));
    }
    if text.contains('*') {
        let help = "one segment is written `{name}`, everything that is left `**`";
        return Err(PatternError::new(codes::BAD_CAPTURE, all, format!("`{text}` means nothing as a segment"), help));
    }
    if let Some(name) = text.strip_prefix(':') {
        return Err(PatternError::new(codes::BAD_CAPTURE, all, format!("`{text}` is no capture"), format!("write `{{{name}}}`")));
    }
    if text.is_empty() && !last {
        return Err(PatternError::new(
            codes::BAD_PATH,
            all,
            "there are two slashes in a row",
            "write one: doubled slashes are merged before matching",
        ));
    }
    let literal = normalised(text, is_segment_byte)?;
    if literal == "." || literal == ".." {
        return Err(PatternError::new(
            codes::BAD_PATH,
            all,
            format!("`{text}` is resolved before matching"),
            "write the path that it leads to",
        ));
    }
    Ok(Segment::Literal(literal.into()))
}

/// What RFC 3986 allows in a segment without encoding it.
fn is_segment_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Writes a text as a normalised request has it: unreserved characters decoded, all others than `allowed` encoded in capitals.
fn normalised(text: &str, allowed: fn(u8) -> bool) -> Result<String, PatternError> {
    let mut literal = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'%' {
            let Some(code) = text.get(at + 1..at + 3).filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit())) else {
                return Err(PatternError::new(
                    codes::BAD_PATH,
                    at..at + 1,
                    "a `%` encodes a byte by two digits",
                    "write %25 for the sign itself",
                ));
            };
            let decoded = u8::from_str_radix(code, 16).expect("two hexadecimal digits are a byte");
            match decoded {
                b'/' | b'\\' | 0..=31 | 127 => {
                    let help = "requests with it are refused, or match by what they are before it is decoded";
                    return Err(PatternError::new(codes::BAD_PATH, at..at + 3, format!("`%{code}` cannot be matched"), help));
                }
                unreserved if unreserved.is_ascii_alphanumeric() || b"-._~".contains(&unreserved) => literal.push(char::from(unreserved)),
                _ => {
                    literal.push('%');
                    literal.push_str(&code.to_ascii_uppercase());
                }
            }
            at += 3;
        } else if !byte.is_ascii() {
            literal.push_str(&format!("%{byte:02X}"));
            at += 1;
        } else if allowed(byte) {
            literal.push(char::from(byte));
            at += 1;
        } else {
            let message = format!("`{}` cannot stand in a path", char::from(byte).escape_default());
            return Err(PatternError::new(codes::BAD_PATH, at..at + 1, message, format!("write %{byte:02X}")));
        }
    }
    Ok(literal)
}

/// A template and where in it each capture stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Template {
    pub(crate) template: crate::Template,
    pub(crate) captures: Vec<(Arc<str>, Range<usize>)>,
}

/// Reads a path with captures in braces. A `?` is allowed where a query may follow.
pub(crate) fn template(text: &str, query: bool) -> Result<Template, PatternError> {
    if !text.starts_with('/') {
        return Err(PatternError::new(codes::BAD_TEXT, 0..text.len(), "a path begins with a slash", format!("write /{text}")));
    }
    let mut parts = Vec::new();
    let mut captures = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let left = &text[at..];
        if let Some(inner) = left.strip_prefix('{') {
            let Some(end) = inner.find('}') else {
                return Err(PatternError::new(codes::BAD_CAPTURE, at..text.len(), "a capture does not end", "add `}`"));
            };
            let name = capture_name(&inner[..end], at + 1)?;
            captures.push((Arc::clone(&name), at..at + end + 2));
            parts.push(TemplatePart::Capture(name));
            at += end + 2;
        } else {
            let end = left.find('{').unwrap_or(left.len());
            let allowed = |byte: u8| byte == b'/' || is_segment_byte(byte);
            let allowed_with_query = |byte: u8| byte == b'?' || byte == b'/' || is_segment_byte(byte);
            let literal = normalised(&left[..end], if query { allowed_with_query } else { allowed }).map_err(|error| error.moved(at))?;
            parts.push(TemplatePart::Literal(literal.into()));
            at += end;
        }
    }
    Ok(Template { template: crate::Template(parts), captures })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        let found = match path(text) {
            Ok(pattern) => pattern.to_string(),
            Err(error) => format!("{} at `{}`", error.code, &text[error.range]),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn segments_are_literals_captures_and_the_rest() {
        check("/", "/");
        check("/v1", "/v1");
        check("/v1/", "/v1/");
        check("/v1/{id}/x", "/v1/{id}/x");
        check("/v1/**", "/v1/**");
        check("/{all=**}", "/{all=**}");
    }

    #[test]
    fn literals_are_what_a_normalised_request_has() {
        check("/%7Euser/%41b%20c", "/~user/Ab%20c");
        check("/ü", "/%C3%BC");
        check("/a%3ab", "/a%3Ab");
        check("/a:b@c", "/a:b@c");
    }

    #[test]
    fn what_no_normalised_request_has_is_refused() {
        check("/a//b", "E1204 at ``");
        check("/a/./b", "E1204 at `.`");
        check("/a/%2e%2E", "E1204 at `%2e%2E`");
        check("/a%2Fb", "E1204 at `%2F`");
        check("/a%5cb", "E1204 at `%5c`");
        check("/a%00", "E1204 at `%00`");
        check("/a%2", "E1204 at `%`");
        check("/a?b=c", "E1204 at `?b=c`");
        check("/a#b", "E1204 at `#b`");
        check("/a|b", "E1204 at `|`");
        check("/a\\b", "E1204 at `\\`");
    }

    #[test]
    fn captures_are_whole_segments_with_a_name() {
        check("/{}", "E1205 at ``");
        check("/{a-b}", "E1205 at `a-b`");
        check("/{1}", "E1205 at `1`");
        check("/x{a}", "E1205 at `x{a}`");
        check("/{a}{b}", "E1205 at `{a}{b}`");
        check("/{a}/{a}", "E1205 at `{a}`");
        check("/{a}/{a=**}", "E1205 at `{a=**}`");
        check("/**/x", "E1205 at `**`");
        check("/*/x", "E1205 at `*`");
        check("/a*", "E1205 at `a*`");
        check("/:id", "E1205 at `:id`");
    }

    #[test]
    fn a_template_is_literals_and_captures() {
        let check = |text: &str, expected: &str| {
            let found = match template(text, false) {
                Ok(template) => format!("{:?}", template.template.0),
                Err(error) => format!("{} at `{}`", error.code, &text[error.range]),
            };
            assert_eq!(found, expected, "{text}");
        };
        check("/v2/{a}.x", r#"[Literal("/v2/"), Capture("a"), Literal(".x")]"#);
        check("/", r#"[Literal("/")]"#);
        check("v2", "E1120 at `v2`");
        check("/{a", "E1205 at `{a`");
        check("/{a b}", "E1205 at `a b`");
        check("/a?b", "E1204 at `?`");
        check("/a b", "E1204 at ` `");
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_panics(text in ".{0,16}", tail in "[/{}*%a.?]{0,16}") {
            for text in [format!("/{text}"), format!("/{tail}")] {
                let _ = (path(&text), template(&text, true));
            }
            let _ = (super::super::parse_match(&text), super::super::parse_match(&tail), super::super::inline_limit(&text));
        }

        #[test]
        fn a_normalised_pattern_is_read_back_the_same(segments in prop::collection::vec("[a-z~%:]{1,6}", 1..4)) {
            let text = format!("/{}", segments.join("/"));
            if let Ok(pattern) = path(&text) {
                let again = pattern.to_string();
                prop_assert_eq!(path(&again), Ok(pattern));
            }
        }
    }
}
