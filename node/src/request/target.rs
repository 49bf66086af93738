//! Writes a request's path in its one normal form, before anything is decided by it.
//!
//! What is matched is what is forwarded: routes, deny rules and limits look at the normal form, and the endpoint is
//! sent the same bytes, so no two spellings of a path can be told apart by one of them and not by the other. In the
//! normal form an unreserved character is never escaped (RFC 3986 6.2.2), every other escape is in upper case,
//! whatever a URI may not contain is escaped, there are no dot segments and no empty segment but the last.
//!
//! Escaped slashes and semicolons stay as they are and are flagged: the matched route decides about them. Anything
//! that an endpoint could read as another path than we do is an error, whatever the route says.

mod host;
mod normal;
mod query;

pub use host::{Host, host};
pub use query::{edit_query, query};

use self::normal::{Dots, plain, rewrite};
use config::{Template, TemplatePart};
use std::{borrow::Cow, error::Error, fmt};

/// A path in normal form: begins with a slash, is ASCII, and normalises to itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path<'a> {
    /// Borrowed where the request already had the normal form.
    pub text: Cow<'a, str>,
    /// Whether there is a `%2F` or a `%5C` in it.
    pub encoded_slash: bool,
    /// Whether there is a `;` or a `%3B` in it.
    pub semicolon: bool,
}

/// Why a path or a host is refused. The caller's mistake, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetError {
    /// The path does not begin with a slash.
    Relative,
    /// A space or a control character in a path, or an escaped control character.
    Control,
    Backslash,
    /// A percent sign without two hexadecimal digits behind it.
    Escape,
    /// Bytes that are not UTF-8 once unescaped.
    Encoding,
    /// An escaped percent sign that would make an escape of a reserved character if it were unescaped once more.
    DoubleEncoding,
    /// A `..` with nothing left to leave.
    AboveRoot,
    /// A dot segment that only some would see: `..;`, `..%2F`.
    HiddenDots,
    Query,
    Fragment,
    /// A template names a capture that the route's path does not have.
    Capture,
    HostEmpty,
    /// More than 255 bytes.
    HostLength,
    /// Neither a name nor an address.
    HostName,
    Userinfo,
    Port,
}

impl TargetError {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Relative => "the path does not begin with a slash",
            Self::Control => "the path contains a space or a control character",
            Self::Backslash => "the path contains a backslash",
            Self::Escape => "the path contains a percent sign without two hexadecimal digits",
            Self::Encoding => "the path is not UTF-8 once unescaped",
            Self::DoubleEncoding => "the path contains a reserved character that is escaped twice",
            Self::AboveRoot => "the path leaves the root",
            Self::HiddenDots => "the path contains a dot segment beside a semicolon or an escaped slash",
            Self::Query => "the path contains a question mark",
            Self::Fragment => "the path contains a fragment",
            Self::Capture => "the path needs a capture that the route does not have",
            Self::HostEmpty => "the host is empty",
            Self::HostLength => "the host is longer than 255 bytes",
            Self::HostName => "the host is neither a name nor an address",
            Self::Userinfo => "the host has a user in front of it",
            Self::Port => "the port of the host is not a number from 1 to 65535",
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error for TargetError {}

/// Brings a path into normal form. Without an allocation, in one scan, where it has that form already and contains no
/// escape.
///
/// Never longer than the input where the input is a path by RFC 3986; each byte that a URI may not contain grows to
/// three.
pub fn normalise(path: &str) -> Result<Path<'_>, TargetError> {
    match plain(path.as_bytes()) {
        Some(semicolon) => Ok(Path { text: Cow::Borrowed(path), encoded_slash: false, semicolon }),
        None => rewrite(path, Dots::Resolve),
    }
}

/// Makes a path from a template. Captures come from a path in normal form and are written as they are.
///
/// Slashes that meet around an empty capture become one. Anything else by which the result could differ from what the
/// template shows is an error: a capture can add neither dot segments nor a query nor a fragment.
pub fn render<'a>(template: &Template, lookup: impl Fn(&str) -> Option<&'a str>) -> Result<String, TargetError> {
    let mut path = String::with_capacity(64);
    for part in &template.0 {
        match part {
            TemplatePart::Literal(text) => path.push_str(text),
            TemplatePart::Capture(name) => path.push_str(lookup(name).ok_or(TargetError::Capture)?),
        }
    }
    match plain(path.as_bytes()) {
        Some(_) => Ok(path),
        None => Ok(rewrite(&path, Dots::Refuse)?.text.into_owned()),
    }
}

/// Takes whole segments away from the beginning of a path. `None` where the path does not begin with them.
pub fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix.trim_end_matches('/'))? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        normal::{BYTES, Byte},
        *,
    };
    use proptest::prelude::*;

    /// The normal form, `S` and `;` behind a space for the flags, or the error.
    fn check(path: &str, expected: &str) {
        let found = match normalise(path) {
            Ok(Path { text, encoded_slash: false, semicolon: false }) => text.into_owned(),
            Ok(Path { text, encoded_slash, semicolon }) => {
                format!("{text} {}{}", if encoded_slash { "S" } else { "" }, if semicolon { ";" } else { "" })
            }
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(found, expected, "{path:?}");
    }

    #[test]
    fn a_plain_path_is_borrowed() {
        for path in ["/", "/a", "/a/", "/a/b.c/.well-known/...", "/~x/a_b-c/@:!$&'()*+,=", "/a;v=1/b", "/.a", "/..a/b..", "/a/.;x"] {
            let borrowed = matches!(normalise(path), Ok(Path { text: Cow::Borrowed(text), .. }) if text == path);
            assert_eq!(borrowed, path != "/a/.;x", "{path}");
        }
    }

    #[test]
    fn every_spelling_has_one_normal_form() {
        check("/%61%2D%2e%5F%7e", "/a-._~");
        check("/%c3%a9/%3a%20", "/%C3%A9/%3A%20");
        check("/é", "/%C3%A9");
        check("/a|b/[c]", "/a%7Cb/%5Bc%5D");
        check("//a///b//", "/a/b/");
        check("/./a/./b/.", "/a/b/");
        check("/a/../b", "/b");
        check("/a/b/..", "/a/");
        check("/a/..", "/");
        check("/a//../b", "/b");
        check("/a/%2e%2E/b", "/b");
        check("/a/.%2e/b", "/b");
        check("/...", "/...");
        check("/a/..b/.c", "/a/..b/.c");
        check("/100%25", "/100%25");
        check("/50%25off", "/50%25off");
        check("/%2541", "/%2541");
    }

    #[test]
    fn what_the_route_decides_is_flagged_and_kept() {
        check("/a%2fb", "/a%2Fb S");
        check("/a%5cb", "/a%5Cb S");
        check("/a;v=1", "/a;v=1 ;");
        check("/a%3bv", "/a%3Bv ;");
        check("/a%2Fb;c", "/a%2Fb;c S;");
        check("/a;x/../b", "/b");
        check("/a%2fx/../b;", "/b; ;");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (path, error) in [
            ("", TargetError::Relative),
            ("*", TargetError::Relative),
            ("a/b", TargetError::Relative),
            ("%2Fa", TargetError::Relative),
            ("/a\\b", TargetError::Backslash),
            ("/a\0", TargetError::Control),
            ("/a b", TargetError::Control),
            ("/a\r\nb", TargetError::Control),
            ("/a%00", TargetError::Control),
            ("/a%0d%0a", TargetError::Control),
            ("/a%7f", TargetError::Control),
            ("/%", TargetError::Escape),
            ("/%4", TargetError::Escape),
            ("/%zz", TargetError::Escape),
            ("/%+1", TargetError::Escape),
            ("/%c3", TargetError::Encoding),
            ("/%c3/%a9", TargetError::Encoding),
            ("/%c3é", TargetError::Encoding),
            ("/%c0%af", TargetError::Encoding),
            ("/%ed%a0%80", TargetError::Encoding),
            ("/%f5%80%80%80", TargetError::Encoding),
            ("/%ff", TargetError::Encoding),
            ("/%252F", TargetError::DoubleEncoding),
            ("/%252e", TargetError::DoubleEncoding),
            ("/%255c", TargetError::DoubleEncoding),
            ("/%2500", TargetError::DoubleEncoding),
            ("/%25252F", TargetError::DoubleEncoding),
            ("/%25%32%66", TargetError::DoubleEncoding),
            ("/..", TargetError::AboveRoot),
            ("/a/../../b", TargetError::AboveRoot),
            ("//..", TargetError::AboveRoot),
            ("/%2e%2e", TargetError::AboveRoot),
            ("/a/..;/b", TargetError::HiddenDots),
            ("/a/.;x/b", TargetError::HiddenDots),
            ("/a/..%3b/b", TargetError::HiddenDots),
            ("/a/%2e%2e;x", TargetError::HiddenDots),
            ("/a/..%2fb", TargetError::HiddenDots),
            ("/a/b%5c..", TargetError::HiddenDots),
            ("/a?b", TargetError::Query),
            ("/a#b", TargetError::Fragment),
        ] {
            check(path, &format!("{error:?}"));
        }
    }

    fn template(text: &str) -> Template {
        let parts = text.split_inclusive(['{', '}']).filter_map(|part| match part.strip_suffix('}') {
            Some(name) => Some(TemplatePart::Capture(name.into())),
            None => Some(part.trim_end_matches('{')).filter(|part| !part.is_empty()).map(|part| TemplatePart::Literal(part.into())),
        });
        Template(parts.collect())
    }

    #[test]
    fn a_capture_can_not_change_what_the_template_shows() {
        for (text, capture, expected) in [
            ("/v2/{x}", "a%2Fb", Ok("/v2/a%2Fb")),
            ("/v2/{x}", "", Ok("/v2/")),
            ("/v2/{x}/end", "", Ok("/v2/end")),
            ("/v2{x}", "/a/b", Ok("/v2/a/b")),
            ("/v2/{x}", "/a", Ok("/v2/a")),
            ("/v2/.{x}", ".", Err(TargetError::HiddenDots)),
            ("/v2/{x}.", "", Err(TargetError::HiddenDots)),
            ("/v2/{x}", "..", Err(TargetError::HiddenDots)),
            ("{x}", "a", Err(TargetError::Relative)),
            ("/{x}", "a?b", Err(TargetError::Query)),
            ("/{x}", "a#b", Err(TargetError::Fragment)),
            ("/{x}", "a\r\nb", Err(TargetError::Control)),
            ("/{y}", "a", Err(TargetError::Capture)),
        ] {
            let found = render(&template(text), |name| (name == "x").then_some(capture));
            assert_eq!(found, expected.map(str::to_string), "{text} with {capture:?}");
        }
    }

    #[test]
    fn a_prefix_is_stripped_by_whole_segments() {
        for (path, prefix, expected) in [
            ("/api/users", "/api", Some("/users")),
            ("/api/users", "/api/", Some("/users")),
            ("/api", "/api", Some("/")),
            ("/api/", "/api", Some("/")),
            ("/apis", "/api", None),
            ("/a", "/", Some("/a")),
            ("/a", "", Some("/a")),
            ("/b", "/a", None),
        ] {
            assert_eq!(strip_prefix(path, prefix), expected, "{path} without {prefix}");
        }
    }

    /// Paths made of the pieces that matter.
    fn any_path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z0-9]{1,3}",
            4 => Just("/".to_string()),
            2 => Just(".".to_string()),
            1 => Just(";".to_string()),
            2 => "%[0-9a-fA-F]{2}",
            1 => "%25[0-9a-fA-F]{2}",
            1 => prop::sample::select(vec!["%2e", "%2F", "%5c", "%3b", "%c3%a9", "é", "|", "\"", "%"]).prop_map(String::from),
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(path in any_path()) {
            if let Ok(once) = normalise(&path) {
                let twice = normalise(&once.text).expect("a normal form is not refused");
                prop_assert_eq!(&once, &twice);
            }
        }

        #[test]
        fn the_normal_form_is_what_a_strict_parser_takes(path in any_path()) {
            if let Ok(Path { text, .. }) = normalise(&path) {
                prop_assert!(text.starts_with('/'));
                prop_assert!(!text.contains("//"));
                prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."));
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte)));
                let foreign = path.bytes().filter(|byte| BYTES[*byte as usize] == Byte::Foreign).count();
                prop_assert!(text.len() <= path.len() + 2 * foreign);
            }
        }

        #[test]
        fn the_short_way_and_the_long_way_agree(path in any_path()) {
            if plain(path.as_bytes()).is_some() {
                let short = normalise(&path).expect("a plain path is not refused");
                prop_assert_eq!(Ok(short), rewrite(&path, Dots::Resolve));
            }
        }

        #[test]
        fn anything_at_all_is_answered(path in any::<String>()) {
            let _ = normalise(&path);
            let _ = host(&path);
        }
    }
}
