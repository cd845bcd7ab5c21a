//! Streams to another service when their connection is renewed: what a sender keeps until it is answered
//! arrives, and first copies arrive in order.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use common::World;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, Peers, Replica},
    server::{self, Options},
};
use tandem_proto::routing::{
    Answer, AnswerBatch, MembersRequest, MembersResponse, SubmitBatch, SubmitItem,
    routing_client::RoutingClient,
    routing_server::{Routing, RoutingServer},
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Takes items and answers them.
#[derive(Default)]
struct Fake(Mutex<Vec<u64>>);

struct Served(Arc<Fake>);

#[tonic::async_trait]
impl Routing for Served {
    type SubmitStream = BoxStream<'static, Result<AnswerBatch, Status>>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitBatch>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let fake = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |batch| {
            let answer = |item: SubmitItem| {
                fake.0.lock().push(item.r#ref);
                Answer {
                    r#ref: item.r#ref,
                    result: None,
                }
            };
            let answers = batch?.items.into_iter().map(answer).collect();
            Ok(AnswerBatch { answers })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Err(Status::unimplemented("not for this test"))
    }
}

/// Sends until the stream ends, as an edge does: what is unanswered stays, and is sent first the next time.
async fn lane(channel: Channel, unanswered: &mut VecDeque<u64>, next: &mut u64) {
    let (batches, stream) = mpsc::channel(1);
    let opened = RoutingClient::new(channel)
        .submit(ReceiverStream::new(stream))
        .await;
    let Ok(answers) = opened else { return };
    let mut answers = answers.into_inner();
    let item = |n: u64| SubmitItem {
        r#ref: n,
        ..SubmitItem::default()
    };
    let mut items: Vec<_> = unanswered.iter().copied().map(item).collect();
    loop {
        if items.is_empty() {
            *next += 1;
            unanswered.push_back(*next);
            items.push(item(*next));
        }
        let batch = SubmitBatch {
            items: std::mem::take(&mut items),
        };
        if batches.send(batch).await.is_err() {
            return;
        }
        match answers.message().await {
            Ok(Some(batch)) => {
                for answer in batch.answers {
                    assert_eq!(unanswered.pop_front(), Some(answer.r#ref));
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// A replica whose connections are told to go after a tenth of a second.
async fn serve(grace: Duration) -> (Arc<Fake>, World, Replica) {
    let fake = Arc::new(Fake::default());
    let router = tonic::service::Routes::new(RoutingServer::new(Served(Arc::clone(&fake))));
    let options = Options {
        max_connection_age: Some(Duration::from_millis(100)),
        grace,
        ..Options::default()
    };
    let (doors, lifecycle) = (Doors::for_test(7), Lifecycle::new());
    let router = router.into_axum_router();
    let addr = server::serve_with(&doors, &lifecycle, "127.0.1.1:0", router, options)
        .await
        .unwrap();
    let world = World::new();
    world.names.set(common::NAME, &[addr]);
    let replicas = world
        .peers()
        .replicas("routing")
        .wait_for(|r| r.len() == 1)
        .await
        .unwrap()
        .clone();
    (fake, world, replicas[0].clone())
}

#[tokio::test]
async fn a_stream_goes_on_after_its_connection_was_told_to_go_while_new_calls_have_another() {
    let (_fake, world, replica) = serve(Duration::from_mins(10)).await;
    let (batches, stream) = mpsc::channel(1);
    let mut client = RoutingClient::new(replica.channel.clone());
    let answers = client.submit(ReceiverStream::new(stream)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut n = 0;
    while *world.net.connects.borrow() < 4 {
        let called = client.members(MembersRequest::default()).await;
        assert_eq!(called.unwrap_err().code(), tonic::Code::Unimplemented);
        n += 1;
        let items = vec![SubmitItem {
            r#ref: n,
            ..SubmitItem::default()
        }];
        batches.send(SubmitBatch { items }).await.unwrap();
        let answered = answers.message().await.unwrap().unwrap();
        assert_eq!(answered.answers[0].r#ref, n);
    }
}

#[tokio::test]
async fn the_end_of_streams_that_are_too_old_loses_nothing_and_keeps_the_order() {
    let (fake, world, replica) = serve(Duration::from_millis(100)).await;
    let (mut unanswered, mut next, mut streams) = (VecDeque::new(), 0, 0);
    while *world.net.connects.borrow() < 5 {
        lane(replica.channel.clone(), &mut unanswered, &mut next).await;
        streams += 1;
    }
    assert!(streams > 1);
    let mut last = 0;
    for taken in fake.0.lock().iter() {
        assert!(*taken <= last + 1, "{taken} came before {}", last + 1);
        last = last.max(*taken);
    }
    let answered = next - unanswered.len() as u64;
    assert!(last >= answered, "{last} of {answered}");
}
