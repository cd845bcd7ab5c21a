//! Delivering notifications, and parking what is given up.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tandem_chassis::{Doors, grpc, telemetry};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{Address, Code, ConversationId, Seq};
use tandem_proto::{accounts::accounts_client::AccountsClient, push::DeadLetter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    devices::Devices,
    parking::Parking,
    send::{End, Sender},
};
use crate::{
    config::Config,
    domain::{
        backoff::Backoff,
        notification::{Content, Notice},
        window::Job,
    },
    metrics::Metrics,
    ports::{Channel, Target},
};

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
    pub(super) devices: Devices,
    pub(super) sender: Sender,
    pub(super) ephemeral: Arc<dyn Ephemeral>,
    pub(super) doors: Doors,
    pub(super) metrics: Metrics,
    pub(super) backoff: Backoff,
    pub(super) call_timeout: Duration,
    parking: Parking,
    topic: String,
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
        let (doors, metrics) = (parking.doors.clone(), parking.metrics.clone());
        let backoff = Backoff {
            first: Config::millis(config.retry_first_ms),
            max: Config::millis(config.retry_max_ms),
            attempts: config.retry_attempts,
            total: Config::millis(config.retry_total_ms),
        };
        let call_timeout = Config::millis(config.call_timeout_ms);
        let devices = Devices::new(accounts, doors.clone(), backoff, call_timeout);
        Self {
            sender: Sender::new(channel, doors.clone(), metrics.clone(), config),
            devices,
            ephemeral,
            doors,
            metrics,
            backoff,
            call_timeout,
            parking,
            topic,
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

    /// Finds the devices to notify. Waits for accounts.
    async fn prepare(&self, orders: Vec<Order>) -> Vec<Prepared> {
        let users = orders.iter().map(|o| o.user.to_string()).collect();
        let found = self.devices.of(users).await;
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
            .map(|sender| self.devices.name_of(sender).boxed())
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
        let end = self
            .sender
            .send(target, &notice, confirmed, self.backoff)
            .await;
        match end {
            End::Delivered => {
                self.metrics.delivered.add(1);
                let took = self.doors.clock.unix().since(content.at);
                self.metrics.latency.record(took.as_secs_f64() * 1_000.0);
            }
            End::Dead => {
                self.devices.forget(target).await;
                self.metrics.dead.add(1);
            }
            End::Confirmed => self.metrics.confirmed.add(1),
            End::GivenUp(code, reason) => {
                let (user, device) = (&target.user, &target.device);
                self.park(partition, user, device, content, (code, reason))
                    .await;
            }
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
}

struct Prepared {
    order: Order,
    targets: Result<Vec<Target>, (Code, String)>,
    sender_name: Option<String>,
}
