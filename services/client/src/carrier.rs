//! Carriers of frames: a WebSocket or a gRPC stream. Both hand over whatever has arrived at once, and
//! write whatever is queued with one flush.

use std::{io, task::Poll, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future::poll_fn};
use http::Uri;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tandem_chassis::{Doors, net::BoxIo};
use tandem_proto::client::{ClientFrame, ServerFrame, messenger_client::MessengerClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig,
    },
};
use tonic::{Streaming, transport::Endpoint};

use crate::address::{Carrier, Server};

/// Why a connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The network.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The WebSocket protocol.
    #[error("websocket: {0}")]
    WebSocket(Box<tokio_tungstenite::tungstenite::Error>),
    /// gRPC.
    #[error("grpc: {0}")]
    Grpc(String),
    /// A frame that cannot be read.
    #[error("malformed frame: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The other side ended the connection.
    #[error("closed by the server: {0}")]
    Closed(String),
    /// Nothing happened for too long.
    #[error("timed out")]
    Timeout,
}

impl From<tokio_tungstenite::tungstenite::Error> for Broken {
    fn from(e: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(e))
    }
}

/// Longest time to wait for a connection, and for queued frames to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// Frames handed over at once, at most.
const BURST: usize = 1024;

/// A connection that carries frames.
pub enum Connection {
    /// WebSocket.
    WebSocket(Box<WebSocketStream<BoxIo>>),
    /// gRPC stream.
    Grpc(mpsc::Sender<ClientFrame>, Box<Streaming<ServerFrame>>),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects to a server.
    pub async fn open(doors: &Doors, server: &Server) -> Result<Self, Broken> {
        let opened = async {
            match server.carrier {
                Carrier::WebSocket => Self::web_socket(doors, &server.authority).await,
                Carrier::Grpc => Self::grpc(doors, &server.authority).await,
            }
        };
        tokio::time::timeout(PATIENCE, opened)
            .await
            .map_err(|_| Broken::Timeout)?
    }

    async fn web_socket(doors: &Doors, authority: &str) -> Result<Self, Broken> {
        let io = doors.net.connect(authority).await?;
        let mut request = format!("ws://{authority}/v1/connect").into_client_request()?;
        request.headers_mut().insert(
            "sec-websocket-protocol",
            HeaderValue::from_static("tandem.v1"),
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(64 << 10)
            .max_message_size(Some(16 << 20));
        let (ws, _) =
            tokio_tungstenite::client_async_with_config(request, io, Some(config)).await?;
        Ok(Self::WebSocket(Box::new(ws)))
    }

    async fn grpc(doors: &Doors, authority: &str) -> Result<Self, Broken> {
        let (net, to) = (doors.net.clone(), authority.to_owned());
        let channel = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|e| Broken::Grpc(e.to_string()))?
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let (net, to) = (net.clone(), to.clone());
                async move { net.connect(&to).await.map(TokioIo::new) }
            }))
            .await
            .map_err(|e| Broken::Grpc(e.to_string()))?;
        let mut client = MessengerClient::new(channel).max_decoding_message_size(16 << 20);
        let (send, frames) = mpsc::channel(64);
        let frames = client
            .connect(ReceiverStream::new(frames))
            .await
            .map_err(|s| Broken::Grpc(s.message().to_owned()))?;
        Ok(Self::Grpc(send, Box::new(frames.into_inner())))
    }

    /// Waits for frames and adds all that have arrived to `into`. Dropping the future loses nothing.
    pub async fn receive(&mut self, into: &mut Vec<ServerFrame>) -> Result<(), Broken> {
        let had = into.len();
        poll_fn(|cx| {
            loop {
                let next = match self {
                    Self::WebSocket(ws) => match ws.poll_next_unpin(cx) {
                        Poll::Ready(Some(Ok(Message::Binary(bytes)))) => {
                            into.push(ServerFrame::decode(bytes)?);
                            continue_or(into.len() - had)
                        }
                        Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                            let why = frame.map(|f| f.reason.to_string()).unwrap_or_default();
                            Poll::Ready(Err(Broken::Closed(why)))
                        }
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(Some(Err(e))) => Poll::Ready(Err(e.into())),
                        Poll::Ready(None) => Poll::Ready(Err(Broken::Closed(String::new()))),
                        Poll::Pending => Poll::Pending,
                    },
                    Self::Grpc(_, frames) => match frames.poll_next_unpin(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            into.push(frame);
                            continue_or(into.len() - had)
                        }
                        Poll::Ready(Some(Err(s))) => {
                            Poll::Ready(Err(Broken::Grpc(s.message().to_owned())))
                        }
                        Poll::Ready(None) => Poll::Ready(Err(Broken::Closed(String::new()))),
                        Poll::Pending => Poll::Pending,
                    },
                };
                return match next {
                    Poll::Ready(Ok(false)) => continue,
                    Poll::Ready(Ok(true)) => Poll::Ready(Ok(())),
                    // what came before the end counts; the end is found again at the next call
                    _ if into.len() > had => Poll::Ready(Ok(())),
                    Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                    Poll::Pending => Poll::Pending,
                };
            }
        })
        .await
    }

    /// Sends the frames with one flush.
    pub async fn send(
        &mut self,
        frames: impl IntoIterator<Item = ClientFrame>,
    ) -> Result<(), Broken> {
        let sent = async {
            match self {
                Self::WebSocket(ws) => {
                    for frame in frames {
                        ws.feed(Message::Binary(Bytes::from(frame.encode_to_vec())))
                            .await?;
                    }
                    ws.flush().await?;
                }
                Self::Grpc(send, _) => {
                    for frame in frames {
                        let gone = |_| Broken::Closed(String::new());
                        send.send(frame).await.map_err(gone)?;
                    }
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, sent)
            .await
            .map_err(|_| Broken::Timeout)?
    }

    /// Says goodbye to the carrier, without waiting for long.
    pub async fn close(&mut self) {
        if let Self::WebSocket(ws) = self {
            let closing = Duration::from_secs(1);
            let _ = tokio::time::timeout(closing, ws.close()).await;
        }
    }
}

/// Whether a burst is full.
fn continue_or(taken: usize) -> Poll<Result<bool, Broken>> {
    Poll::Ready(Ok(taken >= BURST))
}
