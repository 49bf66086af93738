//! The codes of problems, and what there is to say about each: one table, from which `shoal error CODE` reads.
//!
//! E1xxx is about what a file says by itself, E2xxx about parts that do not fit together, E3xxx about files and
//! secrets outside, W4xxx is served nevertheless. A number is never used again for something else.

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        $(pub(crate) const $name: &str = $code;)*

        const TABLE: &[(&str, &str)] = &[$(($code, concat!($($doc),*))),*];
    };
}

/// Returns the paragraph about a code, or nothing if there is no such code.
pub fn explain_code(code: &str) -> Option<&'static str> {
    TABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)).map(|(_, text)| text.trim_start())
}

codes! {
    /// The file is not TOML. Everything after the place that could still be understood has been checked too, so
    /// other problems in the list are real. The usual causes are a missing quote, bracket or comma.
    SYNTAX = "E1001";
    /// The same key or table is written twice in one file. TOML knows no override: take one of them away. Routes are
    /// written `[[route]]`, with two brackets, because there are many.
    DUPLICATE_KEY = "E1002";
    /// The file is not UTF-8 text. Save it as UTF-8.
    NOT_UTF8 = "E1003";
    /// The number after `version` names a language of configuration that this shoal does not speak. It speaks 1.
    VERSION = "E1004";

    /// A value has the wrong type: a string where a number belongs, one value where a list belongs, and so on. Quantities
    /// with a unit are strings: `"250ms"`, `"64KiB"`, `"100/s"`, `"20%"`.
    WRONG_TYPE = "E1101";
    /// A key that has no default is missing. The table of keys in docs/configuration.md says which keys are required.
    MISSING_KEY = "E1102";
    /// There is no such key here. Unknown keys are errors, because a misspelt one would silently do nothing. `shoal config schema`
    /// prints all keys in a form that editors complete from.
    UNKNOWN_KEY = "E1103";
    /// A quantity was not understood. Durations are written `250ms`, `30s`, `5m`, `1h`; sizes `500B`, `64KiB`, `1MiB`; rates
    /// `100/s`, `5/min`, `1000/h`; shares `20%`.
    BAD_QUANTITY = "E1104";
    /// A number is smaller or larger than what makes sense there.
    OUT_OF_RANGE = "E1105";
    /// The value is not one of the words that are possible here.
    UNKNOWN_WORD = "E1106";
    /// A network is an address with the length of its prefix, `10.0.0.0/8` or `2001:db8::/32`, or a single address. Bits behind
    /// the prefix must be zero, since otherwise it is not clear which of the two was meant.
    BAD_NETWORK = "E1107";
    /// An address to listen on is written `127.0.0.1:8080`, `0.0.0.0:8080` or `[::]:8080`, and a resolver `10.0.0.10:53`. Names are not
    /// resolved for either.
    BAD_ADDRESS = "E1108";
    /// An endpoint is written as `http://host:port`, `https://host:port` or `h2c://host:port`, without a path, a query or credentials.
    /// Paths are rewritten by the route, credentials are set as a header by the route.
    BAD_ENDPOINT = "E1109";
    /// Names of nodes, listeners, services, limits and routes consist of letters, digits and `-`, `_`, `.`, `~`, and have at most 128 of
    /// them: they appear in metrics, logs and paths of the admin API.
    BAD_NAME = "E1110";
    /// A header's name consists of letters, digits and `-`. Names with `_` are refused: many servers read `X_User` and
    /// `X-User` as the same variable, which lets a caller smuggle one as the other.
    BAD_HEADER = "E1111";
    /// This header belongs to the connection or frames the message. shoal writes it itself, so that nobody can make two
    /// servers disagree about where a message ends. `host` is set by a service's `host` key.
    FORBIDDEN_HEADER = "E1112";
    /// A regular expression was not understood. The syntax is that of the Rust regex crate: no look-around and no back
    /// references, and therefore linear time on every input.
    BAD_REGEX = "E1113";
    /// A key says what a limit counts apart, or what a choice is hashed from: `client_ip`, `header:NAME`, `cookie:NAME`,
    /// `path:CAPTURE`, `host` or `route`.
    BAD_KEY = "E1114";
    /// A limit on a route is the name of a `[limit.NAME]`, or is written on the spot as `RATE[ burst N] per KEY[,KEY]`:
    /// `10/s per client_ip`, `100/min burst 20 per header:x-tenant,path:id`.
    BAD_LIMIT = "E1115";
    /// A status is a number that makes sense where it stands: 301, 302, 303, 307 or 308 for redirects, 200 to 599 for fixed
    /// answers, 400 to 599 for retries, 100 to 599 or a range like `200-299` for probes.
    BAD_STATUS = "E1116";
    /// What is asked for belongs to a version of shoal to come. It is an error rather than ignored, since a gateway that does
    /// less than its file says is a danger.
    NOT_IN_THIS_VERSION = "E1117";
    /// Two keys exclude each other, or of several keys exactly one is needed.
    EXCLUSIVE_KEYS = "E1118";
    /// A value is empty that must not be: a list without an entry, a name without a letter.
    EMPTY = "E1119";
    /// The text cannot stand where it is meant to: a header's value with control characters, a host with a path, a path that does not
    /// begin with a slash.
    BAD_TEXT = "E1120";
    /// Where other nodes may be found is written `host:port`, `dns:name:port` for every address of a name, or `srv:_name._tcp.domain`, whose
    /// records bring their ports.
    BAD_SEED = "E1121";
    /// The names of a cluster and of its regions are labels of DNS: up to 63 lower-case letters, digits and `-`, which is neither first nor last. A
    /// node's name may be several of them with dots between. They stand in certificates, where nothing else is compared safely.
    BAD_LABEL = "E1122";

    /// A match is written `[METHOD[,METHOD] ][HOST]/PATH`. Any method and any host are written by leaving them out.
    BAD_MATCH = "E1201";
    /// A method in a match is not one. Methods are written in capitals and separated by commas without spaces; CONNECT and TRACE are never
    /// forwarded.
    BAD_METHOD = "E1202";
    /// The host in a match is a name, an address, or `*.` and a name. A port does not belong to it: `listen` says where a route is
    /// served.
    BAD_HOST = "E1203";
    /// The path in a match could never meet a request, because requests are normalised before they are matched: dot segments are resolved, doubled
    /// slashes merged, and encoded slashes refused.
    BAD_PATH = "E1204";
    /// Captures are whole segments, `{name}`, and `**` or `{name=**}` may only be the last. Each name appears once.
    BAD_CAPTURE = "E1205";
    /// A template names a capture that the match does not have.
    UNKNOWN_CAPTURE = "E1206";

    /// A route names a service that is not defined.
    UNKNOWN_SERVICE = "E2001";
    /// A route names a limit that is not defined.
    UNKNOWN_LIMIT = "E2002";
    /// A route names a listener that is not defined.
    UNKNOWN_LISTENER = "E2003";
    /// The same name is given twice, in two files or as two routes' id. Nothing overrides silently: take one away or rename it.
    DUPLICATE_NAME = "E2011";
    /// Two listeners are bound to the same address and port, so that one of them could not start.
    DUPLICATE_ADDRESS = "E2012";
    /// All weights of a split or of a service's endpoints are zero, so that nothing could be chosen.
    NO_WEIGHT = "E2021";
    /// The endpoints of one service speak one protocol. `h2c://` means HTTP/2 in the clear and excludes the others.
    MIXED_PROTOCOLS = "E2022";
    /// Two values contradict each other, such as a smallest that is larger than the largest.
    CONTRADICTION = "E2023";
    /// The prefix to strip is not what every path of the match begins with, so that some requests would keep it.
    STRIP_PREFIX = "E2024";
    /// Two routes match the same requests and neither is more specific. The order in the file never decides. Give one of them a method, a header or a
    /// literal segment, or a `priority`.
    TIE = "E2041";
    /// The admin API off loopback needs TLS and a token of your own: whoever reaches it can read the configuration.
    ADMIN_EXPOSED = "E2051";
    /// Other nodes would be told an address that reaches nobody, such as 0.0.0.0: that is where a node listens, not where it is.
    UNREACHABLE_NODE = "E2052";
    /// Every node of a cluster is known by its name, so each needs one of its own.
    NAMELESS_NODE = "E2053";

    /// A file that the configuration needs could not be read. Relative paths start at the folder of the file that
    /// names them.
    UNREADABLE_FILE = "E3001";
    /// An environment variable is not set, and the reference gives no default.
    MISSING_ENV = "E3002";
    /// A secret is empty: the variable or the file is there, and nothing is in it.
    EMPTY_SECRET = "E3003";
    /// A secret is written in the file. Name where it is instead, `{ env = "NAME" }` or `{ file = "/path" }`, so that the file can be shown around.
    SECRET_IN_FILE = "E3004";
    /// An included file has `include` itself. Includes go one level deep, so that one look at the main file tells what is read.
    NESTED_INCLUDE = "E3005";
    /// A pattern of includes may have `*` only within the name of the file, as in `routes.d/*.toml`.
    BAD_INCLUDE = "E3006";

    /// A pattern of includes matches no file. That is fine for a folder that fills later, and a mistake otherwise.
    EMPTY_INCLUDE = "W4001";
    /// A listener that others can reach speaks without TLS. Where that is meant, say so with `tls = "none"`.
    PLAINTEXT_LISTENER = "W4002";
    /// A route can never match: every request that it could take is taken by a more specific one or one of higher priority, or its own
    /// conditions exclude each other.
    UNREACHABLE_ROUTE = "W4003";
    /// A service, or a named limit, is used by no route. It costs nothing; often a route was meant to name it.
    UNUSED = "W4004";
    /// There is nothing to serve: no listener, or no route.
    NOTHING_SERVED = "W4005";
    /// A choice has no effect where it stands, so that something else was probably meant.
    NO_EFFECT = "W4006";
    /// The token of the admin API is so short that it could be guessed. Take 32 characters by chance.
    SHORT_TOKEN = "W4007";
    /// A route overrides some deadlines or retries for a split whose services differ in the others. The first service of the split
    /// fills them in for all.
    MIXED_SPLIT = "W4008";
    /// A node of a cluster without `state_dir` forgets everything when it stops: its certificate, so that it needs a join token at every
    /// start, and its peers, so that it finds them by `join` alone.
    NO_MEMORY = "W4009";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_said_once_and_explained() {
        for (index, (code, text)) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|(earlier, _)| earlier < code), "{code} is out of order or used twice");
            assert!(code.starts_with(['E', 'W']) && code.len() == 5, "{code}");
            assert!(text.trim().len() > 40, "{code} has no paragraph");
            assert_eq!(explain_code(&code.to_lowercase()), Some(text.trim_start()));
        }
    }
}
