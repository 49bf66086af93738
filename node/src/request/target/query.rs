//! Makes a query one that a strict reader takes, takes parameters out of it and puts others in; whatever else is in it
//! stays byte for byte what it was.

use super::normal::{hexadecimal, push_escape};
use std::{borrow::Cow, sync::Arc};

/// Escapes what a URI may not contain (RFC 3986 3.4), a percent sign that begins no escape included. People send such
/// queries, and endpoints differ in what they make of them; escaped, they mean one thing. Nothing else changes.
///
/// Without an allocation, in one scan, where there is nothing to escape.
pub fn query(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    let stays = |at: usize| match bytes[at] {
        b'%' => matches!(bytes.get(at + 1..at + 3), Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()),
        byte => ALLOWED[byte as usize],
    };
    let Some(first) = (0..bytes.len()).find(|at| !stays(*at)) else { return Cow::Borrowed(raw) };
    let mut text = String::with_capacity(raw.len() + 16);
    text.push_str(&raw[..first]);
    for (at, byte) in bytes.iter().enumerate().skip(first) {
        if stays(at) { text.push(char::from(*byte)) } else { push_escape(&mut text, *byte) }
    }
    Cow::Owned(text)
}

/// Unreserved characters, delimiters within parts, and `:@/?`.
static ALLOWED: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[at] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
            || matches!(byte, b':' | b'@' | b'/' | b'?');
        at += 1;
    }
    table
};

/// Drops the parameters that are named in `remove` or in `set`, then appends those of `set`.
///
/// Names are compared unescaped, and a `+` counts as a space, so no spelling of a removed parameter gets through.
pub fn edit_query(query: &str, remove: &[Arc<str>], set: &[(Arc<str>, Arc<str>)]) -> String {
    let added: usize = set.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut edited = String::with_capacity(query.len() + added);
    let pairs = if query.is_empty() { None } else { Some(query.split('&')) };
    // An empty pair counts too, so the text alone does not say whether a separator is due.
    let mut first = true;
    for pair in pairs.into_iter().flatten() {
        let name = pair.split('=').next().unwrap_or(pair);
        if remove.iter().chain(set.iter().map(|(name, _)| name)).all(|named| !spells(name, named)) {
            separate(&mut edited, &mut first);
            edited.push_str(pair);
        }
    }
    for (name, value) in set {
        separate(&mut edited, &mut first);
        push_encoded(&mut edited, name);
        edited.push('=');
        push_encoded(&mut edited, value);
    }
    edited
}

fn separate(query: &mut String, first: &mut bool) {
    if !std::mem::take(first) {
        query.push('&');
    }
}

/// Whether `raw`, unescaped, is `plain`. A percent sign that begins no escape stands for itself.
fn spells(raw: &str, plain: &str) -> bool {
    let (mut raw, mut plain) = (raw.as_bytes(), plain.as_bytes().iter());
    loop {
        let byte = match raw {
            [] => return plain.next().is_none(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                raw = rest;
                hexadecimal(*high).zip(hexadecimal(*low)).map(|(high, low)| high << 4 | low)
            }
            [b'+', rest @ ..] => {
                raw = rest;
                Some(b' ')
            }
            [byte, rest @ ..] => {
                raw = rest;
                Some(*byte)
            }
        };
        if plain.next().copied() != byte {
            return false;
        }
    }
}

/// Escapes everything but unreserved characters, so that a value can not end itself or begin another.
fn push_encoded(query: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(char::from(byte)),
            _ => push_escape(query, byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(query: &str, remove: &[&str], set: &[(&str, &str)], expected: &str) {
        let remove: Vec<Arc<str>> = remove.iter().map(|name| (*name).into()).collect();
        let set: Vec<(Arc<str>, Arc<str>)> = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(edit_query(query, &remove, &set), expected, "{query}");
    }

    #[test]
    fn a_query_is_escaped_where_a_uri_would_not_hold_it() {
        for good in ["", "a=b&c", "a=%7e%2F&b=/?:@!$'()*+,;=", "&&="] {
            assert!(matches!(query(good), Cow::Borrowed(same) if same == good), "{good}");
        }
        for (raw, expected) in [
            ("a[]=1", "a%5B%5D=1"),
            ("a=b|c", "a=b%7Cc"),
            ("a={\"b\":1}", "a=%7B%22b%22:1%7D"),
            ("q=100%", "q=100%25"),
            ("q=%4&r=%zz", "q=%254&r=%25zz"),
            ("q=é", "q=%C3%A9"),
            ("q=a\\b^`<>", "q=a%5Cb%5E%60%3C%3E"),
        ] {
            assert_eq!(query(raw), expected);
        }
    }

    #[test]
    fn what_is_not_named_stays_as_it_was() {
        check("&a=1&b=%7e&&c", &[], &[], "&a=1&b=%7e&&c");
        check("a=1&b=2&a=3", &["a"], &[], "b=2");
        check("a=1", &["a"], &[], "");
        check("", &["a"], &[], "");
        check("a[]=1&a=2", &["a[]"], &[], "a=2");
    }

    #[test]
    fn a_parameter_that_is_set_replaces_every_spelling_of_it() {
        check("key=x&%6bey=y&KEY=z", &[], &[("key", "1")], "KEY=z&key=1");
        check("a+b=1&a%20b=2&a%2=3", &["a b"], &[], "a%2=3");
        check("", &[], &[("a", "b&c=d #\r\né")], "a=b%26c%3Dd%20%23%0D%0A%C3%A9");
        check("a", &[], &[("b", "")], "a&b=");
    }

    /// As endpoints do it: a percent sign that begins no escape stands for itself.
    fn unescaped(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(byte) = text.bytes().next() {
            let escape = text.as_bytes().get(1..3).filter(|_| byte == b'%');
            match escape.and_then(|digits| hexadecimal(digits[0]).zip(hexadecimal(digits[1]))) {
                Some((high, low)) => {
                    bytes.push(high << 4 | low);
                    text = &text[3..];
                }
                None => {
                    let character = text.chars().next().map_or(1, char::len_utf8);
                    bytes.extend(&text.as_bytes()[..character]);
                    text = &text[character..];
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn an_escaped_query_stays_as_it_is_and_means_the_same(raw in ".{0,24}") {
            let escaped = query(&raw);
            prop_assert!(matches!(query(&escaped), Cow::Borrowed(_)));
            prop_assert_eq!(unescaped(&raw), unescaped(&escaped));
        }

        #[test]
        fn a_value_that_is_set_can_not_become_anything_else(query in "[a-c=&%+0-9]{0,16}", value in any::<String>()) {
            let set: [(Arc<str>, Arc<str>); 1] = [("a".into(), value.as_str().into())];
            let edited = edit_query(&query, &[], &set);
            let values: Vec<&str> = edited.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| spells(name, "a")).map(|(_, value)| value).collect();
            prop_assert_eq!(values.len(), 1);
            prop_assert!(spells(values[0], &value));
        }
    }
}
