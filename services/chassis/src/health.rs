//! Health for probes: `/livez` and `/readyz` over HTTP, and `/metrics` beside them.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::get};

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
