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
