//! One end of a connection that speaks HTTP/1.1.

use super::{Decoder, Step, invalid};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes both ways, whatever they travel through.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub struct Wire {
    io: Box<dyn Io>,
    /// Read, and not yet made sense of.
    pub buffer: Vec<u8>,
    /// Everything that has been read so far, in bytes.
    pub taken: u64,
    /// How much is taken at once.
    pub gulp: usize,
}

impl Wire {
    pub fn new(io: Box<dyn Io>) -> Self {
        Self { io, buffer: Vec::new(), taken: 0, gulp: 64 * 1024 }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    /// Reads what is there. 0 is the end.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(self.gulp);
        let mut limited = (&mut self.io).take(self.gulp as u64);
        let count = limited.read_buf(&mut self.buffer).await?;
        self.taken += count as u64;
        Ok(count)
    }

    /// The bytes of the next head, with its empty line; `None` where the other end has nothing more to say.
    pub async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(Some(self.buffer.drain(..end + 4).collect()));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next piece of a body, as soon as there is one; `None` at its end.
    pub async fn piece(&mut self, decoder: &mut Decoder) -> io::Result<Option<Vec<u8>>> {
        loop {
            match decoder.step(&mut self.buffer).map_err(invalid)? {
                Step::Data(data) => return Ok(Some(data)),
                Step::Done => return Ok(None),
                Step::Again => {}
                Step::NeedMore => {
                    if self.fill().await? == 0 {
                        return decoder.ends_with_the_connection().then_some(None).ok_or(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    pub async fn body(&mut self, decoder: &mut Decoder) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(decoder).await? {
            body.extend(piece);
        }
        Ok(body)
    }
}

impl Decoder {
    fn ends_with_the_connection(&self) -> bool {
        matches!(self.state, super::State::UntilClose)
    }
}
