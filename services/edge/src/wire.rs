//! The connections that carry frames: WebSocket (binary or JSON) and the gRPC stream, behind one type.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Sink, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tandem_kernel::Code;
use tandem_proto::{
    client::{ClientFrame, ServerFrame},
    json,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message, error::CapacityError, protocol::WebSocketConfig},
};
use tonic::{Status, Streaming};

use crate::domain::frame::Frame;

/// What came from a device.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Box<ClientFrame>),
    /// A sign of life of the carrier's own.
    Alive,
    /// Something that is none. The connection is of no more use.
    Unreadable(Code, &'static str),
    /// The connection is gone.
    Gone,
}

/// Which carrier it is, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// WebSocket, protobuf.
    Binary,
    /// WebSocket, JSON.
    Json,
    /// gRPC.
    Grpc,
}

impl Carrier {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "websocket",
            Self::Json => "websocket_json",
            Self::Grpc => "grpc",
        }
    }
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub struct Lost;

/// A connection.
pub enum Wire {
    /// A WebSocket (RFC 6455) and whether it speaks JSON.
    Ws(WebSocketStream<TokioIo<Upgraded>>, bool),
    /// The gRPC stream.
    Grpc(GrpcWire),
}

/// The two halves of a gRPC stream.
pub struct GrpcWire {
    /// From the device.
    pub from: Streaming<ClientFrame>,
    /// To the device.
    pub to: tokio_util::sync::PollSender<Result<ServerFrame, Status>>,
}

impl GrpcWire {
    /// A wire over the stream's halves.
    pub fn new(
        from: Streaming<ClientFrame>,
        to: mpsc::Sender<Result<ServerFrame, Status>>,
    ) -> Self {
        Self {
            from,
            to: tokio_util::sync::PollSender::new(to),
        }
    }
}

/// How a WebSocket's buffers are sized: an idle one should cost little.
pub fn ws_config(frame_bytes: usize, read_buffer: usize, write_buffer: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .write_buffer_size(write_buffer)
        .max_message_size(Some(frame_bytes))
        .max_frame_size(Some(frame_bytes))
}

impl Wire {
    /// Which carrier it is.
    pub fn carrier(&self) -> Carrier {
        match self {
            Self::Ws(_, true) => Carrier::Json,
            Self::Ws(_, false) => Carrier::Binary,
            Self::Grpc(_) => Carrier::Grpc,
        }
    }

    /// The next thing from the device. After `Unreadable` or `Gone` it is not to be called again.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        match self {
            Self::Ws(stream, json) => loop {
                let message = match ready!(Pin::new(&mut *stream).poll_next(cx)) {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return Poll::Ready(ws_error(&error)),
                    None => return Poll::Ready(Incoming::Gone),
                };
                return Poll::Ready(match message {
                    Message::Binary(bytes) if !*json => read_binary(bytes),
                    Message::Text(text) if *json => read_json(&text),
                    Message::Binary(_) => {
                        Incoming::Unreadable(Code::Malformed, "tandem.v1+json is sent as text")
                    }
                    Message::Text(_) => {
                        Incoming::Unreadable(Code::Malformed, "tandem.v1 is sent as binary")
                    }
                    Message::Ping(_) | Message::Pong(_) => Incoming::Alive,
                    // read on: the answer is written, and the end comes
                    Message::Close(_) | Message::Frame(_) => continue,
                });
            },
            Self::Grpc(wire) => Poll::Ready(match ready!(Pin::new(&mut wire.from).poll_next(cx)) {
                Some(Ok(frame)) => Incoming::Frame(Box::new(frame)),
                Some(Err(status)) => match status.code() {
                    tonic::Code::OutOfRange => {
                        Incoming::Unreadable(Code::TooLarge, "the frame is larger than the limit")
                    }
                    tonic::Code::Internal => {
                        Incoming::Unreadable(Code::Malformed, "not a client frame")
                    }
                    _ => Incoming::Gone,
                },
                None => Incoming::Gone,
            }),
        }
    }

    /// Ready when a frame can be written. An error: the connection is gone.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        match self {
            Self::Ws(stream, _) => Pin::new(stream).poll_ready(cx).map_err(|_| Lost),
            Self::Grpc(wire) => wire.to.poll_reserve(cx).map_err(|_| Lost),
        }
    }

    /// Writes a frame, after [`Wire::poll_ready`].
    pub fn start_send(&mut self, frame: &Frame) -> Result<(), Lost> {
        match self {
            Self::Ws(stream, false) => Pin::new(stream)
                .start_send(Message::Binary(frame.bytes()))
                .map_err(|_| Lost),
            Self::Ws(stream, true) => match json::server_frame_to_json(&frame.message()) {
                Ok(text) => Pin::new(stream)
                    .start_send(Message::text(text))
                    .map_err(|_| Lost),
                Err(error) => {
                    tracing::error!(%error, "a server frame has no json mapping");
                    Err(Lost)
                }
            },
            Self::Grpc(wire) => wire.to.send_item(Ok(frame.message())).map_err(|_| Lost),
        }
    }

    /// Ready when everything written is on its way.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        match self {
            Self::Ws(stream, _) => Pin::new(stream).poll_flush(cx).map_err(|_| Lost),
            Self::Grpc(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends the connection in an orderly way, within `limit`. What the device still sends is read and dropped:
    /// bytes left unread would make TCP reset the connection, and the last frames be lost.
    pub async fn close(&mut self, limit: Duration) {
        let _ = tokio::time::timeout(limit, async {
            match self {
                Self::Ws(stream, _) => {
                    let closed = poll_fn(|cx| Pin::new(&mut *stream).poll_close(cx)).await;
                    let socket = stream.get_mut();
                    if closed.is_ok() && socket.shutdown().await.is_ok() {
                        let mut sink = [0; 1024];
                        while matches!(socket.read(&mut sink).await, Ok(1..)) {}
                    }
                }
                Self::Grpc(wire) => wire.to.close(),
            }
        })
        .await;
    }
}

fn read_binary(bytes: Bytes) -> Incoming {
    match ClientFrame::decode(bytes) {
        Ok(frame) => Incoming::Frame(Box::new(frame)),
        Err(_) => Incoming::Unreadable(Code::Malformed, "not a client frame"),
    }
}

fn read_json(text: &str) -> Incoming {
    match json::client_frame_from_json(text) {
        Ok(frame) => Incoming::Frame(Box::new(frame)),
        Err(_) => Incoming::Unreadable(Code::Malformed, "not the json of a client frame"),
    }
}

fn ws_error(error: &WsError) -> Incoming {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            Incoming::Unreadable(Code::TooLarge, "the frame is larger than the limit")
        }
        WsError::Utf8(_) => Incoming::Unreadable(Code::Malformed, "text is utf-8"),
        WsError::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Incoming::Gone,
        WsError::Protocol(_) => Incoming::Unreadable(Code::Malformed, "not a websocket message"),
        _ => Incoming::Gone,
    }
}
