//! The table of connections: how many there may be, in all and for one address, and who makes room for a newcomer.
//!
//! So nobody can use up the descriptors, or the memory that a connection takes, and whoever opens connections by the dozen
//! mostly closes his own.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::connection::{Connection, Standing};
use super::turnstile::{Queues, Turnstile};

/// Connections beside those of viewers.
const BESIDE_VIEWERS: usize = 64;
/// Descriptors for all else: camera, encoder, buffers, files that are read for an answer.
const DESCRIPTORS_ELSEWHERE: usize = 64;
/// So many clients may leave their answers unread at a time, for longer than this.
const BLOCKED_MAX: usize = 16;
const BLOCKED_FOR: Duration = Duration::from_secs(1);
/// Connections that may wait to be put into the table or to be taken out.
pub const IN_PASSING: usize = 8;

/// How many connections and viewers there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address that are no streams.
    pub of_one_address: usize,
    /// Streams.
    pub viewers: usize,
}

impl Limits {
    /// Of a process that may have so many descriptors.
    pub fn new(max_viewers: usize, descriptors: usize) -> Self {
        let possible = descriptors.saturating_sub(DESCRIPTORS_ELSEWHERE + IN_PASSING).max(2);
        let connections = (max_viewers + BESIDE_VIEWERS).min(possible);
        Self {
            connections,
            of_one_address: connections.div_ceil(4).min(BESIDE_VIEWERS / 2),
            viewers: max_viewers.min(connections - BESIDE_VIEWERS.min(connections / 2)),
        }
    }

    /// Of this process. Its limit of descriptors is raised where that is needed and allowed.
    pub fn of_this_process(max_viewers: usize) -> Self {
        let wanted = max_viewers + BESIDE_VIEWERS + IN_PASSING + DESCRIPTORS_ELSEWHERE;
        let limits = Self::new(max_viewers, raise_descriptors(wanted));
        if limits.viewers < max_viewers {
            log::warn!(
                "http.max_viewers is {max_viewers}, but this process may open too few files for it: {} are served; raise \
                 LimitNOFILE= (or ulimit -n) to {wanted}",
                limits.viewers
            );
        }
        limits
    }
}

/// Lets this process open `wanted` files, if it may. Returns how many it can.
fn raise_descriptors(wanted: usize) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes into the struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return wanted;
    }
    if limit.rlim_cur < wanted as libc::rlim_t {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max.min(wanted as libc::rlim_t), ..limit };
        // SAFETY: reads the struct.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// All connections of the worker.
pub struct Connections {
    limits: Limits,
    /// Addresses without a limit of their own: many people may be behind them.
    is_exempt: Box<dyn Fn(IpAddr) -> bool>,
    /// Closed to make room.
    evicted: Counter,
    /// Closed as there was no room.
    refused: Counter,
    table: RefCell<Vec<Rc<Connection>>>,
    /// Requests go through it one by one while somebody watches.
    turnstile: Rc<Turnstile>,
    is_watched: Box<dyn Fn() -> bool>,
}

impl Connections {
    /// An empty table, on the worker's own thread.
    pub fn new(
        limits: Limits,
        is_exempt: impl Fn(IpAddr) -> bool + 'static,
        is_watched: impl Fn() -> bool + 'static,
        evicted: Counter,
        refused: Counter,
    ) -> Rc<Self> {
        let turnstile = Rc::<Turnstile>::default();
        actix_rt::spawn(Rc::clone(&turnstile).keep());
        let (is_exempt, is_watched) = (Box::new(is_exempt), Box::new(is_watched));
        Rc::new(Self { limits, is_exempt, evicted, refused, table: RefCell::default(), turnstile, is_watched })
    }

    /// A place for a connection, if need be one that another has to leave. `None` if none of them can be asked to.
    pub fn admit(self: &Rc<Self>, connection: &Rc<Connection>) -> Option<Place> {
        let mut table = self.table.borrow_mut();
        let address = connection.address();
        let is_there = |other: &&Rc<Connection>| !other.is_aborted();
        let is_own = |other: &&Rc<Connection>| other.address() == address && !other.is_viewer() && is_there(other);
        let has_room =
            if !(self.is_exempt)(address) && table.iter().filter(is_own).count() >= self.limits.of_one_address {
                self.evict(table.iter().filter(is_own))
            } else if table.iter().filter(is_there).count() >= self.limits.connections {
                self.evict(table.iter().filter(is_there)) || self.evict_of_largest_holder(&table, address)
            } else {
                true
            };
        if !has_room {
            self.refused.inc();
            return None;
        }
        table.push(Rc::clone(connection));
        Some(Place { connections: Rc::clone(self), connection: Rc::clone(connection) })
    }

    /// Ends all connections on which nothing is being answered.
    pub fn end_idle(&self) {
        for connection in self.table.borrow().iter() {
            if matches!(connection.standing(Instant::now()), Standing::Idle(_) | Standing::Unfinished(_)) {
                connection.abort();
            }
        }
    }

    /// True if this one, a request or a new connection, may go on now. Else it is called when it may.
    pub fn may_pass(&self, queuing: &Rc<impl Queues + 'static>) -> bool {
        !(self.is_watched)() || self.turnstile.pass(queuing)
    }

    /// Ends the first of these that may be ended.
    fn evict<'a>(&self, connections: impl Iterator<Item = &'a Rc<Connection>>) -> bool {
        let now = Instant::now();
        let standings = connections.map(|connection| (connection.standing(now), connection));
        let first = standings.min_by_key(|(standing, _)| *standing).filter(|(standing, _)| *standing < Standing::Busy);
        first.is_some_and(|(_, victim)| self.end(victim))
    }

    /// Where all are in use: ends the newest of the address that has the most, if that is more than a quarter of all.
    fn evict_of_largest_holder(&self, table: &[Rc<Connection>], newcomer: IpAddr) -> bool {
        let is_there = |other: &&Rc<Connection>| !other.is_aborted();
        let held_by = |address| table.iter().filter(is_there).filter(|other| other.address() == address).count();
        let addresses = table.iter().filter(is_there).map(|other| other.address());
        let others = addresses.filter(|&address| address != newcomer && !(self.is_exempt)(address));
        let holder = others.max_by_key(|&address| held_by(address));
        let Some(holder) = holder.filter(|&holder| held_by(holder) > self.limits.connections.div_ceil(4)) else {
            return false;
        };
        let newest =
            table.iter().filter(|other| is_there(other) && other.address() == holder).max_by_key(|other| other.since());
        newest.is_some_and(|newest| self.end(newest))
    }

    /// Lets no more than a few clients leave their answers unread: each holds a picture.
    fn end_blocked(&self) {
        let now = Instant::now();
        let table = self.table.borrow();
        let blocked = table.iter().filter(|other| !other.is_aborted()).filter_map(|other| match other.standing(now) {
            Standing::Blocked(since) if now.saturating_duration_since(since) >= BLOCKED_FOR => Some((since, other)),
            _ => None,
        });
        if blocked.clone().count() > BLOCKED_MAX
            && let Some((_, oldest)) = blocked.min_by_key(|(since, _)| *since)
        {
            self.end(oldest);
        }
    }

    fn end(&self, victim: &Connection) -> bool {
        log::debug!("the connection from {} is closed to make room", victim.address());
        self.evicted.inc();
        victim.abort();
        true
    }
}

/// A connection's place in the table. Dropping it makes room.
pub struct Place {
    connections: Rc<Connections>,
    connection: Rc<Connection>,
}

impl Place {
    /// True if a request may go through now. Else the connection is woken when it may.
    pub fn may_ask(&self) -> bool {
        self.connections.may_pass(&self.connection)
    }

    /// The client does not take its answer.
    pub fn is_blocked(&self) {
        self.connections.end_blocked();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.table.borrow_mut();
        if let Some(index) = table.iter().position(|other| Rc::ptr_eq(other, &self.connection)) {
            table.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_the_descriptors() {
        assert_eq!(Limits::new(200, 4096), Limits { connections: 264, of_one_address: 32, viewers: 200 });
        assert_eq!(Limits::new(1000, 4096).connections, 1064);
        // Not even `ulimit -n 256` is reached.
        assert_eq!(Limits::new(200, 256), Limits { connections: 184, of_one_address: 32, viewers: 120 });
        let few = Limits::new(200, 10);
        assert!(few.viewers >= 1 && few.connections > few.viewers, "{few:?}");
    }

    #[test]
    fn who_goes_first() {
        let now = Instant::now();
        let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
        let order = [
            Standing::Idle(earlier),
            Standing::Idle(now),
            Standing::Unfinished(earlier),
            Standing::Unfinished(now),
            Standing::Blocked(earlier),
            Standing::Busy,
            Standing::Viewer,
        ];
        assert!(order.is_sorted());
    }
}
