//! The contract, call by call: each is one run of a script in each bucket concerned, all at once.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};
use tandem_ephemeral::{Ephemeral, EphemeralError, Reach, Renewal, Session, UserStatus};
use tandem_kernel::{Address, EdgeId, SessionId};
use tokio::time::timeout;

use crate::{
    RedisEphemeral,
    bucket::{BUCKETS, bucket_of, grouped},
    link::Fault,
    metrics::Operation,
    reply::{Told, reach, same_length, session_id, status, value},
    script::Script,
};

/// The leases of this process's edges, as it last saw them.
pub(crate) type Leases = HashMap<EdgeId, Known>;

/// A lease: in each bucket the epoch, and the number that the lease has there. Another number means that the lease
/// had lapsed, whoever has missed the answer that told of it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    epoch: u64,
    buckets: Vec<(u64, u64)>,
}

impl RedisEphemeral {
    /// Runs a script in one bucket.
    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        bucket: usize,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<T, Fault> {
        let base = &self.bases[bucket];
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(1).arg(base);
            arguments(&mut command);
            command
        };
        let answer = self.send(&command("EVALSHA", &script.hash)).await;
        if answer.as_ref().is_err_and(no_script) {
            // a Redis that has not seen it yet: new, restarted, or failed over to
            return Ok(self.send(&command("EVAL", &script.text)).await?);
        }
        Ok(answer?)
    }

    async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, redis::RedisError> {
        let _permit = self.permits.acquire().await;
        self.link.send(command).await
    }

    /// Runs a script in every bucket that has some of `texts`, with the arguments that `fill` makes of each. A bucket
    /// that fails keeps none of the others from being done.
    async fn each<'a, T: FromRedisValue>(
        &self,
        script: &Script,
        texts: impl Iterator<Item = &'a str>,
        fill: impl Fn(&mut Cmd, usize),
    ) -> Result<Vec<(Vec<usize>, T)>, Fault> {
        let runs = grouped(texts).into_iter().map(async |(bucket, places)| {
            let answer = self.run(script, bucket, |command| {
                for place in &places {
                    fill(command, *place);
                }
            });
            Ok((answer.await?, places))
        });
        let done = join_all(runs).await.into_iter();
        done.map(|run: Result<(T, Vec<usize>), Fault>| run.map(|(t, places)| (places, t)))
            .collect()
    }

    /// Runs a script in every bucket; the answers are in the buckets' order.
    async fn all<T: FromRedisValue>(
        &self,
        script: &Script,
        fill: impl Fn(&mut Cmd, usize),
    ) -> Result<Vec<T>, Fault> {
        let fill = &fill;
        let runs = (0..BUCKETS).map(|b| self.run(script, b, move |command| fill(command, b)));
        join_all(runs).await.into_iter().collect()
    }

    /// What a script answers for each user, in the order of `users`.
    async fn told(&self, script: &Script, users: &[Address]) -> Result<Vec<Told>, Fault> {
        let answers = self
            .each::<Vec<Vec<redis::Value>>>(script, users.iter().map(Address::as_str), |c, i| {
                c.arg(users[i].as_str());
            })
            .await?;
        let mut told = vec![None; users.len()];
        for (places, answers) in answers {
            same_length(&places, &answers)?;
            for (place, answer) in places.into_iter().zip(answers) {
                if !answer.is_empty() {
                    let status = redis::from_redis_value(redis::Value::Array(answer));
                    told[place] = Some(status.map_err(|e| Fault::Corrupt(e.to_string()))?);
                }
            }
        }
        Ok(told)
    }

    /// Bounds and measures a call.
    async fn call<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, EphemeralError> {
        let began = self.doors.clock.monotonic();
        let done = timeout(self.limit, work)
            .await
            .unwrap_or(Err(Fault::Timeout));
        let took = self.doors.clock.monotonic().saturating_sub(began);
        self.metrics.took(operation, took);
        done.map_err(|fault| self.metrics.failed(fault))
    }

    async fn renew_all(&self, edge: &EdgeId, registered: u64) -> Result<Renewal, Fault> {
        // where it has registered its sessions, bucket by bucket
        let epochs: Vec<u64> = match self.leases.lock().get(edge) {
            Some(known) if known.epoch == registered => known.buckets.iter().map(|b| b.0).collect(),
            _ => vec![0; BUCKETS],
        };
        let candidate = self.doors.rng.u64().max(1);
        let answers: Vec<(u64, u64, bool, Vec<Vec<u8>>)> = self
            .all(&self.scripts.renew, |c, bucket| {
                c.arg(edge.as_str()).arg(epochs[bucket]).arg(candidate);
            })
            .await?;
        let mut buckets = Vec::with_capacity(BUCKETS);
        let mut resync = Vec::new();
        let mut lapsed = false;
        let mut leases = self.leases.lock();
        let before = leases.remove(edge).unwrap_or_default();
        for (bucket, (epoch, lease, fresh, flagged)) in answers.into_iter().enumerate() {
            lapsed |= match before.buckets.get(bucket) {
                Some((known, number)) if *known == epoch => *number != lease,
                _ => fresh,
            };
            buckets.push((epoch, lease));
            for id in flagged {
                resync.push(session_id(&id)?);
            }
        }
        resync.sort_unstable();
        let epoch = together(buckets.iter().map(|b| b.0));
        leases.insert(edge.clone(), Known { epoch, buckets });
        Ok(Renewal {
            epoch,
            lapsed,
            resync,
        })
    }

    async fn put_all(&self, sessions: &[Session]) -> Result<(), Fault> {
        let users = sessions.iter().map(|s| s.user.as_str());
        let fill = |command: &mut Cmd, place: usize| {
            let session = &sessions[place];
            command
                .arg(session.user.as_str())
                .arg(&session.id.to_bytes())
                .arg(session.edge.as_str())
                .arg(session.status as i32)
                .arg(session.class as i32)
                .arg(&session.message)
                .arg(i32::from(session.attached));
        };
        self.each::<()>(&self.scripts.put, users, fill).await?;
        Ok(())
    }

    async fn reach_all(&self, users: &[Address]) -> Result<Vec<Reach>, Fault> {
        let mut reaches = vec![Reach::default(); users.len()];
        let texts = users.iter().map(Address::as_str);
        let answers = self.each::<Vec<Vec<redis::Value>>>(&self.scripts.reach, texts, |c, i| {
            c.arg(users[i].as_str());
        });
        for (places, answers) in answers.await? {
            let mut answers = answers.into_iter();
            let mut edges = Vec::new();
            for name in answers.next().unwrap_or_default() {
                edges.push(EdgeId::from_stored(&value::<String>(name)?));
            }
            same_length(&places, answers.as_slice())?;
            for (place, answer) in places.into_iter().zip(answers) {
                reaches[place] = reach(answer, &edges)?;
            }
        }
        Ok(reaches)
    }

    async fn flag_all(&self, sessions: &[(Address, SessionId)], flag: bool) -> Result<(), Fault> {
        let users = sessions.iter().map(|(user, _)| user.as_str());
        let fill = |command: &mut Cmd, place: usize| {
            let (user, id) = &sessions[place];
            command
                .arg(user.as_str())
                .arg(&id.to_bytes())
                .arg(i32::from(flag));
        };
        self.each::<()>(&self.scripts.flag, users, fill).await?;
        Ok(())
    }

    /// Asks each bucket for its share and a little more; where that was not enough, again for all.
    async fn due_all(&self, limit: usize) -> Result<Vec<Address>, Fault> {
        let share = limit.div_ceil(BUCKETS) + 8;
        let mut named: Vec<Vec<String>> = self
            .all(&self.scripts.due, |c, _| {
                c.arg(share);
            })
            .await?;
        let full = |names: &Vec<String>| names.len() >= share;
        if share < limit
            && named.iter().map(Vec::len).sum::<usize>() < limit
            && named.iter().any(full)
        {
            let again = named
                .iter_mut()
                .enumerate()
                .filter(|(_, names)| full(names));
            let again = again.map(async |(bucket, names)| {
                *names = self
                    .run(&self.scripts.due, bucket, |c| {
                        c.arg(limit);
                    })
                    .await?;
                Ok(())
            });
            join_all(again)
                .await
                .into_iter()
                .collect::<Result<(), Fault>>()?;
        }
        let names = named.into_iter().flatten().take(limit);
        names
            .map(|name| Address::parse(&name).map_err(|e| Fault::Corrupt(e.to_string())))
            .collect()
    }
}

#[async_trait]
impl Ephemeral for RedisEphemeral {
    async fn renew(&self, edge: &EdgeId, registered: u64) -> Result<Renewal, EphemeralError> {
        self.call(Operation::Renew, self.renew_all(edge, registered))
            .await
    }

    async fn release(&self, edge: &EdgeId) -> Result<(), EphemeralError> {
        let done = self.all::<()>(&self.scripts.release, |c, _| {
            c.arg(edge.as_str());
        });
        self.call(Operation::Release, done).await?;
        self.leases.lock().remove(edge);
        Ok(())
    }

    async fn put(&self, sessions: &[Session]) -> Result<(), EphemeralError> {
        self.call(Operation::Put, self.put_all(sessions)).await
    }

    async fn remove(
        &self,
        user: &Address,
        session: SessionId,
        at_once: bool,
    ) -> Result<(), EphemeralError> {
        let bucket = bucket_of(user.as_str());
        let done = self.run(&self.scripts.remove, bucket, |c| {
            c.arg(user.as_str())
                .arg(&session.to_bytes())
                .arg(i32::from(at_once));
        });
        self.call(Operation::Remove, done).await
    }

    async fn reach(&self, users: &[Address]) -> Result<Vec<Reach>, EphemeralError> {
        self.call(Operation::Reach, self.reach_all(users)).await
    }

    async fn flag_resync(&self, sessions: &[(Address, SessionId)]) -> Result<(), EphemeralError> {
        self.call(Operation::FlagResync, self.flag_all(sessions, true))
            .await
    }

    async fn clear_resync(&self, user: &Address, session: SessionId) -> Result<(), EphemeralError> {
        let one = [(user.clone(), session)];
        self.call(Operation::ClearResync, self.flag_all(&one, false))
            .await
    }

    async fn statuses(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError> {
        let told = self.call(
            Operation::Statuses,
            self.told(&self.scripts.statuses, users),
        );
        Ok(told.await?.into_iter().map(status).collect())
    }

    async fn settle(
        &self,
        users: &[Address],
    ) -> Result<Vec<(Address, UserStatus)>, EphemeralError> {
        let told = self.call(Operation::Settle, self.told(&self.scripts.settle, users));
        let told = users.iter().zip(told.await?);
        Ok(told
            .filter_map(|(user, told)| Some((user.clone(), status(told)?)))
            .collect())
    }

    async fn renumber(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError> {
        let told = self.call(
            Operation::Renumber,
            self.told(&self.scripts.renumber, users),
        );
        Ok(told.await?.into_iter().map(status).collect())
    }

    async fn due(&self, limit: usize) -> Result<Vec<Address>, EphemeralError> {
        self.call(Operation::Due, self.due_all(limit)).await
    }

    async fn settled(&self) -> Result<bool, EphemeralError> {
        let candidate = self.doors.rng.u64().max(1);
        let settled = self.all::<bool>(&self.scripts.settled, |c, _| {
            c.arg(candidate);
        });
        let settled = self.call(Operation::Settled, settled).await?;
        Ok(settled.into_iter().all(|settled| settled))
    }

    async fn mark(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), EphemeralError> {
        let mut command = redis::cmd("SET");
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        command
            .arg(self.mark_key(key))
            .arg(value.as_ref())
            .arg("PX")
            .arg(ttl);
        let done = async { Ok(self.send(&command).await?) };
        self.call(Operation::Mark, done).await
    }

    async fn take_marks(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, EphemeralError> {
        let takes = keys.iter().map(async |key| {
            let mut command = redis::cmd("GETDEL");
            command.arg(self.mark_key(key));
            Ok(self
                .send::<Option<Vec<u8>>>(&command)
                .await?
                .map(Bytes::from))
        });
        let taken = async { join_all(takes).await.into_iter().collect() };
        self.call(Operation::TakeMarks, taken).await
    }
}

impl RedisEphemeral {
    fn mark_key(&self, key: &str) -> String {
        format!("{}k{key}", self.bases[bucket_of(key)])
    }
}

/// One epoch for those of all buckets.
fn together(epochs: impl Iterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    epochs.for_each(|epoch| epoch.hash(&mut hasher));
    hasher.finish().max(1)
}

fn no_script(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
