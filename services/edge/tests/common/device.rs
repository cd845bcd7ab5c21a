//! Devices: what they send, and what they are sent.

use std::{collections::HashMap, time::Duration};

use futures::{SinkExt, StreamExt};
use prost::Message as _;
use tandem_proto::{
    client::{
        Body, ClientFrame, Closing, Device as Dev, DeviceClass, Event, Hello, Received, Resume,
        ServerFrame, Submit, Text, Welcome, body::Kind, client_frame, server_frame,
    },
    json,
};
use tokio::{io::DuplexStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use uuid::Uuid;

/// A WebSocket client.
pub struct Device {
    pub ws: WebSocketStream<DuplexStream>,
    pub json: bool,
    /// The highest number seen.
    pub n: u64,
}

fn id(i: u64) -> String {
    uuid::Builder::from_unix_timestamp_millis(1_767_225_600_000 + i, &[7; 10])
        .into_uuid()
        .to_string()
}

/// The i-th event id.
pub fn event_id(i: u64) -> String {
    let id = id(i);
    assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    id
}

pub fn text(to: &str, i: u64, text: &str) -> client_frame::Frame {
    let kind = Kind::Text(Text {
        text: text.to_owned(),
        ..Text::default()
    });
    client_frame::Frame::Submit(Submit {
        event_id: event_id(i),
        to: to.to_owned(),
        body: Some(Body { kind: Some(kind) }),
        ..Submit::default()
    })
}

pub fn hello(token: &str, device: &str) -> Hello {
    Hello {
        token: token.to_owned(),
        device: Some(Dev {
            id: device.to_owned(),
            class: DeviceClass::Pc.into(),
            agent: "test/1".to_owned(),
        }),
        resume: None,
        have: HashMap::new(),
        status: 0,
    }
}

impl Device {
    pub async fn binary(socket: DuplexStream) -> Self {
        Self::with(socket, Some("tandem.v1")).await.unwrap()
    }

    pub async fn json(socket: DuplexStream) -> Self {
        Self::with(socket, Some("tandem.v1+json")).await.unwrap()
    }

    pub async fn with(
        socket: DuplexStream,
        protocol: Option<&'static str>,
    ) -> Result<Self, String> {
        let mut request = "ws://edge.test/v1/connect".into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let (ws, _) = client_async(request, socket)
            .await
            .map_err(|e| e.to_string())?;
        Ok(Self {
            ws,
            json: protocol == Some("tandem.v1+json"),
            n: 0,
        })
    }

    pub async fn send(&mut self, frame: client_frame::Frame) {
        self.send_frame(ClientFrame {
            ack: self.n,
            frame: Some(frame),
        })
        .await;
    }

    pub async fn send_frame(&mut self, frame: ClientFrame) {
        let message = if self.json {
            Message::text(json::client_frame_to_json(&frame).unwrap())
        } else {
            Message::binary(frame.encode_to_vec())
        };
        self.ws.send(message).await.unwrap();
    }

    pub async fn hello(&mut self, token: &str, device: &str) {
        self.send(client_frame::Frame::Hello(hello(token, device)))
            .await;
    }

    pub async fn resume(&mut self, token: &str, device: &str, session: &str, n: u64) {
        let resume = Some(Resume {
            session: session.to_owned(),
            n,
        });
        self.send(client_frame::Frame::Hello(Hello {
            resume,
            ..hello(token, device)
        }))
        .await;
    }

    /// The next frame; `None`: the connection is closed, or nothing comes for a minute.
    pub async fn next(&mut self) -> Option<server_frame::Frame> {
        self.next_within(Duration::from_mins(1)).await
    }

    pub async fn next_within(&mut self, limit: Duration) -> Option<server_frame::Frame> {
        loop {
            let frame = match timeout(limit, self.ws.next()).await.ok()??.ok()? {
                Message::Binary(bytes) if !self.json => ServerFrame::decode(bytes).unwrap(),
                Message::Text(text) if self.json => json::server_frame_from_json(&text).unwrap(),
                Message::Close(_) => return None,
                Message::Ping(_) | Message::Pong(_) => continue,
                other => panic!("not expected: {other:?}"),
            };
            if frame.n > 0 {
                assert_eq!(frame.n, self.n + 1, "numbers rise by one");
                self.n = frame.n;
            }
            return frame.frame;
        }
    }

    /// The next frame that is of interest, within 10 s.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(server_frame::Frame) -> Option<T>) -> T {
        let found = timeout(Duration::from_secs(10), async {
            loop {
                let frame = self.next().await.expect("the connection is open");
                if let Some(found) = pick(frame) {
                    return found;
                }
            }
        });
        found.await.expect("it comes within 10 s")
    }

    pub async fn welcome(&mut self) -> Welcome {
        self.find(|f| match f {
            server_frame::Frame::Welcome(w) => Some(w),
            other => panic!("not a welcome: {other:?}"),
        })
        .await
    }

    pub async fn synced(&mut self) {
        self.find(|f| matches!(f, server_frame::Frame::Synced(_)).then_some(()))
            .await;
    }

    pub async fn event(&mut self) -> Event {
        self.find(|f| match f {
            server_frame::Frame::Event(e) => Some(e),
            _ => None,
        })
        .await
    }

    /// The answer to a submit: seq, or code.
    pub async fn answer(&mut self) -> Result<u64, String> {
        self.find(|f| match f {
            server_frame::Frame::Accepted(a) => Some(Ok(a.seq)),
            server_frame::Frame::Rejected(r) => Some(Err(r.code)),
            _ => None,
        })
        .await
    }

    pub async fn closing(&mut self) -> Closing {
        let closing = self
            .find(|f| match f {
                server_frame::Frame::Closing(c) => Some(c),
                _ => None,
            })
            .await;
        assert!(self.next().await.is_none(), "nothing follows");
        closing
    }

    pub async fn received(&mut self, conversation: &str, seq: u64) {
        self.send(client_frame::Frame::Received(Received {
            conversation: conversation.to_owned(),
            seq,
            ..Received::default()
        }))
        .await;
    }
}
