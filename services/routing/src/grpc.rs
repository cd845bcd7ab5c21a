//! The `Routing` service: proto ↔ use cases. No decisions.

use std::{pin::pin, sync::Arc};

use futures::{FutureExt, StreamExt};
use tandem_chassis::{Lifecycle, grpc::status, lifecycle::OnEnd};
use tandem_proto::{
    client::Typing,
    routing::{
        AnswerBatch, MembersRequest, MembersResponse, SubmitBatch, routing_server::Routing,
        submit_item::What,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::usecase::{
    admit::Admission,
    members::members,
    submit::{Stream, Submitted},
    typing::Signal,
};

/// Batches of answers that an edge may have waiting before its stream is no longer served.
const ANSWERS: usize = 64;

/// The service.
#[derive(Clone)]
pub struct Grpc {
    pub shared: Arc<Admission>,
    pub typing: mpsc::Sender<Signal>,
    pub lifecycle: Lifecycle,
}

#[tonic::async_trait]
impl Routing for Grpc {
    type SubmitStream = ReceiverStream<Result<AnswerBatch, Status>>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitBatch>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let serve = self.clone().serve(request.into_inner(), answers);
        self.lifecycle
            .spawn("routing submit stream", OnEnd::Fine, serve);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let MembersRequest { conversation, user } = request.into_inner();
        let (directory, partitions) = (&self.shared.directory, self.shared.partitions);
        match members(directory, partitions, &conversation, &user).await {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => Err(status(error.code(), error.to_string())),
        }
    }
}

impl Grpc {
    /// Serves one stream until the edge has gone, or what it sent before the stop is answered.
    async fn serve(
        self,
        mut incoming: Streaming<SubmitBatch>,
        answers: mpsc::Sender<Result<AnswerBatch, Status>>,
    ) {
        let mut stream = Stream::new(Arc::clone(&self.shared));
        let mut stopped = pin!(self.lifecycle.stopped());
        let mut gone = pin!(answers.closed());
        let (mut open, mut stopping) = (true, false);
        while open || !stream.is_idle() {
            tokio::select! {
                biased;
                () = &mut gone => return,
                () = &mut stopped, if !stopping => {
                    // what comes now is for another replica
                    (open, stopping) = (false, true);
                }
                () = stream.progress() => {}
                batch = incoming.next(), if open && stream.has_room() => match batch {
                    Some(Ok(batch)) => self.take(&mut stream, batch),
                    Some(Err(_)) => return,
                    None => open = false,
                },
            }
            while open && stream.has_room() {
                match incoming.next().now_or_never() {
                    Some(Some(Ok(batch))) => self.take(&mut stream, batch),
                    Some(Some(Err(_))) => return,
                    Some(None) => open = false,
                    None => break,
                }
            }
            if stopping && stream.is_unconfirmed() {
                // the edge sends it to another replica
                return;
            }
            stream.pump();
            let batch = stream.answers();
            if !batch.is_empty()
                && answers
                    .send(Ok(AnswerBatch { answers: batch }))
                    .await
                    .is_err()
            {
                return;
            }
        }
    }

    fn take(&self, stream: &mut Stream, batch: SubmitBatch) {
        for item in batch.items {
            match item.what {
                Some(What::Submit(submit)) => stream.take(Submitted {
                    reference: item.r#ref,
                    user: item.user,
                    device: item.device,
                    submit,
                    traceparent: item.traceparent,
                    chain: item.chain,
                }),
                Some(What::Typing(typing)) => self.typing(item.user, typing),
                None => {}
            }
        }
    }

    fn typing(&self, user: String, typing: Typing) {
        if self.typing.try_send(Signal { user, typing }).is_err() {
            self.shared.metrics.typing_dropped.add(1);
        }
    }
}
