//! What the handle and the session's task share.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tandem_proto::client::{Problem, Status, response::Result as Answer};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Outcome, Taken},
    domain::{Core, Update},
};

/// What the handle and the session's task share.
pub(crate) struct Shared {
    pub(crate) core: Mutex<Core>,
    pub(crate) wake: Notify,
    pub(crate) stop: CancellationToken,
    /// Status and personal message, to be set again at each connection.
    pub(crate) presence: Mutex<(Status, String)>,
    pub(crate) outcomes: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    pub(crate) questions: Mutex<BTreeMap<u64, oneshot::Sender<Result<Answer, Problem>>>>,
    pub(crate) updates: Mutex<Option<mpsc::UnboundedSender<Update>>>,
}

impl Shared {
    /// Hands updates, outcomes and answers to whom they concern.
    pub(crate) fn deliver(&self) {
        let (updates, answers) = {
            let mut core = self.core.lock();
            (core.take_updates(), core.take_answers())
        };
        for (number, answer) in answers {
            if let Some(question) = self.questions.lock().remove(&number) {
                let _ = question.send(answer);
            }
        }
        if updates.is_empty() {
            return;
        }
        let stream = self.updates.lock();
        for update in updates {
            match &update {
                Update::Accepted {
                    event_id,
                    conversation,
                    seq,
                } => {
                    let taken = Taken {
                        conversation: conversation.clone(),
                        seq: *seq,
                    };
                    self.resolve(event_id, Ok(taken));
                }
                Update::Rejected {
                    event_id, problem, ..
                } => {
                    self.resolve(event_id, Err(problem.clone()));
                }
                _ => {}
            }
            if let Some(stream) = stream.as_ref() {
                let _ = stream.send(update);
            }
        }
    }

    fn resolve(&self, event_id: &str, outcome: Outcome) {
        if let Some(waiting) = self.outcomes.lock().remove(event_id) {
            let _ = waiting.send(outcome);
        }
    }

    /// Nothing more will happen.
    pub(crate) fn ended(&self) {
        self.deliver();
        self.stop.cancel();
        self.updates.lock().take();
        self.outcomes.lock().clear();
        self.questions.lock().clear();
    }
}
