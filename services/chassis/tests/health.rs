//! Health over gRPC follows the lifecycle.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{self, Channel},
    health::grpc_health,
    lifecycle::{Exit, OnEnd},
    server::{Options, serve_with},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const SERVICE: &str = "tandem.routing.v1.Routing";

async fn start(lifecycle: &Lifecycle, options: Options) -> HealthClient<Channel> {
    let doors = Doors::for_test(1);
    let router = grpc_health(lifecycle, &[SERVICE]);
    let addr = serve_with(&doors, lifecycle, "127.0.0.1:0", router, options)
        .await
        .unwrap();
    HealthClient::new(grpc::remote(&doors, &addr.to_string()).unwrap())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn a_process_serves_from_when_it_is_ready_until_it_drains() {
    let lifecycle = Lifecycle::new();
    let mut client = start(&lifecycle, Options::default()).await;
    for service in ["", SERVICE] {
        let now = client.check(of(service)).await.unwrap().into_inner();
        assert_eq!(now.status(), ServingStatus::NotServing);
    }
    let mut watch = client.watch(of(SERVICE)).await.unwrap().into_inner();
    let mut next = async || Some(watch.message().await.unwrap()?.status());
    assert_eq!(next().await, Some(ServingStatus::NotServing));

    lifecycle.set_ready();
    assert_eq!(next().await, Some(ServingStatus::Serving));
    for service in ["", SERVICE] {
        let now = client.check(of(service)).await.unwrap().into_inner();
        assert_eq!(now.status(), ServingStatus::Serving);
    }

    let (done, drained) = tokio::sync::oneshot::channel::<()>();
    lifecycle.spawn("drain", OnEnd::Fine, async {
        let _ = drained.await;
    });
    lifecycle.stop();
    assert_eq!(
        next().await,
        Some(ServingStatus::NotServing),
        "while it drains"
    );
    assert_eq!(next().await, None, "and then nothing holds up the drain");
    drop(done);
}

#[tokio::test]
async fn a_service_of_another_process_is_not_found() {
    let mut client = start(&Lifecycle::new(), Options::default()).await;
    let status = client
        .check(of("tandem.history.v1.History"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_port_that_serves_through_the_drain_is_there_until_its_end_and_holds_nothing_up() {
    let lifecycle = Lifecycle::new();
    let options = Options {
        through_drain: true,
        ..Options::default()
    };
    let mut client = start(&lifecycle, options).await;
    let (drained, drain) = tokio::sync::oneshot::channel::<()>();
    lifecycle.spawn("drain", OnEnd::Fine, async {
        let _ = drain.await;
    });
    lifecycle.set_ready();
    lifecycle.stop();
    let now = client.check(of("")).await.unwrap().into_inner();
    assert_eq!(now.status(), ServingStatus::NotServing);
    drop(drained);
    assert_eq!(
        lifecycle.run_to_end(Duration::from_mins(1)).await,
        Exit::Clean
    );
    assert!(client.check(of("")).await.is_err());
}
