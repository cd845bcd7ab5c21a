//! Notifications that stand: remembered when they are sent, withdrawn when the person has read what
//! they tell of. Best effort, as all that is ephemeral; devices compare places themselves, too.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use tandem_kernel::{Address, ConversationId, Seq};
use tokio_util::sync::CancellationToken;

use super::{deliver::Deliverer, send::End};
use crate::{
    domain::{backoff::Backoff, notification::Notice},
    ports::Target,
};

/// How long a notification can be withdrawn.
const MARK: Duration = Duration::from_hours(7 * 24);
/// Attempts at a withdrawal, which nobody misses much.
const WITHDRAWALS: u32 = 3;

impl Deliverer {
    /// Remembers that there is a notification to withdraw.
    pub(super) async fn mark(&self, user: &Address, conversation: &ConversationId, seq: Seq) {
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

    /// Withdraws what was notified and is read now, at most once.
    pub(super) async fn withdraw(&self, reads: Vec<(Address, ConversationId, Seq)>) {
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
        let Ok(targets) = self.devices.of(users).await else {
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
        match self.sender.send(target, &notice, never, backoff).await {
            End::Delivered => self.metrics.withdrawn.add(1),
            End::Dead => self.devices.forget(target).await,
            End::Confirmed | End::GivenUp(..) => self.metrics.not_withdrawn.add(1),
        }
    }
}

fn mark_key(user: &Address, conversation: &ConversationId) -> String {
    format!("push:{user}:{conversation}")
}
