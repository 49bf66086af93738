//! How many connections there are: in all, on a listener, from an address. Counted when they come and go, never per
//! request.

use crate::{listener::LiveListener, request::origin::client_key, telemetry::metrics::Refused};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The most connections there may be.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) total: usize,
    pub(crate) per_address: usize,
}

/// Whom an address belongs to, as limits count it: an IPv6 caller has a whole network of them.
type Owner = [u8; 17];

#[derive(Default)]
pub(crate) struct Census {
    total: AtomicUsize,
    /// Only addresses that have a connection are in here, so it is no larger than `total`.
    addresses: Mutex<HashMap<Owner, usize>>,
}

/// One connection's place in the census, given up when it is dropped.
pub(crate) struct Place {
    census: Arc<Census>,
    listener: Arc<LiveListener>,
    address: Option<Owner>,
}

impl Census {
    pub(crate) fn admit(self: &Arc<Self>, listener: &Arc<LiveListener>, listener_max: usize, limits: &Limits) -> Result<Place, Refused> {
        if self.total.fetch_add(1, Relaxed) >= limits.total {
            self.total.fetch_sub(1, Relaxed);
            return Err(Refused::NodeFull);
        }
        if listener.open.fetch_add(1, Relaxed) >= listener_max {
            listener.open.fetch_sub(1, Relaxed);
            self.total.fetch_sub(1, Relaxed);
            return Err(Refused::ListenerFull);
        }
        listener.metrics.connections.add(1);
        Ok(Place { census: self.clone(), listener: listener.clone(), address: None })
    }

    pub(crate) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<Owner, usize>> {
        self.addresses.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Place {
    /// Counts the connection for its address as well; for IPv6 for its /64.
    pub(crate) fn count_address(&mut self, address: IpAddr, most: usize) -> Result<(), Refused> {
        let address = client_key(address);
        let mut addresses = self.census.addresses();
        let count = addresses.entry(address).or_insert(0);
        if *count >= most {
            return Err(Refused::AddressFull);
        }
        *count += 1;
        drop(addresses);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.census.total.fetch_sub(1, Relaxed);
        self.listener.open.fetch_sub(1, Relaxed);
        self.listener.metrics.connections.sub(1);
        let Some(address) = self.address else { return };
        let mut addresses = self.census.addresses();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}
