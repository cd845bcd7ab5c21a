//! Health for probes: `/livez` and `/readyz` over HTTP with `/metrics` beside them, and
//! `grpc.health.v1.Health` over gRPC.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::get};
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use crate::{Lifecycle, telemetry::Telemetry};

/// Routes of the probes. `/livez` says that the process answers; `/readyz` is 503 until everything is up
/// and again from the moment a stop begins.
pub fn routes(lifecycle: Lifecycle, telemetry: Option<Arc<Telemetry>>) -> Router {
    let metrics = move || {
        let telemetry = telemetry.clone();
        async move { telemetry.map(|t| t.prometheus()).unwrap_or_default() }
    };
    let ready = move || {
        let ready = lifecycle.is_ready();
        async move {
            if ready {
                (StatusCode::OK, "ready\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
            }
        }
    };
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// The route of `grpc.health.v1.Health`. The process as a whole (the empty name) and each of `services`
/// are serving while the process is ready: not before everything is up, and not from the moment on
/// that a stop begins.
pub fn grpc_health(lifecycle: &Lifecycle, services: &'static [&'static str]) -> Router {
    let probe = Probe {
        lifecycle: lifecycle.clone(),
        services,
    };
    tonic::service::Routes::new(HealthServer::new(probe)).into_axum_router()
}

struct Probe {
    lifecycle: Lifecycle,
    services: &'static [&'static str],
}

fn answer(ready: bool) -> HealthCheckResponse {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Probe {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        if !name.is_empty() && !self.services.contains(&name.as_str()) {
            return Err(Status::not_found("no such service in this process"));
        }
        Ok(Response::new(answer(self.lifecycle.is_ready())))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now and whenever it changes. It ends with the process' word that it stops.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.check(request).await?;
        let (lifecycle, ready) = (self.lifecycle.clone(), self.lifecycle.readiness());
        let answers = stream::unfold(Some((lifecycle, ready, true)), |state| async {
            let (lifecycle, mut ready, first) = state?;
            if !first {
                ready.changed().await.ok()?;
            }
            ready.mark_unchanged();
            let now = lifecycle.is_ready();
            let next = (!lifecycle.stopping()).then_some((lifecycle, ready, false));
            Some((Ok(answer(now)), next))
        });
        Ok(Response::new(answers.boxed()))
    }
}
