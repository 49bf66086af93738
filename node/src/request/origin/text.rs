//! A header's value in the making, on the stack, so that it costs one allocation and not one for every piece.

use http::HeaderValue;
use std::{
    fmt::{self, Write},
    net::IpAddr,
};

/// Up to `N` bytes of visible ASCII. What does not fit is an error of the writer, who chose `N` for the longest value.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.bytes[self.length..][..text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
    }

    /// Puts `separator` behind what is there, if anything is.
    pub(super) fn separate(&mut self, separator: &str) {
        if self.length > 0 {
            self.push(separator);
        }
    }

    pub(super) fn push_address(&mut self, address: IpAddr) {
        match address {
            // By hand, because this is on the way of every request and formatting machinery is five times as slow.
            IpAddr::V4(address) => {
                for (at, octet) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.push_byte(b'.');
                    }
                    if octet >= 100 {
                        self.push_byte(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        self.push_byte(b'0' + octet / 10 % 10);
                    }
                    self.push_byte(b'0' + octet % 10);
                }
            }
            IpAddr::V6(address) => write!(self, "{address}").expect("the buffer holds the longest value"),
        }
    }

    fn push_byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    pub(super) fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.length]).expect("addresses, schemes and hosts are visible ASCII")
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}
