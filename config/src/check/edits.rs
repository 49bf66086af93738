//! Changes of headers and queries.

use super::distinct;
use crate::{
    HeaderEdits,
    document::Spanned,
    file::{
        AccessLogTable, Reader,
        reference::Outside,
        value::{List, Named},
    },
    pattern::header_name,
    problem::codes,
};
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// Headers of the connection and of the message's frame (RFC 9110, 7.6.1; RFC 9112, 6), which shoal alone writes.
const FORBIDDEN: [&str; 8] = ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

pub(super) fn edits(set: &Named<Outside>, add: &Named<Outside>, remove: &List<Arc<str>>, r: &mut Reader<'_>) -> HeaderEdits {
    distinct(set, r);
    HeaderEdits {
        remove: remove.iter().filter_map(|name| editable(name, r)).collect(),
        set: set.0.iter().filter_map(|(name, value)| edit(name, value, r)).collect(),
        add: add.0.iter().filter_map(|(name, value)| edit(name, value, r)).collect(),
    }
}

fn edit(name: &Spanned<Arc<str>>, value: &Spanned<Outside>, r: &mut Reader<'_>) -> Option<(HeaderName, HeaderValue)> {
    let header = editable(name, r)?;
    let sensitive = value.referred || AccessLogTable::ALWAYS_REDACTED.contains(&header.as_str());
    if sensitive && !value.referred {
        r.documents.hide(value.at);
    }
    match HeaderValue::from_str(&value.text) {
        Ok(mut written) => {
            written.set_sensitive(sensitive);
            Some((header, written))
        }
        Err(_) => {
            let message = format!("this cannot be the value of the header `{header}`");
            r.found.error(codes::BAD_TEXT, value.at, message).help("leave out control characters and line breaks");
            None
        }
    }
}

fn editable(name: &Spanned<Arc<str>>, r: &mut Reader<'_>) -> Option<HeaderName> {
    let header = match header_name(name) {
        Ok(header) => header,
        Err(error) => return error.report(name.at, name, r),
    };
    if FORBIDDEN.contains(&header.as_str()) || header.as_str().starts_with("proxy-") {
        let help = match header.as_str() {
            "host" => "use `host` of the service",
            _ => "leave it out: shoal writes it itself",
        };
        r.found.error(codes::FORBIDDEN_HEADER, name.at, format!("the header `{header}` cannot be changed")).help(help);
        return None;
    }
    Some(header)
}
