//! Reads the PROXY header that a load balancer sends in front of a connection, in either version.
//!
//! A brain: it is fed whatever has arrived, keeps what it needs in a buffer of its own, and says how much of the last
//! piece belonged to the header. What follows is the connection's. It never looks ahead and never allocates, and a peer
//! that sends something else is found out at the first byte that differs.
//!
//! Additions in version 2 (TLVs) are skipped: nothing here depends on what a balancer says beyond the addresses.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The addresses of the connection that the balancer accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proxied {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    NeedMore,
    Done {
        /// `None` where the balancer speaks for itself, as in its health checks, or does not say for whom.
        header: Option<Proxied>,
        /// How many bytes of the last piece belonged to the header.
        consumed: usize,
    },
    /// The connection is of no use: what follows can not be told from the header.
    Bad(ProxyError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyError {
    /// Neither version begins like this.
    Missing,
    /// The line of version 1 is longer than 107 bytes.
    LineLength,
    /// The line of version 1 is not what it should be.
    Line,
    /// A version that does not exist, or neither LOCAL nor PROXY.
    Version,
    /// A family or a transport that does not exist, or datagrams.
    Family,
    /// Shorter than the addresses it announces.
    Short,
    /// More additions than anyone needs.
    Length,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not begin with a PROXY header",
            Self::LineLength => "the PROXY line is longer than 107 bytes",
            Self::Line => "the PROXY line is malformed",
            Self::Version => "the PROXY header has an unknown version or command",
            Self::Family => "the PROXY header is not about a stream",
            Self::Short => "the PROXY header is shorter than its addresses",
            Self::Length => "the PROXY header is longer than 4 KiB",
        })
    }
}

impl Error for ProxyError {}

const LINE_BEGIN: &[u8] = b"PROXY ";
/// With its line end.
const LINE_MAX: usize = 107;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// Two UNIX paths, which are skipped.
const PATHS: usize = 216;
const ADDITIONS_MAX: usize = 4 * 1024;

/// Reads one header. Of no use after it has said anything but [`Progress::NeedMore`].
#[derive(Debug)]
pub struct Decoder {
    /// The line of version 1, or version 2 up to the end of its addresses.
    kept: [u8; LINE_MAX],
    length: usize,
    found: Option<Found>,
}

/// A header that is understood, up to what is skipped of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    header: Option<Proxied>,
    skip: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { kept: [0; LINE_MAX], length: 0, found: None }
    }
}

impl Decoder {
    /// Takes the next piece. Where the pieces are cut makes no difference to the answer.
    pub fn feed(&mut self, piece: &[u8]) -> Progress {
        let mut rest = piece;
        while self.found.is_none() {
            let Some((byte, behind)) = rest.split_first() else { return Progress::NeedMore };
            rest = behind;
            self.kept[self.length] = *byte;
            self.length += 1;
            match judge(&self.kept[..self.length]) {
                Ok(found) => self.found = found,
                Err(error) => return Progress::Bad(error),
            }
        }
        match &mut self.found {
            Some(found) if found.skip > rest.len() => {
                found.skip -= rest.len();
                Progress::NeedMore
            }
            Some(found) => Progress::Done { header: found.header, consumed: piece.len() - rest.len() + found.skip },
            None => Progress::NeedMore,
        }
    }
}

/// Looks at a header so far; `None` while it could still become one. Keeps it from growing past [`LINE_MAX`].
fn judge(header: &[u8]) -> Result<Option<Found>, ProxyError> {
    match header.first() {
        Some(b'P') => line(header),
        _ => binary(header),
    }
}

fn line(line: &[u8]) -> Result<Option<Found>, ProxyError> {
    begins(line, LINE_BEGIN)?;
    match line {
        [text @ .., b'\r', b'\n'] => {
            let text = str::from_utf8(&text[LINE_BEGIN.len()..]).map_err(|_| ProxyError::Line)?;
            Ok(Some(Found { header: line_addresses(text)?, skip: 0 }))
        }
        // A CR is followed by an LF and by nothing else; an LF stands nowhere else.
        [.., b'\r', _] | [.., b'\n'] => Err(ProxyError::Line),
        _ if line.len() == LINE_MAX => Err(ProxyError::LineLength),
        _ => Ok(None),
    }
}

/// Reads `TCP4 192.0.2.1 192.0.2.2 4711 443`.
fn line_addresses(text: &str) -> Result<Option<Proxied>, ProxyError> {
    let mut words = text.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut address = || {
        let word = words.next()?;
        match family? {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = address().zip(address()).ok_or(ProxyError::Line)?;
    let mut port = || {
        let word = words.next()?;
        let well_formed = word == "0" || (word.bytes().all(|byte| byte.is_ascii_digit()) && !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| well_formed)
    };
    let (source_port, destination_port) = port().zip(port()).ok_or(ProxyError::Line)?;
    match words.next() {
        Some(_) => Err(ProxyError::Line),
        None => Ok(Some(Proxied { source: (source, source_port).into(), destination: (destination, destination_port).into() })),
    }
}

fn binary(header: &[u8]) -> Result<Option<Found>, ProxyError> {
    begins(header, SIGNATURE)?;
    let Some((fixed, addresses)) = header.split_first_chunk::<FIXED>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (kept, described) = match (command, family) {
        // A balancer that speaks for itself may say anything about addresses: they count for nothing.
        (0x20, _) | (0x21, 0x00) => (0, 0),
        (0x21, 0x11) => (12, 12),
        (0x21, 0x21) => (36, 36),
        (0x21, 0x31) => (0, PATHS),
        (0x21, _) => return Err(ProxyError::Family),
        _ => return Err(ProxyError::Version),
    };
    if length < described {
        return Err(ProxyError::Short);
    }
    if length - described > ADDITIONS_MAX {
        return Err(ProxyError::Length);
    }
    if addresses.len() < kept {
        return Ok(None);
    }
    Ok(Some(Found { header: binary_addresses(addresses), skip: length - kept }))
}

fn binary_addresses(addresses: &[u8]) -> Option<Proxied> {
    let pair = |source: IpAddr, destination: IpAddr, ports: [u8; 4]| {
        let [from_high, from_low, to_high, to_low] = ports;
        let (from, to) = (u16::from_be_bytes([from_high, from_low]), u16::from_be_bytes([to_high, to_low]));
        Proxied { source: (source, from).into(), destination: (destination, to).into() }
    };
    if let Ok(&[a, b, c, d, e, f, g, h, ref ports @ ..]) = <&[u8; 12]>::try_from(addresses) {
        return Some(pair([a, b, c, d].into(), [e, f, g, h].into(), *ports));
    }
    let (source, rest) = addresses.split_first_chunk::<16>()?;
    let (destination, ports) = rest.split_first_chunk::<16>()?;
    Some(pair((*source).into(), (*destination).into(), ports.try_into().ok()?))
}

fn begins(header: &[u8], with: &[u8]) -> Result<(), ProxyError> {
    let both = header.len().min(with.len());
    if header[..both] == with[..both] { Ok(()) } else { Err(ProxyError::Missing) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in one piece, then cut at every place: `SOURCE DESTINATION CONSUMED`, or what else there is to say.
    fn check(bytes: &[u8], expected: &str) {
        for cut in 0..=bytes.len() {
            assert_eq!(shown(feed_cut(bytes, cut)), expected, "{:?} cut at {cut}", bytes.escape_ascii().to_string());
        }
    }

    /// What two pieces say; `consumed` counts over both.
    fn feed_cut(bytes: &[u8], cut: usize) -> Progress {
        let mut decoder = Decoder::default();
        match decoder.feed(&bytes[..cut]) {
            Progress::NeedMore => match decoder.feed(&bytes[cut..]) {
                Progress::Done { header, consumed } => Progress::Done { header, consumed: consumed + cut },
                other => other,
            },
            other => other,
        }
    }

    fn shown(progress: Progress) -> String {
        match progress {
            Progress::NeedMore => "more".to_string(),
            Progress::Done { header: Some(Proxied { source, destination }), consumed } => format!("{source} {destination} {consumed}"),
            Progress::Done { header: None, consumed } => format!("- {consumed}"),
            Progress::Bad(error) => format!("{error:?}"),
        }
    }

    /// Version 2 with `payload` behind the fixed part.
    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    const IPV4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 1, 187];

    fn ipv6() -> Vec<u8> {
        let address = |last| [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
        [address(1), address(2), vec![0x12, 0x67, 1, 187]].concat()
    }

    #[test]
    fn a_line_of_version_1_is_read() {
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\nGET /", "192.0.2.1:4711 192.0.2.2:443 41");
        check(b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", "[2001:db8::1]:4711 [2001:db8::2]:443 45");
        check(b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0 255.255.255.255:65535 44");
        check(b"PROXY UNKNOWN\r\nGET /", "- 15");
        check(b"PROXY UNKNOWN ffff::1 whatever\r\n", "- 32");
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r", "more");
        check(b"", "more");
    }

    #[test]
    fn a_line_that_is_not_quite_one_is_bad() {
        for line in [
            &b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\rx",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443 1\r\n",
            b"PROXY TCP4  192.0.2.1 192.0.2.2 4711 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 04711 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +471 443\r\n",
            b"PROXY TCP4 192.0.2.01 192.0.2.2 4711 443\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 4711 443\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 4711 443\r\n",
            b"PROXY TCP4 \xff 192.0.2.2 4711 443\r\n",
            b"PROXY \r\n",
        ] {
            check(line, "Line");
        }
        let filled = |length: usize| [b"PROXY UNKNOWN ", &*vec![b'x'; length - 16], b"\r\n"].concat();
        check(&filled(107), "- 107");
        check(&filled(108), "LineLength");
        check(b"GET / HTTP/1.1\r\n", "Missing");
        check(b"PROXYTCP4", "Missing");
        check(b"\x16\x03\x01", "Missing");
    }

    #[test]
    fn a_header_of_version_2_is_read() {
        check(&[&binary(0x21, 0x11, IPV4)[..], b"GET /"].concat(), "192.0.2.1:4711 192.0.2.2:443 28");
        check(&binary(0x21, 0x21, &ipv6()), "[2001:db8::1]:4711 [2001:db8::2]:443 52");
        check(&binary(0x21, 0x11, &[IPV4, &[0x01, 0, 2, b'h', b'2']].concat()), "192.0.2.1:4711 192.0.2.2:443 33");
        check(&binary(0x21, 0x31, &[0; 216]), "- 232");
        check(&binary(0x21, 0x00, &[1, 2, 3]), "- 19");
        check(&binary(0x20, 0x11, IPV4), "- 28");
        check(&binary(0x20, 0xff, &[]), "- 16");
        check(&binary(0x21, 0x11, IPV4)[..27], "more");
        check(&binary(0x21, 0x11, &[IPV4, &[0; 9]].concat())[..36], "more");
    }

    #[test]
    fn a_header_of_version_2_that_is_not_quite_one_is_bad() {
        check(&binary(0x11, 0x11, IPV4), "Version");
        check(&binary(0x22, 0x11, IPV4), "Version");
        check(&binary(0x21, 0x12, IPV4), "Family");
        check(&binary(0x21, 0x41, IPV4), "Family");
        check(&binary(0x21, 0x11, &IPV4[..11]), "Short");
        check(&binary(0x21, 0x21, IPV4), "Short");
        check(&binary(0x21, 0x31, &[0; 215]), "Short");
        check(b"\r\n\r\n\0\r\nQUIX\n", "Missing");
    }

    #[test]
    fn additions_are_skipped_up_to_4_kib() {
        let with = |additions: usize| binary(0x21, 0x11, &[IPV4, &vec![0; additions]].concat());
        assert_eq!(shown(feed_cut(&with(4096), 20)), "192.0.2.1:4711 192.0.2.2:443 4124");
        assert_eq!(shown(feed_cut(&with(4097), 20)), "Length");
        assert_eq!(shown(feed_cut(&binary(0x20, 0, &[0; 4097]), 20)), "Length");
    }

    /// Headers, nearly headers, and noise.
    fn anything() -> impl Strategy<Value = Vec<u8>> {
        let noise = || prop::collection::vec(any::<u8>(), 0..60);
        prop_oneof![
            noise(),
            noise().prop_map(|noise| [LINE_BEGIN, &noise].concat()),
            "(TCP4|TCP6|UNKNOWN)( [0-9a-f.:]{1,12}){0,5}\r\n.{0,9}".prop_map(|line| [LINE_BEGIN, line.as_bytes()].concat()),
            (0x1f..0x23u8, prop::sample::select(vec![0u8, 0x11, 0x12, 0x21, 0x31]), noise())
                .prop_map(|(command, family, payload)| binary(command, family, &payload)),
        ]
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(bytes in anything(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let whole = Decoder::default().feed(&bytes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut decoder, mut from, mut answer) = (Decoder::default(), 0, Progress::NeedMore);
            for cut in cuts {
                answer = match decoder.feed(&bytes[from..cut]) {
                    Progress::Done { header, consumed } => Progress::Done { header, consumed: consumed + from },
                    other => other,
                };
                from = cut;
                if answer != Progress::NeedMore {
                    break;
                }
            }
            prop_assert_eq!(answer, whole);
        }
    }
}
