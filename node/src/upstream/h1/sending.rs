//! One request on its way to an endpoint: its head, then its body as it comes, in as few writes as possible.

use super::{
    body::may_trail,
    head::{Framing, RequestHead, write_field},
};
use crate::request::Upload;
use bytes::{Buf as _, Bytes};
use cluster::BoxStream;
use http::{HeaderMap, HeaderName, header::TRAILER};
use http_body::Body as _;
use std::{
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite as _;

/// What is kept for the next request of what was allocated for this one's head.
const KEPT_MAX: usize = 4 * 1024;

#[derive(Default)]
pub(super) struct Sending {
    step: Step,
    framing: Option<Framing>,
    upload: Option<Upload>,
    /// To be written in this order: the head or the size of a chunk, a piece of the body, and the end of its chunk.
    front: Vec<u8>,
    written: usize,
    piece: Bytes,
    tail: &'static [u8],
    /// Whether any byte of the request has been taken by the connection.
    touched: bool,
    /// The names that may follow the body, as the head has promised.
    trailers: Vec<HeaderName>,
}

#[derive(Default)]
enum Step {
    /// Nothing is to be sent, or all of it is on its way.
    #[default]
    Complete,
    /// The head waits to be written, and takes along as much of the body as is there already.
    Head,
    Body,
    /// All is written but may still be held back by TLS.
    Flush,
    /// The connection takes no more.
    Failed(Option<io::Error>),
    /// There is no more of the body, and its end has not come: whatever the endpoint answers, it answers to a part.
    CutShort(Option<io::Error>),
}

impl Sending {
    pub(super) fn begin(&mut self, head: &RequestHead<'_>, upload: Upload) {
        let framing = head.framing(upload.size_hint().exact());
        self.front.clear();
        head.write(framing, &mut self.front);
        self.trailers = if framing == Framing::Chunked { announced(head.headers) } else { Vec::new() };
        self.framing = Some(framing);
        self.upload = Some(upload);
        (self.written, self.touched, self.step) = (0, false, Step::Head);
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.step, Step::Complete)
    }

    /// Sends what can be sent now. A failure is kept until it is asked for.
    pub(super) fn poll(&mut self, stream: &mut BoxStream, cx: &mut Context<'_>) {
        if matches!(self.step, Step::Complete | Step::Failed(_) | Step::CutShort(_)) {
            return;
        }
        if let Poll::Ready(Err(error)) = self.poll_steps(stream, cx) {
            self.step = Step::Failed(Some(error));
        }
    }

    /// The body of a request of which the connection took nothing before it failed.
    pub(super) fn take_unsent(&mut self) -> Option<Upload> {
        if self.touched || !matches!(self.step, Step::Failed(_)) {
            return None;
        }
        let mut upload = self.upload.take()?;
        upload.put_back(std::mem::take(&mut self.piece));
        Some(upload)
    }

    /// Whether the body broke off on the caller's side.
    pub(super) fn is_cut_short(&self) -> bool {
        matches!(self.step, Step::CutShort(_))
    }

    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        match &mut self.step {
            Step::Failed(error) | Step::CutShort(error) => error.take(),
            _ => None,
        }
    }

    fn poll_steps(&mut self, stream: &mut BoxStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.step {
                Step::Head => {
                    self.step = match self.poll_upload(cx) {
                        Ok(Poll::Ready(false)) => Step::Flush,
                        Ok(Poll::Ready(true) | Poll::Pending) => Step::Body,
                        Err(error) => Step::CutShort(Some(error)),
                    };
                }
                Step::Body => {
                    ready!(self.poll_drain(stream, cx))?;
                    match self.poll_upload(cx) {
                        Ok(Poll::Ready(true)) => {}
                        Ok(Poll::Ready(false)) => self.step = Step::Flush,
                        Err(error) => self.step = Step::CutShort(Some(error)),
                        Ok(Poll::Pending) => {
                            ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                            return Poll::Pending;
                        }
                    }
                }
                Step::Flush => {
                    ready!(self.poll_drain(stream, cx))?;
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    self.upload = None;
                    if self.front.capacity() > KEPT_MAX {
                        self.front = Vec::new();
                    }
                    self.step = Step::Complete;
                }
                Step::Complete | Step::Failed(_) | Step::CutShort(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Gets ready what comes next of the body. False if that is its end.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<bool>> {
        let Some(framing) = &mut self.framing else { return Ok(Poll::Ready(false)) };
        let Some(upload) = &mut self.upload else { return Ok(Poll::Ready(false)) };
        if matches!(framing, Framing::None | Framing::Length(0)) {
            return Ok(Poll::Ready(false));
        }
        let frame = match Pin::new(upload).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(None) => None,
            Poll::Ready(Some(Err(error))) => return Err(io::Error::other(error)),
            Poll::Ready(Some(Ok(frame))) => Some(frame),
        };
        let trailers = match frame.map(http_body::Frame::into_data) {
            Some(Ok(data)) => {
                match framing {
                    Framing::Length(left) => {
                        *left = left
                            .checked_sub(data.len() as u64)
                            .ok_or_else(|| io::Error::other("the body is longer than its declared length"))?;
                    }
                    _ if data.is_empty() => return Ok(Poll::Ready(true)),
                    _ => {
                        write!(self.front, "{:x}\r\n", data.len())?;
                        self.tail = b"\r\n";
                    }
                }
                self.piece = data;
                return Ok(Poll::Ready(!matches!(framing, Framing::Length(0))));
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        if let Framing::Length(_) = framing {
            return Err(io::Error::other("the body is shorter than its declared length"));
        }
        self.front.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().flatten() {
            if self.trailers.contains(name) {
                write_field(name, value, &mut self.front);
            }
        }
        self.front.extend_from_slice(b"\r\n");
        Ok(Poll::Ready(false))
    }

    /// Writes what is ready to be written.
    fn poll_drain(&mut self, stream: &mut BoxStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.front.len() || !self.piece.is_empty() || !self.tail.is_empty() {
            let front = &self.front[self.written..];
            let stream = Pin::new(&mut *stream);
            let written = if self.piece.is_empty() && self.tail.is_empty() {
                ready!(stream.poll_write(cx, front))?
            } else {
                let slices = [IoSlice::new(front), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
                let from = usize::from(front.is_empty());
                ready!(stream.poll_write_vectored(cx, &slices[from..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.touched = true;
            self.advance(written);
        }
        self.front.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_front = written.min(self.front.len() - self.written);
        self.written += of_front;
        let of_piece = (written - of_front).min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = &self.tail[written - of_front - of_piece..];
    }
}

/// The trailers that a head promises: only those may be sent (RFC 9110, section 6.5.2 lets others be dropped).
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers.get_all(TRAILER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).filter(may_trail).collect()
}
