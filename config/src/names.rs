//! Names that an operator gives. Each is a type of its own, so that a service can never be asked for by a route's name.

use serde::Serialize;
use std::{borrow::Borrow, fmt, sync::Arc};

macro_rules! name {
    ($(#[doc = $doc:expr])* $name:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }
    };
}

name!(
    /// Names a route. Where the file gives no `id`, it is made from the match.
    RouteId
);
name!(
    /// Names a service, as in `[service.NAME]`.
    ServiceName
);
name!(
    /// Names a limit, as in `[limit.NAME]`. An inline limit is named after its route and place.
    LimitName
);
name!(
    /// Names a listener, as in `[listen.NAME]`.
    ListenerName
);

/// Whether a text is one label of DNS in its one normal form: what clusters and regions are called, because it stands in certificates.
pub fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_MAX).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether a text is labels with dots between, short enough to be what a node of a cluster is called.
pub fn is_dns_name(text: &str) -> bool {
    text.len() <= LABEL_MAX && text.split('.').all(is_dns_label)
}

const LABEL_MAX: usize = 63;
