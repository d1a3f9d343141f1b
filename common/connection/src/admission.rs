//! How many connections there may be, in total and for each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::ConnectionHandle;

/// Limits on the connections of a process.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Connections in total.
    pub max: usize,
    /// Connections of one address; an IPv6 /64 counts as one.
    pub max_per_address: usize,
    /// Addresses without a limit of their own, for example of proxies.
    pub shared: Vec<IpAddr>,
}

impl ConnectionLimits {
    /// At most `max` connections; one address may have three quarters of them.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, max_per_address: (max / 4 * 3).max(1), shared: Vec::new() }
    }
}

/// The open connections of a process. When there is no place for a new one, the connection that has waited longest for a request
/// makes room: of the same address when that has used up its share, else of the address with the most connections.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    next: u64,
    by_address: HashMap<IpAddr, HashMap<u64, ConnectionHandle>>,
}

/// An admitted connection; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    connections: Arc<Connections>,
    address: IpAddr,
    id: u64,
    handle: ConnectionHandle,
}

impl Connections {
    /// No connections yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `peer`; `None` when there is none and no waiting connection can make room.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        let address = network(peer.to_canonical());
        let shared = self.limits.shared.iter().any(|shared| network(shared.to_canonical()) == address);
        let mut open = self.open();
        let own = open.count(address);
        if own >= self.limits.max_per_address && !shared && !open.evict_from(address) {
            return None;
        }
        if open.total >= self.limits.max && !open.make_room(address, own) {
            return None;
        }
        open.total += 1;
        open.next += 1;
        let (id, handle) = (open.next, ConnectionHandle::default());
        open.by_address.entry(address).or_default().insert(id, handle.clone());
        Some(Admitted { connections: Arc::clone(self), address, id, handle })
    }

    /// Number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().total
    }
}

impl Open {
    fn count(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, HashMap::len)
    }

    /// Ends a waiting connection of the newcomer's address, or of one with more connections: the largest first.
    fn make_room(&mut self, newcomer: IpAddr, own: usize) -> bool {
        let mut candidates: Vec<(usize, IpAddr)> = self
            .by_address
            .iter()
            .filter(|(address, connections)| connections.len() > own || **address == newcomer)
            .map(|(address, connections)| (connections.len(), *address))
            .collect();
        candidates.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
        candidates.into_iter().any(|(_, address)| self.evict_from(address))
    }

    /// Ends the connection of `address` that has waited longest.
    fn evict_from(&mut self, address: IpAddr) -> bool {
        let Some(connections) = self.by_address.get(&address) else { return false };
        let longest = connections
            .iter()
            .filter_map(|(id, handle)| Some((handle.waiting_since()?, *id, handle)))
            .min_by_key(|(since, id, _)| (*since, *id));
        let Some((_, id, handle)) = longest else { return false };
        handle.evict() && self.remove(address, id)
    }

    fn remove(&mut self, address: IpAddr, id: u64) -> bool {
        let Some(connections) = self.by_address.get_mut(&address) else { return false };
        let removed = connections.remove(&id).is_some();
        if connections.is_empty() {
            self.by_address.remove(&address);
        }
        self.total -= usize::from(removed);
        removed
    }
}

impl Admitted {
    /// The state of the connection.
    #[must_use]
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.open().remove(self.address, self.id);
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64.
#[must_use]
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn connections(max: usize, max_per_address: usize) -> Arc<Connections> {
        Connections::new(ConnectionLimits { max, max_per_address, shared: vec![ip("10.0.0.9")] })
    }

    fn is_evicted(admitted: &Admitted) -> bool {
        admitted.handle.waiting_since().is_none()
    }

    #[tokio::test]
    async fn an_address_replaces_its_own_waiting_connections_first() {
        let all = connections(10, 2);
        let greedy = ip("10.0.0.1");
        let first = all.admit(greedy).unwrap();
        let second = all.admit(greedy).unwrap();
        let third = all.admit(greedy).unwrap();
        assert!(is_evicted(&first) && !is_evicted(&second));
        let _busy = (second.handle.begin_request(), third.handle.begin_request());
        assert!(all.admit(greedy).is_none(), "both answer a request");
        assert!(all.admit(ip("10.0.0.2")).is_some());
        drop(first);
        assert_eq!(all.count(), 2);
    }

    #[tokio::test]
    async fn when_all_places_are_taken_the_largest_address_makes_room() {
        let all = connections(4, 3);
        let one = all.admit(ip("10.0.0.1")).unwrap();
        let many: Vec<_> = (0..3).map(|_| all.admit(ip("10.0.0.2")).unwrap()).collect();
        let new = all.admit(ip("10.0.0.3")).unwrap();
        assert!(is_evicted(&many[0]) && !is_evicted(&one));
        let _busy = (many[1].handle.begin_request(), many[2].handle.begin_request());
        assert!(
            all.admit(ip("10.0.0.4")).is_some(),
            "one waiting connection each: that of an equal may not be taken"
        );
        drop((one, new, many));
        assert_eq!((all.count(), all.open().by_address.len()), (0, 0));
    }

    #[tokio::test]
    async fn shared_addresses_may_use_every_place() {
        let all = connections(4, 1);
        let open: Vec<_> = (0..4).map(|_| all.admit(ip("::ffff:10.0.0.9")).unwrap()).collect();
        assert!(open.iter().all(|one| !is_evicted(one)));
        assert_eq!(all.count(), 4);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let same = ["2001:db8::1", "2001:db8::ffff:2"].map(|text| network(ip(text)));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network(ip("2001:db8:0:1::1")));
        assert_eq!(network(ip("10.0.0.7")), ip("10.0.0.7"));
    }
}
