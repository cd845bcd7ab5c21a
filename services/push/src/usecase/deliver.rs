//! Delivering notifications: whom a user's devices are, sending with retries, parking what is given up,
//! withdrawing what was read elsewhere.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use tandem_chassis::{Doors, grpc, telemetry};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{Address, Code, ConversationId, Seq};
use tandem_proto::{
    accounts::{
        FindRequest, PushTargetsRequest, SetPushTokenRequest, accounts_client::AccountsClient,
    },
    client::push_token,
    push::DeadLetter,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use tracing::Instrument;

use super::parking::Parking;
use crate::{
    config::Config,
    domain::{
        backoff::Backoff,
        notification::{Content, Notice},
        window::Job,
    },
    metrics::Metrics,
    ports::{Channel, Outcome, Target},
};

/// How long a notification can be withdrawn.
const MARK: Duration = Duration::from_hours(7 * 24);
/// Users asked for in one call.
const USERS: usize = 500;
/// How long a sender's name is remembered, and how many.
const NAMES: (Duration, usize) = (Duration::from_mins(5), 10_000);
/// Attempts at a withdrawal, which nobody misses much.
const WITHDRAWALS: u32 = 3;

/// Names a notification to the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Partition of the conversations topic.
    pub partition: u32,
    /// Which assignment of the partition.
    pub generation: u64,
    /// The job in its window.
    pub job: Job,
}

/// A user to be notified.
#[derive(Debug, Clone)]
pub struct Order {
    /// Given back once it is done.
    pub ticket: Ticket,
    /// Whom.
    pub user: Address,
    /// Of what.
    pub content: Arc<Content>,
    /// Cancelled when the user has confirmed the event.
    pub confirmed: CancellationToken,
}

/// What the consumer wants done.
#[derive(Debug)]
pub enum Work {
    /// Notify these users.
    Notify(Vec<Order>),
    /// These users have read these conversations up to there.
    Withdraw(Vec<(Address, ConversationId, Seq)>),
}

/// Delivers.
pub struct Deliverer {
    accounts: AccountsClient<grpc::Channel>,
    ephemeral: Arc<dyn Ephemeral>,
    channel: Arc<dyn Channel>,
    parking: Parking,
    doors: Doors,
    metrics: Metrics,
    topic: String,
    backoff: Backoff,
    call_timeout: Duration,
    per_service: usize,
    most_retrying: usize,
    retrying: AtomicUsize,
    services: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    names: Mutex<(Duration, BTreeMap<Address, Option<String>>)>,
}

/// How a device's notification ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Delivered,
    Dead,
    Confirmed,
    GivenUp(Code, String),
}

impl Deliverer {
    /// A deliverer by `channel`, of events of `topic`.
    pub fn new(
        accounts: AccountsClient<grpc::Channel>,
        ephemeral: Arc<dyn Ephemeral>,
        channel: Arc<dyn Channel>,
        parking: Parking,
        topic: String,
        config: &Config,
    ) -> Self {
        Self {
            accounts,
            ephemeral,
            channel,
            doors: parking.doors.clone(),
            metrics: parking.metrics.clone(),
            parking,
            topic,
            backoff: Backoff {
                first: Config::millis(config.retry_first_ms),
                max: Config::millis(config.retry_max_ms),
                attempts: config.retry_attempts,
                total: Config::millis(config.retry_total_ms),
            },
            call_timeout: Config::millis(config.call_timeout_ms),
            per_service: config.per_service,
            most_retrying: config.retrying,
            retrying: AtomicUsize::new(0),
            services: Mutex::default(),
            names: Mutex::default(),
        }
    }

    /// Does what comes, until the sender of `work` is gone; what is under way then is left.
    /// Gives each ticket back once its notification is delivered or durably given up.
    pub async fn run(
        self: Arc<Self>,
        mut work: mpsc::UnboundedReceiver<Work>,
        done: mpsc::UnboundedSender<Ticket>,
    ) {
        let mut preparing: FuturesUnordered<BoxFuture<'_, Vec<Prepared>>> = FuturesUnordered::new();
        let mut sending: FuturesUnordered<BoxFuture<'_, Option<Ticket>>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(ticket) = sending.next() => {
                    // a consumer that is gone needs no tickets
                    let _ = ticket.map(|ticket| done.send(ticket));
                }
                Some(prepared) = preparing.next() => {
                    for one in prepared {
                        sending.push(Box::pin(self.notify(one)));
                    }
                }
                next = work.recv() => match next {
                    None => return,
                    Some(Work::Notify(orders)) => preparing.push(Box::pin(self.prepare(orders))),
                    Some(Work::Withdraw(reads)) => sending.push(Box::pin(async {
                        self.withdraw(reads).await;
                        None
                    })),
                },
            }
        }
    }

    /// Finds the devices to notify. Waits for accounts as long as for a channel.
    async fn prepare(&self, orders: Vec<Order>) -> Vec<Prepared> {
        let users = orders.iter().map(|o| o.user.to_string()).collect();
        let found = self.targets(users).await;
        let mut senders: Vec<_> = orders
            .iter()
            .filter_map(|o| o.content.sender.as_ref())
            .collect();
        if found.as_ref().is_ok_and(BTreeMap::is_empty) {
            senders.clear();
        }
        senders.sort();
        senders.dedup();
        let asked: Vec<_> = senders
            .iter()
            .map(|sender| self.name(sender).boxed())
            .collect();
        let names = join_all(asked).await;
        let names: BTreeMap<_, _> = senders.into_iter().cloned().zip(names).collect();
        orders
            .into_iter()
            .map(|order| Prepared {
                targets: found
                    .as_ref()
                    .map(|found| found.get(order.user.as_str()).cloned().unwrap_or_default())
                    .map_err(Clone::clone),
                sender_name: order
                    .content
                    .sender
                    .as_ref()
                    .and_then(|s| names.get(s).cloned().flatten()),
                order,
            })
            .collect()
    }

    /// The devices of users, retried until it is given up.
    async fn targets(
        &self,
        mut users: Vec<String>,
    ) -> Result<BTreeMap<String, Vec<Target>>, (Code, String)> {
        users.sort();
        users.dedup();
        let begun = self.doors.clock.monotonic();
        let mut found: BTreeMap<String, Vec<Target>> = BTreeMap::new();
        for users in users.chunks(USERS) {
            for failed in 1.. {
                let error = match self.targets_once(users.to_vec()).await {
                    Ok(targets) => {
                        for target in targets {
                            found.entry(target.user.clone()).or_default().push(target);
                        }
                        break;
                    }
                    Err(error) => error,
                };
                let elapsed = self.doors.clock.monotonic().saturating_sub(begun);
                let Some(delay) = self
                    .backoff
                    .next(failed, elapsed, None, self.doors.rng.u64())
                else {
                    return Err(error);
                };
                tracing::warn!(code = %error.0, reason = error.1, "accounts does not answer");
                tokio::time::sleep(delay).await;
            }
        }
        Ok(found)
    }

    async fn targets_once(&self, users: Vec<String>) -> Result<Vec<Target>, (Code, String)> {
        let mut accounts = self.accounts.clone();
        let request = PushTargetsRequest { users };
        let answer = self
            .call(async move { accounts.push_targets(request).await })
            .await?;
        let targets = answer.targets.into_iter().filter_map(|t| {
            let token = t.token?;
            let push_token::Channel::WebPush(web_push) = token.channel.clone()?;
            Some(Target {
                user: t.user,
                device: t.device,
                token,
                web_push,
                brand: t.brand,
            })
        });
        Ok(targets.collect())
    }

    /// Calls accounts.
    fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, (Code, String)>> {
        let limit = self.call_timeout;
        Box::pin(async move {
            match tokio::time::timeout(limit, call).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(s)) => Err((grpc::code_of(&s), format!("accounts: {}", s.message()))),
                Err(_) => Err((
                    Code::DeadlineExceeded,
                    "accounts: no answer in time".to_owned(),
                )),
            }
        })
    }

    /// A sender's name to show; a notification goes without it when accounts does not tell.
    async fn name(&self, sender: &Address) -> Option<String> {
        let now = self.doors.clock.monotonic();
        {
            let mut names = self.names.lock();
            if now.saturating_sub(names.0) > NAMES.0 || names.1.len() >= NAMES.1 {
                *names = (now, BTreeMap::new());
            }
            if let Some(name) = names.1.get(sender) {
                return name.clone();
            }
        }
        let mut accounts = self.accounts.clone();
        let who = sender.to_string();
        let request = FindRequest {
            viewer: who.clone(),
            who,
        };
        let found = self
            .call(async move { accounts.find(request).await })
            .await
            .ok()?;
        let name = (!found.name.is_empty()).then_some(found.name);
        self.names.lock().1.insert(sender.clone(), name.clone());
        name
    }

    async fn notify(&self, prepared: Prepared) -> Option<Ticket> {
        let Prepared {
            order,
            targets,
            sender_name,
        } = prepared;
        let Order {
            ticket,
            user,
            content,
            confirmed,
        } = order;
        let span = telemetry::child(&content.traceparent, || tracing::info_span!("push.notify"));
        async {
            let targets = match targets {
                Ok(targets) => targets,
                Err((code, reason)) => {
                    let reason = (code, reason);
                    self.park(ticket.partition, user.as_str(), "", &content, reason)
                        .await;
                    return;
                }
            };
            if targets.is_empty() {
                self.metrics.no_device.add(1);
                return;
            }
            self.mark(&user, &content.conversation, content.seq).await;
            let sends = targets.iter().map(|target| {
                self.notify_device(
                    ticket.partition,
                    target,
                    &content,
                    sender_name.as_deref(),
                    &confirmed,
                )
            });
            join_all(sends.map(FutureExt::boxed).collect::<Vec<_>>()).await;
        }
        .instrument(span)
        .await;
        Some(ticket)
    }

    async fn notify_device(
        &self,
        partition: u32,
        target: &Target,
        content: &Content,
        sender_name: Option<&str>,
        confirmed: &CancellationToken,
    ) {
        let notice = Notice::Message {
            content,
            sender_name,
            hide_text: target.token.hide_text,
        };
        match self.send(target, &notice, confirmed, self.backoff).await {
            End::Delivered => {
                self.metrics.delivered.add(1);
                let took = self.doors.clock.unix().since(content.at);
                self.metrics.latency.record(took.as_secs_f64() * 1_000.0);
            }
            End::Dead => self.metrics.dead.add(1),
            End::Confirmed => self.metrics.confirmed.add(1),
            End::GivenUp(code, reason) => {
                let (user, device) = (&target.user, &target.device);
                self.park(partition, user, device, content, (code, reason))
                    .await;
            }
        }
    }

    /// Tries until it ends. A dead token is removed.
    async fn send(
        &self,
        target: &Target,
        notice: &Notice<'_>,
        confirmed: &CancellationToken,
        backoff: Backoff,
    ) -> End {
        let begun = self.doors.clock.monotonic();
        let service = self.service(target);
        let mut failed = 0;
        loop {
            let Ok(permit) = service.acquire().await else {
                return End::GivenUp(Code::Internal, "no more requests to this service".into());
            };
            if confirmed.is_cancelled() {
                return End::Confirmed;
            }
            let outcome = self.channel.send(target, notice).await;
            drop(permit);
            let (after, reason) = match outcome {
                Outcome::Delivered => return End::Delivered,
                Outcome::Dead => {
                    self.remove_token(target).await;
                    return End::Dead;
                }
                Outcome::Refused { code, reason } => return End::GivenUp(code, reason),
                Outcome::Retry { after, reason } => (after, reason),
            };
            failed += 1;
            let elapsed = self.doors.clock.monotonic().saturating_sub(begun);
            let delay = backoff.next(failed, elapsed, after, self.doors.rng.u64());
            let room = self.retrying.load(Ordering::Relaxed) < self.most_retrying;
            let Some(delay) = delay.filter(|_| room) else {
                return End::GivenUp(Code::Unavailable, reason);
            };
            self.metrics.retried.add(1);
            let _waiting = Retrying::new(self);
            tokio::select! {
                biased;
                () = confirmed.cancelled() => return End::Confirmed,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    fn service(&self, target: &Target) -> Arc<Semaphore> {
        let name = self.channel.service(target);
        let mut services = self.services.lock();
        if services.len() >= 1_024 {
            services.retain(|_, s| Arc::strong_count(s) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.per_service));
        Arc::clone(services.entry(name).or_insert_with(new))
    }

    async fn remove_token(&self, target: &Target) {
        let mut accounts = self.accounts.clone();
        let request = SetPushTokenRequest {
            user: target.user.clone(),
            device: target.device.clone(),
            token: None,
            only_if: Some(target.token.clone()),
        };
        let removed = self
            .call(async move { accounts.set_push_token(request).await })
            .await;
        if let Err((code, reason)) = removed {
            // it will be found dead again
            tracing::warn!(%code, reason, "cannot remove a dead push token");
        }
    }

    async fn park(
        &self,
        partition: u32,
        user: &str,
        device: &str,
        content: &Content,
        (code, reason): (Code, String),
    ) {
        let letter = DeadLetter {
            user: user.to_owned(),
            device: device.to_owned(),
            conversation: content.conversation.to_string(),
            seq: content.seq.0,
            code: code.to_string(),
            reason,
            ..DeadLetter::default()
        };
        self.parking
            .dead(&self.topic, partition, content.seq.offset(), letter)
            .await;
    }

    /// Remembers that there is a notification to withdraw. Best effort, as all that is ephemeral.
    async fn mark(&self, user: &Address, conversation: &ConversationId, seq: Seq) {
        let key = mark_key(user, conversation);
        let value = Bytes::copy_from_slice(&seq.0.to_be_bytes());
        let call = self.ephemeral.mark(&key, value, MARK);
        if !matches!(
            tokio::time::timeout(self.call_timeout, call).await,
            Ok(Ok(()))
        ) {
            tracing::warn!("a notification cannot be marked, it will not be withdrawn");
        }
    }

    /// Withdraws what was notified and is read now, at most once: best effort.
    async fn withdraw(&self, reads: Vec<(Address, ConversationId, Seq)>) {
        let keys: Vec<_> = reads.iter().map(|(u, c, _)| mark_key(u, c)).collect();
        let taken = tokio::time::timeout(self.call_timeout, self.ephemeral.take_marks(&keys)).await;
        let Ok(Ok(marks)) = taken else {
            tracing::warn!("marks cannot be looked up, notifications are not withdrawn");
            return;
        };
        let mut due = Vec::new();
        for ((user, conversation, up_to), mark) in reads.into_iter().zip(marks) {
            let Some(mark) = mark else { continue };
            let seq = mark
                .as_ref()
                .try_into()
                .map_or(Seq(0), |o| Seq(u64::from_be_bytes(o)));
            if seq <= up_to {
                due.push((user, conversation, up_to));
            } else {
                // what stands tells of something newer
                self.mark(&user, &conversation, seq).await;
            }
        }
        if due.is_empty() {
            return;
        }
        let users = due.iter().map(|(user, ..)| user.to_string()).collect();
        let Ok(targets) = self.targets(users).await else {
            self.metrics.not_withdrawn.add(due.len() as u64);
            return;
        };
        let never = CancellationToken::new();
        let backoff = Backoff {
            attempts: self.backoff.attempts.min(WITHDRAWALS),
            ..self.backoff
        };
        let sends = due.iter().flat_map(|(user, conversation, up_to)| {
            let targets = targets
                .get(user.as_str())
                .map(Vec::as_slice)
                .unwrap_or_default();
            targets.iter().map(move |t| {
                (
                    t,
                    Notice::Withdraw {
                        conversation,
                        up_to: *up_to,
                    },
                )
            })
        });
        let sends: Vec<_> = sends
            .map(|(t, notice)| self.withdraw_device(t, notice, &never, backoff).boxed())
            .collect();
        join_all(sends).await;
    }

    async fn withdraw_device(
        &self,
        target: &Target,
        notice: Notice<'_>,
        never: &CancellationToken,
        backoff: Backoff,
    ) {
        match self.send(target, &notice, never, backoff).await {
            End::Delivered => self.metrics.withdrawn.add(1),
            _ => self.metrics.not_withdrawn.add(1),
        }
    }

    /// Tries a dead letter once more. `Ok(true)`: a device was notified; `Ok(false)`: there is no
    /// such device any more.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, (Code, String)> {
        let conversation = ConversationId::parse(&letter.conversation)
            .map_err(|e| (Code::Malformed, e.to_string()))?;
        let user = Address::parse(&letter.user).map_err(|e| (Code::Malformed, e.to_string()))?;
        let content = Content {
            conversation,
            seq: Seq(letter.seq),
            sender: None,
            group: String::new(),
            text: None,
            nudge: false,
            request: false,
            at: self.doors.clock.unix(),
            traceparent: String::new(),
        };
        let mut targets = self.targets_once(vec![letter.user.clone()]).await?;
        targets.retain(|t| letter.device.is_empty() || t.device == letter.device);
        if targets.is_empty() {
            return Ok(false);
        }
        self.mark(&user, &content.conversation, content.seq).await;
        let never = CancellationToken::new();
        let once = Backoff {
            attempts: 1,
            ..self.backoff
        };
        let (mut sent, mut failure) = (false, None);
        for target in &targets {
            let notice = Notice::Message {
                content: &content,
                sender_name: None,
                hide_text: true,
            };
            match self.send(target, &notice, &never, once).await {
                End::Delivered => {
                    self.metrics.delivered.add(1);
                    sent = true;
                }
                End::Dead | End::Confirmed => self.metrics.dead.add(1),
                End::GivenUp(code, reason) => failure = Some((code, reason)),
            }
        }
        match failure {
            Some(failure) if !sent => Err(failure),
            _ => Ok(sent),
        }
    }
}

fn mark_key(user: &Address, conversation: &ConversationId) -> String {
    format!("push:{user}:{conversation}")
}

struct Prepared {
    order: Order,
    targets: Result<Vec<Target>, (Code, String)>,
    sender_name: Option<String>,
}

/// Counts a notification that waits for another attempt.
struct Retrying<'a>(&'a Deliverer);

impl<'a> Retrying<'a> {
    fn new(deliverer: &'a Deliverer) -> Self {
        let now = deliverer.retrying.fetch_add(1, Ordering::Relaxed) + 1;
        deliverer.metrics.retrying.set(now as i64);
        Self(deliverer)
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        let now = self.0.retrying.fetch_sub(1, Ordering::Relaxed) - 1;
        self.0.metrics.retrying.set(now as i64);
    }
}
