//! What is done to the suite: the kinds of faults, their names, and what each may delay.

use std::{fmt, str::FromStr, time::Duration};

use tandem_checker::{Excuse, Guarantee};

use crate::suite::Role;

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// The log.
    Kafka,
    /// The ephemeral store.
    Redis,
    /// The store.
    Cassandra,
}

/// A way through the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// An edge and every routing, both ways.
    EdgeRouting,
    /// A routing and every broker.
    RoutingKafka,
    /// A history and every node.
    HistoryCassandra,
    /// An edge and every node.
    EdgeRedis,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed, and started again after a moment.
    Kill(Role),
    /// A process stands still, at times for longer than others wait for it.
    Freeze(Role),
    /// A broker is killed.
    KafkaKill,
    /// Two brokers are killed: nothing can be accepted until one is back.
    KafkaKillTwo,
    /// The active controller is killed.
    KafkaKillController,
    /// All of Redis is killed, and comes back empty.
    RedisKill,
    /// All of Redis is emptied.
    RedisFlush,
    /// A primary is killed, and its replica takes over.
    RedisFailover,
    /// A node is killed.
    CassandraKill,
    /// All nodes stand still.
    CassandraFreeze,
    /// Nothing passes between the two.
    Cut(Link),
    /// An engine answers late.
    Slow(Engine),
    /// A node's disk is full.
    Full(Engine),
    /// The clock of a process jumps forth and back by hours.
    Clock(Role),
}

/// How long after a fault's end its consequences may last: a dead reader's partitions are taken over
/// within 10 s, and what waited for it needs a moment.
const RECOVERY: Duration = Duration::from_secs(10);
/// The same where an edge's lease must lapse first (15 s).
const LEASE: Duration = Duration::from_secs(20);

impl Fault {
    /// All kinds.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        all.extend(Role::ALL.map(Self::Kill));
        all.extend(Role::ALL.map(Self::Freeze));
        all.extend([
            Self::KafkaKill,
            Self::KafkaKillTwo,
            Self::KafkaKillController,
            Self::RedisKill,
            Self::RedisFlush,
            Self::RedisFailover,
            Self::CassandraKill,
            Self::CassandraFreeze,
        ]);
        let links = [
            Link::EdgeRouting,
            Link::RoutingKafka,
            Link::HistoryCassandra,
            Link::EdgeRedis,
        ];
        all.extend(links.map(Self::Cut));
        all.extend([Engine::Kafka, Engine::Redis, Engine::Cassandra].map(Self::Slow));
        all.extend([Engine::Kafka, Engine::Cassandra].map(Self::Full));
        all.extend(Role::ALL.map(Self::Clock));
        all
    }

    /// The engine that it harms for all, if it is one.
    fn engine(self) -> Option<Engine> {
        match self {
            Self::KafkaKill | Self::KafkaKillTwo | Self::KafkaKillController => Some(Engine::Kafka),
            Self::RedisKill | Self::RedisFlush | Self::RedisFailover => Some(Engine::Redis),
            Self::CassandraKill | Self::CassandraFreeze => Some(Engine::Cassandra),
            Self::Slow(engine) | Self::Full(engine) => Some(engine),
            Self::Kill(_) | Self::Freeze(_) | Self::Clock(_) | Self::Cut(_) => None,
        }
    }

    /// Whether both may be done at once: each must find what it harms.
    pub fn goes_with(self, other: Self) -> bool {
        self != other && (self.engine().is_none() || self.engine() != other.engine())
    }

    /// What it may delay, and for how long after its end.
    pub fn excuses(self) -> Vec<Excuse> {
        use Guarantee::{G1, G4, G5, G6, G9};
        let (guarantees, recovery): (&[Guarantee], Duration) = match self {
            Self::Kill(role) | Self::Freeze(role) | Self::Clock(role) => match role {
                Role::Edge => (&[G1, G5, G6], LEASE),
                Role::Routing => (&[G1, G5], RECOVERY),
                Role::Presence => (&[G6, G9], RECOVERY),
                // who syncs asks it for pages
                Role::History => (&[G1, G4], RECOVERY),
                Role::Push => (&[G5], RECOVERY),
                // relations and push tokens are asked of it
                Role::Accounts => (&[G1, G5, G6, G9], RECOVERY),
            },
            // whose session is to sync again is told nothing live, and no status
            Self::Cut(Link::EdgeRouting | Link::EdgeRedis) => (&[G1, G5, G6], LEASE),
            Self::Cut(Link::RoutingKafka) => (&[G1, G5], RECOVERY),
            Self::Cut(Link::HistoryCassandra) => (&[G1, G4], RECOVERY),
            _ => match self.engine() {
                Some(Engine::Redis) => (&[G1, G5, G6], LEASE),
                _ => (&[G1, G4, G5, G6, G9], RECOVERY),
            },
        };
        let excuse = |guarantee: &Guarantee| Excuse {
            guarantee: *guarantee,
            recovery_us: recovery.as_micros() as u64,
            most_us: None,
        };
        guarantees.iter().map(excuse).collect()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "kafka",
            Self::Redis => "redis",
            Self::Cassandra => "cassandra",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(role) => write!(f, "kill-{}", role.name()),
            Self::Freeze(role) => write!(f, "freeze-{}", role.name()),
            Self::KafkaKill => f.write_str("kafka-kill"),
            Self::KafkaKillTwo => f.write_str("kafka-kill-two"),
            Self::KafkaKillController => f.write_str("kafka-kill-controller"),
            Self::RedisKill => f.write_str("redis-kill"),
            Self::RedisFlush => f.write_str("redis-flush"),
            Self::RedisFailover => f.write_str("redis-failover"),
            Self::CassandraKill => f.write_str("cassandra-kill"),
            Self::CassandraFreeze => f.write_str("cassandra-freeze"),
            Self::Cut(Link::EdgeRouting) => f.write_str("cut-edge-routing"),
            Self::Cut(Link::RoutingKafka) => f.write_str("cut-routing-kafka"),
            Self::Cut(Link::HistoryCassandra) => f.write_str("cut-history-cassandra"),
            Self::Cut(Link::EdgeRedis) => f.write_str("cut-edge-redis"),
            Self::Slow(engine) => write!(f, "slow-{engine}"),
            Self::Full(engine) => write!(f, "full-{engine}"),
            Self::Clock(role) => write!(f, "clock-{}", role.name()),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::all().into_iter();
        let found = all.find(|f| f.to_string() == text);
        found.ok_or_else(|| "no such fault; --list names them".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_excuses_no_loss() {
        let all = Fault::all();
        let mut names: Vec<_> = all.iter().map(ToString::to_string).collect();
        for (fault, name) in all.iter().zip(&names) {
            assert_eq!(name.parse(), Ok(*fault));
            let excused: Vec<_> = fault.excuses().iter().map(|e| e.guarantee).collect();
            assert!(!excused.contains(&Guarantee::G2) && !excused.contains(&Guarantee::G3));
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn two_faults_at_once_harm_two_things() {
        assert!(Fault::KafkaKill.goes_with(Fault::RedisFlush));
        assert!(Fault::Kill(Role::Edge).goes_with(Fault::Freeze(Role::Edge)));
        assert!(!Fault::KafkaKill.goes_with(Fault::Full(Engine::Kafka)));
        assert!(!Fault::RedisFlush.goes_with(Fault::RedisFlush));
    }
}
