//! `/v1/connect`: the WebSocket upgrade (RFC 6455, section 4).

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tandem_kernel::Code;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::{
    edge::Edge,
    wire::{Wire, ws_config},
};

const BINARY: &str = "tandem.v1";
const JSON: &str = "tandem.v1+json";

/// The routes of devices.
pub fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/v1/connect", get(connect))
        .with_state(edge)
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// The subprotocol to speak: the first one offered that is known; binary if none was offered at all.
fn subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, ()> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered = values
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    offered
        .find_map(|name| match name {
            BINARY => Some(Some(BINARY)),
            JSON => Some(Some(JSON)),
            _ => None,
        })
        .ok_or(())
}

async fn connect(State(edge): State<Arc<Edge>>, mut request: Request) -> Response {
    if edge.is_draining() {
        edge.metrics.refuse(Code::Draining);
        return (StatusCode::SERVICE_UNAVAILABLE, "draining: connect again").into_response();
    }
    let headers = request.headers();
    let upgrade = has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket");
    if !upgrade
        || headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|v| v != "13")
    {
        edge.metrics.refuse(Code::Malformed);
        let answer = (
            StatusCode::UPGRADE_REQUIRED,
            [
                (header::UPGRADE, "websocket"),
                (header::SEC_WEBSOCKET_VERSION, "13"),
            ],
        );
        return (answer.0, answer.1, "this is a websocket (version 13)").into_response();
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).cloned() else {
        edge.metrics.refuse(Code::Malformed);
        return (StatusCode::BAD_REQUEST, "sec-websocket-key is missing").into_response();
    };
    let Ok(protocol) = subprotocol(headers) else {
        edge.metrics.refuse(Code::Malformed);
        return (
            StatusCode::BAD_REQUEST,
            "subprotocols are tandem.v1 and tandem.v1+json",
        )
            .into_response();
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    drop(request);
    let json = protocol == Some(JSON);
    let config = ws_config(
        edge.config.frame_bytes as usize,
        edge.config.read_buffer_bytes as usize,
        edge.config.write_buffer_bytes as usize,
    );
    edge.serve(async move {
        let socket = TokioIo::new(upgraded.await.ok()?);
        Some(Wire::Ws(
            WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await,
            json,
        ))
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(protocol),
        );
    }
    response
}
