//! Makes of one definition of a table everything there is to it: the struct, its reader, and the rows of the manual and
//! of the schema, whose words are the doc comments.
//!
//! A key is written `key: Type = default`, where the default is TOML; `key: Type = required`; or `key: Type`, which may
//! be absent.

macro_rules! section {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $key_doc:literal])* $key:ident: $type:ty $(= $default:tt)?,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "some keys only have to be right, like `version`, and not every table has more to check")]
        pub(crate) struct $name {
            $($(#[doc = $key_doc])* pub(crate) $key: section!(@field $type $(, $default)?),)*
            pub(crate) meta: $crate::file::reader::Meta,
        }

        impl $crate::file::reader::Read for $name {
            fn shape() -> $crate::file::shape::Shape {
                fn keys() -> Vec<$crate::file::shape::Key> {
                    vec![$($crate::file::shape::Key {
                        name: $crate::file::reader::plain(stringify!($key)),
                        doc: &[$($key_doc),*],
                        shape: <$type as $crate::file::reader::Read>::shape(),
                        default: section!(@default $($default)?),
                        required: section!(@required $($default)?),
                    },)*]
                }
                $crate::file::shape::Shape::Table($crate::file::shape::Table { doc: &[$($doc),*], keys })
            }

            fn read(node: $crate::file::reader::Node<'_>, r: &mut $crate::file::reader::Reader<'_>) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($key)),*];
                let mut table = $crate::file::reader::TableReader::open(node, r, KEYS)?;
                Some(Self {
                    $($key: section!(@read table, r, $key $(, $default)?),)*
                    meta: table.finish(r),
                })
            }
        }
    };

    (@field $type:ty, required) => { Option<$crate::document::Spanned<$type>> };
    (@field $type:ty, $default:tt) => { $crate::document::Spanned<$type> };
    (@field $type:ty) => { Option<$crate::document::Spanned<$type>> };

    (@default required) => { None };
    (@default $default:tt) => { Some(stringify!($default)) };
    (@default) => { None };

    (@required required) => { true };
    (@required $($default:tt)?) => { false };

    (@read $table:ident, $r:ident, $key:ident, required) => { $table.required(stringify!($key), $r) };
    (@read $table:ident, $r:ident, $key:ident, $default:tt) => { $table.with_default(stringify!($key), stringify!($default), $r) };
    (@read $table:ident, $r:ident, $key:ident) => { $table.optional(stringify!($key), $r) };
}

pub(crate) use section;
