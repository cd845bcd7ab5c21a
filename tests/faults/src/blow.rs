//! A fault done to certain processes for a certain time, and undone.

use std::{ffi::OsStr, fs, path::Path, sync::Arc, time::Duration};

use tandem_chassis::rng::Rng;

use crate::{
    Result,
    fault::{Engine, Fault, Link},
    suite::{Role, Suite},
};

/// libfaketime, as Debian has it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// Of each period, an engine that is slow stands still for this long.
const STILL: Duration = Duration::from_millis(120);
/// And moves for this long.
const MOVING: Duration = Duration::from_millis(80);

/// A fault that knows what it is done to.
#[derive(Debug, Clone)]
pub struct Blow {
    /// Which kind.
    pub fault: Fault,
    /// What is done to what, for people.
    pub what: String,
    hold: Duration,
    /// Which replica or node; which first of two.
    target: usize,
}

impl Blow {
    /// Chooses what a fault is done to, and for how long.
    pub fn aim(fault: Fault, suite: &Suite, rng: &Rng) -> Self {
        let below = |n: usize| rng.below(n as u64) as usize;
        let seconds =
            |from: u64, to: u64| Duration::from_millis(1000 * from + rng.below(1000 * (to - from)));
        let of = |role: Role| {
            let all: Vec<usize> = suite.indices(role);
            all[below(all.len())]
        };
        let name = |i: usize| suite.replicas[i].process.name.clone();
        let (target, hold) = match fault {
            Fault::Kill(role) => (of(role), seconds(1, 8)),
            // half of the time for longer than a reader's session (6 s) and an edge's lease (15 s)
            Fault::Freeze(role) => (
                of(role),
                if below(2) == 0 {
                    seconds(3, 8)
                } else {
                    seconds(18, 25)
                },
            ),
            Fault::Clock(role) => (of(role), seconds(4, 8)),
            Fault::Cut(Link::EdgeRouting | Link::EdgeRedis) => (of(Role::Edge), seconds(5, 20)),
            Fault::Cut(Link::RoutingKafka) => (of(Role::Routing), seconds(5, 20)),
            Fault::Cut(Link::HistoryCassandra) => (of(Role::History), seconds(5, 20)),
            Fault::KafkaKill | Fault::KafkaKillTwo | Fault::KafkaKillController => {
                (below(suite.kafka.len()), seconds(5, 12))
            }
            Fault::RedisKill | Fault::RedisFlush | Fault::RedisFailover => {
                (below(suite.redis.len()), seconds(3, 8))
            }
            Fault::CassandraKill => (below(suite.cassandra.len()), seconds(5, 12)),
            Fault::CassandraFreeze => (0, Duration::from_secs(30)),
            Fault::Slow(_) | Fault::Full(_) => (0, seconds(8, 12)),
        };
        let on = match fault {
            Fault::Kill(_) | Fault::Freeze(_) | Fault::Clock(_) | Fault::Cut(_) => name(target),
            Fault::KafkaKill => format!("kafka{}", target + 1),
            Fault::KafkaKillTwo => format!("all but kafka{}", target + 1),
            Fault::CassandraKill => format!("cassandra{}", target + 1),
            _ => String::from("all"),
        };
        Self {
            fault,
            what: format!("{fault} ({on}, {:.1} s)", hold.as_secs_f64()),
            hold,
            target,
        }
    }

    /// Does it, holds it, and undoes it.
    pub async fn strike(&self, suite: &Arc<Suite>) -> Result<()> {
        match self.fault {
            Fault::Kill(_) => self.kill(suite).await,
            Fault::Freeze(_) => self.freeze(suite).await,
            Fault::Clock(_) => self.clock(suite).await,
            Fault::Cut(link) => self.cut(suite, link).await,
            Fault::KafkaKill => self.brokers(suite, vec![self.target]).await,
            Fault::KafkaKillTwo => {
                let others = (0..suite.kafka.len()).filter(|n| *n != self.target);
                self.brokers(suite, others.collect()).await
            }
            Fault::KafkaKillController => {
                let controller = blocking(suite, |s| Ok(s.kafka.controller()?)).await?;
                self.brokers(suite, vec![controller]).await
            }
            Fault::RedisKill => self.redis_kill(suite).await,
            Fault::RedisFlush => {
                blocking(suite, |s| {
                    for n in s.redis.primaries() {
                        s.redis.ask(n, "FLUSHALL")?;
                    }
                    Ok(())
                })
                .await
            }
            Fault::RedisFailover => {
                let primary = blocking(suite, |s| Ok(s.redis.primaries())).await?;
                let n = *primary
                    .get(self.target % primary.len().max(1))
                    .ok_or("redis has no primary")?;
                suite.redis.kill(n);
                self.hold().await;
                blocking(suite, move |s| {
                    Ok(s.redis.restart(n).and_then(|()| s.redis.ready())?)
                })
                .await
            }
            Fault::CassandraKill => {
                let n = self.target;
                suite.cassandra.kill(n);
                self.hold().await;
                blocking(suite, move |s| {
                    Ok(s.cassandra.restart(n).and_then(|()| s.cassandra.ready())?)
                })
                .await
            }
            Fault::CassandraFreeze => {
                suite.stand_still(Engine::Cassandra, true);
                self.hold().await;
                suite.stand_still(Engine::Cassandra, false);
                blocking(suite, |s| Ok(s.cassandra.ready()?)).await
            }
            Fault::Slow(engine) => self.slow(suite, engine).await,
            Fault::Full(engine) => self.full(suite, engine).await,
        }
    }

    async fn hold(&self) {
        tokio::time::sleep(self.hold).await;
    }

    async fn kill(&self, suite: &Arc<Suite>) -> Result<()> {
        let replica = &suite.replicas[self.target];
        suite.crashes.hold(&replica.process.name);
        replica.process.kill();
        self.hold().await;
        replica.process.start()?;
        suite.crashes.release(&replica.process.name);
        suite.ready(replica).await
    }

    async fn freeze(&self, suite: &Arc<Suite>) -> Result<()> {
        let replica = &suite.replicas[self.target];
        replica.process.freeze()?;
        self.hold().await;
        replica.process.thaw()?;
        suite.ready(replica).await
    }

    async fn brokers(&self, suite: &Arc<Suite>, nodes: Vec<usize>) -> Result<()> {
        for n in &nodes {
            suite.kafka.kill(*n);
        }
        self.hold().await;
        blocking(suite, move |s| {
            for n in &nodes {
                s.kafka.spawn(*n)?;
            }
            Ok(s.kafka.ready()?)
        })
        .await
    }

    async fn redis_kill(&self, suite: &Arc<Suite>) -> Result<()> {
        let count = suite.redis.len();
        blocking(suite, move |s| {
            (0..count).for_each(|n| s.redis.kill(n));
            for n in 1..=count {
                // what it holds; who is in the Cluster stays known
                let held = s.data.path().join(format!("redis{n}/appendonlydir"));
                if held.exists() {
                    fs::remove_dir_all(held)?;
                }
            }
            Ok(())
        })
        .await?;
        self.hold().await;
        blocking(suite, move |s| {
            for n in 0..count {
                s.redis.spawn(n)?;
            }
            Ok(s.redis.ready()?)
        })
        .await
    }

    async fn cut(&self, suite: &Arc<Suite>, link: Link) -> Result<()> {
        let one = suite.replicas[self.target].process.name.clone();
        let others = match link {
            Link::EdgeRouting => suite
                .of(Role::Routing)
                .map(|r| r.process.name.clone())
                .collect(),
            Link::RoutingKafka => suite.names("kafka", suite.kafka.len()),
            Link::HistoryCassandra => suite.names("cassandra", suite.cassandra.len()),
            Link::EdgeRedis => suite.names("redis", suite.redis.len()),
        };
        for other in &others {
            suite.net.cut(&one, other)?;
        }
        self.hold().await;
        for other in &others {
            suite.net.heal(&one, other)?;
        }
        Ok(())
    }

    async fn slow(&self, suite: &Arc<Suite>, engine: Engine) -> Result<()> {
        let periods = self.hold.as_millis() / (STILL + MOVING).as_millis();
        for _ in 0..periods {
            suite.stand_still(engine, true);
            tokio::time::sleep(STILL).await;
            suite.stand_still(engine, false);
            tokio::time::sleep(MOVING).await;
        }
        Ok(())
    }

    async fn full(&self, suite: &Arc<Suite>, engine: Engine) -> Result<()> {
        let disk = usize::from(engine == Engine::Cassandra);
        blocking(suite, move |s| s.disks[disk].fill()).await?;
        self.hold().await;
        blocking(suite, move |s| {
            s.disks[disk].free()?;
            // an engine that stopped because of it is started again, as an operator would
            match engine {
                Engine::Kafka => {
                    s.kafka.terminate(0);
                    s.kafka.restart(0)?;
                    s.kafka.ready()?;
                }
                Engine::Cassandra => {
                    s.cassandra.kill(0);
                    s.cassandra.restart(0)?;
                    s.cassandra.ready()?;
                }
                Engine::Redis => {}
            }
            Ok(())
        })
        .await
    }

    /// The process starts with a clock that can be set, which jumps forth and back, and gets its own again.
    async fn clock(&self, suite: &Arc<Suite>) -> Result<()> {
        if !Path::new(FAKETIME).exists() {
            return Err(format!("{FAKETIME} is missing: apt-get install libfaketime").into());
        }
        let replica = &suite.replicas[self.target];
        let name = &replica.process.name;
        let file = suite.dir.join("config").join(format!("{name}.clock"));
        let set = |offset: &str| fs::write(&file, offset);
        set("+0")?;
        let env: [(&str, &OsStr); 5] = [
            ("LD_PRELOAD", FAKETIME.as_ref()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_os_str()),
            ("FAKETIME_CACHE_DURATION", "1".as_ref()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
            ("DONT_FAKE_MONOTONIC", "1".as_ref()),
        ];
        suite.crashes.hold(name);
        let restart = async |env: &[(&str, &OsStr)]| {
            replica.process.kill();
            replica.process.start_with(env)?;
            suite.ready(replica).await
        };
        let jumps = async {
            restart(&env).await?;
            for offset in ["+2h", "-2h", "+0"] {
                set(offset)?;
                self.hold().await;
            }
            restart(&[]).await
        };
        let done = jumps.await;
        suite.crashes.release(name);
        done
    }
}

/// Does what takes its time away from those who talk.
async fn blocking<T: Send + 'static>(
    suite: &Arc<Suite>,
    work: impl FnOnce(&Suite) -> Result<T> + Send + 'static,
) -> Result<T> {
    let suite = suite.clone();
    tokio::task::spawn_blocking(move || work(&suite)).await?
}
