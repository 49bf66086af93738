//! Reaching an endpoint: its name, a TCP connection, and TLS where it asks for it.

use super::resolve::NameServers;
use crate::tls::UpstreamTls;
use actors::service::names::Located;
use cluster::{BoxStream, World, resolve};
use config::{Endpoint, Protocol};
use http::HeaderValue;
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_rustls::TlsConnector;

/// How long the addresses of a name are used before it is asked for again.
const NAME_FRESH: Duration = Duration::from_secs(10);

/// Where an endpoint is and what it speaks.
pub(crate) struct Target {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) tls: bool,
    /// `host:port`, or the host alone on the scheme's own port: what `Host` says where it names the endpoint.
    pub(crate) authority: HeaderValue,
    /// Where it is, without asking for its name.
    address: Option<SocketAddr>,
    name_servers: NameServers,
    resolved: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

/// A connection that stands, and what was agreed on for it.
pub(crate) struct Dialed {
    pub(crate) stream: BoxStream,
    pub(crate) h2: bool,
}

/// What a connection is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Requests,
    /// To become a tunnel, which only HTTP/1.1 does here.
    Upgrade,
}

#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The name has no address, now or ever.
    Name(io::Error),
    Refused(io::Error),
    Tls(io::Error),
    TimedOut,
    /// The upstream has all the connections it may have, and none came free in time.
    PoolFull,
    /// As many requests of the service wait for a connection as may.
    WaitingFull,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "name not resolved: {error}"),
            Self::Refused(error) => write!(f, "connection refused: {error}"),
            Self::Tls(error) => write!(f, "tls: {error}"),
            Self::TimedOut => f.write_str("connect timed out"),
            Self::PoolFull => f.write_str("all connections busy"),
            Self::WaitingFull => f.write_str("too many requests wait for a connection"),
        }
    }
}

impl Target {
    /// `name_servers` are asked where the endpoint is a name whose address is not told.
    pub(crate) fn new(located: &Located, protocol: Protocol, name_servers: NameServers) -> Self {
        let endpoint = &located.endpoint;
        let own_port = if endpoint.tls { 443 } else { 80 };
        let mut authority = endpoint.authority();
        if endpoint.port == own_port {
            authority.truncate(authority.len() - endpoint.port.to_string().len() - 1);
        }
        Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
            protocol,
            tls: endpoint.tls,
            authority: HeaderValue::try_from(authority).expect("a checked endpoint's authority is a header value"),
            address: located.address,
            name_servers,
            resolved: Mutex::new(None),
        }
    }

    /// What operators know it by.
    pub(crate) fn endpoint(&self) -> String {
        self.located(self.port).name()
    }

    /// The same host by another port.
    pub(super) fn at_port(&self, port: u16) -> Self {
        Self::new(&self.located(port), self.protocol, self.name_servers.clone())
    }

    /// The same, spoken to by HTTP/2 only.
    pub(super) fn by_h2(&self) -> Self {
        Self::new(&self.located(self.port), Protocol::H2, self.name_servers.clone())
    }

    fn located(&self, port: u16) -> Located {
        let address = self.address.map(|address| SocketAddr::new(address.ip(), port));
        Located { endpoint: Endpoint::new(self.tls, self.host.clone(), port), address }
    }

    /// Dials within `within`, name resolution and TLS included.
    pub(crate) async fn dial(
        &self,
        world: &dyn World,
        tls: Option<&UpstreamTls>,
        purpose: Purpose,
        within: Duration,
    ) -> Result<Dialed, ConnectError> {
        match tokio::time::timeout(within, self.dial_unbounded(world, tls, purpose, within)).await {
            Ok(dialed) => dialed,
            Err(_elapsed) => Err(ConnectError::TimedOut),
        }
    }

    async fn dial_unbounded(
        &self,
        world: &dyn World,
        tls: Option<&UpstreamTls>,
        purpose: Purpose,
        within: Duration,
    ) -> Result<Dialed, ConnectError> {
        let stream = match self.address {
            Some(address) => world.connect(address).await.map_err(ConnectError::Refused)?,
            None => self.connect_by_name(world, within).await?,
        };
        let Some(tls) = tls else {
            return Ok(Dialed { stream, h2: self.protocol == Protocol::H2 });
        };
        let name = tls.server_name(&self.host).map_err(|error| ConnectError::Tls(io::Error::other(error.to_string())))?;
        let config = match purpose {
            Purpose::Requests => tls.config(),
            Purpose::Upgrade => tls.config_for_upgrade(),
        };
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)?;
        let h2 = match (stream.get_ref().1.alpn_protocol(), self.protocol) {
            (Some(b"h2"), _) => true,
            (_, Protocol::H2) => return Err(ConnectError::Tls(io::Error::other("endpoint did not agree to h2"))),
            _ => false,
        };
        Ok(Dialed { stream: Box::new(stream), h2 })
    }

    /// Tries the addresses of a name in order. One that stays silent may use half of the time that is left, so that
    /// there is time for the next.
    async fn connect_by_name(&self, world: &dyn World, within: Duration) -> Result<BoxStream, ConnectError> {
        let started = world.now();
        let addresses = self.addresses(world).await?;
        let mut last = ConnectError::Name(io::Error::other("the name has no addresses"));
        for (index, address) in addresses.iter().enumerate() {
            let left = within.saturating_sub(world.now() - started);
            let share = if index + 1 == addresses.len() { left } else { left / 2 };
            last = match tokio::time::timeout(share, world.connect(*address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => ConnectError::Refused(error),
                Err(_elapsed) => ConnectError::TimedOut,
            };
        }
        // Perhaps the name points elsewhere by now.
        self.forget_addresses();
        Err(last)
    }

    async fn addresses(&self, world: &dyn World) -> Result<Arc<[SocketAddr]>, ConnectError> {
        let now = world.now();
        let known = self.lock().clone();
        if let Some((at, addresses)) = &known
            && now.saturating_duration_since(*at) < NAME_FRESH
        {
            return Ok(addresses.clone());
        }
        match (resolve(world, &self.name_servers.get(), &self.host, self.port).await, known) {
            (Ok(found), _) if !found.is_empty() => {
                let found: Arc<[SocketAddr]> = found.into();
                *self.lock() = Some((now, found.clone()));
                Ok(found)
            }
            // A resolver that fails does not make an endpoint unreachable that was reachable a moment ago.
            (_, Some((_, stale))) => Ok(stale),
            (Ok(_), None) => Err(ConnectError::Name(io::Error::other("the name has no addresses"))),
            (Err(error), None) => Err(ConnectError::Name(error)),
        }
    }

    fn forget_addresses(&self) {
        if let Some((at, _)) = self.lock().as_mut() {
            *at = at.checked_sub(NAME_FRESH).unwrap_or(*at);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<[SocketAddr]>)>> {
        self.resolved.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
