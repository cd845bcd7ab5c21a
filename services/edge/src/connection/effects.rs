//! Carries out what the session wants done.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};

use super::{Connection, jobs::Done};
use crate::{domain::effect::Effect, usecase::submits::Origin};

impl Connection {
    pub(super) fn perform(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform_one(effect);
        }
        if effects.capacity() <= 64 {
            self.effects = effects;
        }
    }

    pub(super) fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Send(frame) => {
                if self.wire.is_some() {
                    self.out.push_back(frame);
                }
                return;
            }
            Effect::Refused(code) => {
                self.edge.metrics.refuse(code);
                return;
            }
            Effect::Authenticate(hello) => {
                let sign_in = Arc::clone(&self.edge.sign_in);
                self.jobs
                    .push(async move { Done::SignedIn(Box::new(sign_in.verify(*hello).await)) });
                return;
            }
            Effect::Disconnect => {
                self.disconnect = true;
                return;
            }
            Effect::End(at_once) => {
                self.at_once = at_once;
                return;
            }
            _ => {}
        }
        let Some(handle) = &self.handle else { return };
        match effect {
            Effect::Submit(conversation, known, submit) => {
                let origin = Origin::Session(Arc::clone(handle), known);
                self.edge.submits.submit(conversation, origin, *submit);
            }
            Effect::Postpone(conversation, rejected) => {
                self.edge.submits.postpone(handle, conversation, &rejected);
            }
            Effect::Typing(conversation, active) => {
                self.edge
                    .submits
                    .typing(&handle.user, &handle.device, conversation, active);
            }
            Effect::Receipt(conversation, mark) => {
                self.edge
                    .receipts
                    .add((handle.user.clone(), conversation), mark);
            }
            Effect::StopSync => self.jobs.sync = None,
            Effect::Sync(have) => {
                self.jobs.sync = Some(self.edge.syncer.start(handle.user.clone(), have).boxed());
            }
            Effect::Snapshot => {
                let (asks, user) = (Arc::clone(&self.edge.asks), handle.user.clone());
                let doors = self.edge.doors.clone();
                let fetch = async move { asks.presences_at_last(&user, &doors.rng).await };
                self.jobs.snapshot = Some(fetch.boxed());
            }
            Effect::Ask(id, op) => {
                let (asks, handle) = (Arc::clone(&self.edge.asks), Arc::clone(handle));
                self.jobs.push(async move {
                    Done::Response(
                        id,
                        Box::new(asks.ask(&handle.user, &handle.device, *op).await),
                    )
                });
            }
            Effect::Renew(token) => {
                let sign_in = Arc::clone(&self.edge.sign_in);
                self.jobs
                    .push(async move { Done::Renewed(sign_in.renew(&token).await) });
            }
            Effect::Status(status, message) => self.edge.registry.status(handle, status, message),
            Effect::Attached(attached) => self.edge.registry.attached(handle, attached),
            _ => {}
        }
    }
}
