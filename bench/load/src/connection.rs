//! One connection to the proxy, in the clear or over TLS, that carries one request at a time.
//!
//! Sockets never block: a request is small enough for the socket's buffer, so a write that would block is an error
//! rather than something to wait for.

use crate::answer::Answer;
use rustix::net::sockopt::set_socket_linger;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

pub enum Progress {
    Waiting,
    /// `last_one` when the proxy will close the connection after this answer.
    Answered {
        status: u16,
        last_one: bool,
    },
}

/// Where to connect, and how.
pub struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    pub fn new(address: SocketAddr, tls: bool) -> io::Result<Self> {
        Ok(Self { address, tls: tls.then(tls_config).transpose()? })
    }

    pub fn connect(&self) -> io::Result<Connection> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        // Closed with a reset: tens of thousands of connections in TIME_WAIT would use up the ports.
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        let tls = match &self.tls {
            Some(config) => {
                let name = ServerName::try_from("bench.local").expect("the name is a valid one");
                Some(ClientConnection::new(config.clone(), name).map_err(io::Error::other)?)
            }
            None => None,
        };
        Ok(Connection { socket, tls, answer: None })
    }
}

pub struct Connection {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    /// The answer being waited for.
    answer: Option<Answer>,
}

impl Connection {
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn asked(&self) -> bool {
        self.answer.is_some()
    }

    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.answer = Some(Answer::default());
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(request)?;
                self.flush()
            }
            None => self.socket.write_all(request),
        }
    }

    pub fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        loop {
            let read = match &mut self.tls {
                Some(tls) => tls.read_tls(&mut self.socket),
                None => self.socket.read(scratch),
            };
            let read = match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let progress = match self.tls.is_some() {
                true => self.decrypt(scratch)?,
                false => self.take(&scratch[..read])?,
            };
            if let Progress::Answered { .. } = progress {
                return Ok(progress);
            }
        }
    }

    fn decrypt(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let tls = self.tls.as_mut().expect("only called on TLS connections");
        tls.process_new_packets().map_err(io::Error::other)?;
        self.flush()?;
        loop {
            let tls = self.tls.as_mut().expect("only called on TLS connections");
            let read = match tls.reader().read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) => return Err(error),
            };
            if let Progress::Answered { status, last_one } = self.take(&scratch[..read])? {
                return Ok(Progress::Answered { status, last_one });
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<Progress> {
        let Some(answer) = &mut self.answer else {
            return Err(io::Error::other("an answer that nobody asked for"));
        };
        match answer.take(bytes).map_err(io::Error::other)? {
            Some(end) => {
                self.answer = None;
                Ok(Progress::Answered { status: end.status, last_one: end.closes })
            }
            None => Ok(Progress::Waiting),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// No resumption, so that every handshake is a full one, and X25519 only, so that every proxy does the same work.
fn tls_config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() });
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Believes any certificate: checking one would cost this side's core and tell nothing about the proxy.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
