//! A device without manners: sends whatever it is told to, and shows what comes back.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use prost::Message as _;
use serde_json::{Value, json};
use tandem_e2e_tests::{
    Device, Up,
    device::{PATIENCE, between},
};
use tandem_kernel::Code;
use tandem_proto::{
    client::{
        self, Accepted, Body, ClientFrame, Closing, DeviceClass, Event, Hello, Ping, Problem,
        Rejected, Request, ServerFrame, Submit, Text, Welcome, body::Kind, client_frame::Frame,
        request::Op, response, server_frame::Frame as Answer,
    },
    json,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

/// A token of the development issuer.
pub fn token(up: &Up, user: &str, ttl_s: u64) -> String {
    let request = json!({ "user": user, "ttl_s": ttl_s }).to_string();
    let answer = up.http("POST", "/dev/token", &request).expect("an answer");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let token: Value = serde_json::from_str(body).expect("json");
    token["token"].as_str().expect("a token").to_owned()
}

/// How often the edge refused something with this code.
pub fn refused(up: &Up, code: Code) -> f64 {
    let label = format!("code=\"{}\"", code.as_str());
    up.metric("tandem_edge_refused_total", &[&label])
}

/// A fresh event id.
pub fn event_id() -> String {
    let doors = tandem_chassis::Doors::real();
    doors.rng.event_id(doors.clock.unix()).to_string()
}

pub fn hello(token: String, device: &str) -> Hello {
    Hello {
        token,
        device: Some(client::Device {
            id: device.to_owned(),
            class: DeviceClass::Pc.into(),
            agent: "raw".into(),
        }),
        ..Hello::default()
    }
}

/// An event for a conversation, or for a person if it has no colon.
pub fn submit(to: &str, kind: Kind) -> Submit {
    let (conversation, to) = if to.contains(':') {
        (to.to_owned(), String::new())
    } else {
        (String::new(), format!("{to}@tandem.test"))
    };
    Submit {
        event_id: event_id(),
        conversation,
        to,
        body: Some(Body { kind: Some(kind) }),
        retry: false,
    }
}

pub fn text(text: impl Into<String>) -> Kind {
    Kind::Text(Text {
        text: text.into(),
        ..Text::default()
    })
}

/// A WebSocket of which every octet is ours.
pub struct Raw {
    pub ws: WebSocketStream<TcpStream>,
    json: bool,
    seen: u64,
}

impl Raw {
    /// Connects, and says nothing.
    pub async fn connect(up: &Up, json: bool) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        Self::connect_by(socket, up, json).await
    }

    /// The same, by a socket of the caller's.
    pub async fn connect_by(socket: TcpSocket, up: &Up, json: bool) -> Self {
        let to = ([127, 0, 0, 1], up.port).into();
        let stream = socket.connect(to).await.expect("a connection");
        let mut request = format!("{}/v1/connect", up.url())
            .into_client_request()
            .expect("a request");
        let protocol = if json { "tandem.v1+json" } else { "tandem.v1" };
        request.headers_mut().insert(
            "sec-websocket-protocol",
            protocol.parse().expect("a header"),
        );
        let (ws, _) = client_async(request, stream).await.expect("an upgrade");
        Self { ws, json, seen: 0 }
    }

    /// Connects and signs in.
    pub async fn open(up: &Up, user: &str, device: &str, json: bool) -> (Self, Welcome) {
        let mut raw = Self::connect(up, json).await;
        let welcome = raw.sign_in(hello(token(up, user, 3600), device)).await;
        (raw, welcome)
    }

    /// Says hello, and waits for the welcome.
    pub async fn sign_in(&mut self, hello: Hello) -> Welcome {
        self.send(Frame::Hello(hello)).await;
        self.until("welcome", |a| match a {
            Answer::Welcome(welcome) => Some(welcome),
            _ => None,
        })
        .await
    }

    /// Sends a frame as it is to be.
    pub async fn send(&mut self, frame: Frame) {
        let frame = ClientFrame {
            ack: 0,
            frame: Some(frame),
        };
        let message = if self.json {
            Message::text(json::client_frame_to_json(&frame).expect("json"))
        } else {
            Message::binary(frame.encode_to_vec())
        };
        self.send_message(message).await;
    }

    /// Acknowledges what came so far: what was refused for now is given up.
    pub async fn acknowledge(&mut self) {
        let frame = ClientFrame {
            ack: self.seen,
            frame: Some(Frame::Ping(Ping::default())),
        };
        self.send_message(Message::binary(frame.encode_to_vec()))
            .await;
    }

    /// Sends anything. What the other end thinks of it is not seen here.
    pub async fn send_message(&mut self, message: Message) {
        let _ = self.ws.send(message).await;
    }

    /// The next frame; `None`: the connection is closed.
    pub async fn receive(&mut self) -> Option<Answer> {
        loop {
            let next = timeout(PATIENCE, self.ws.next()).await;
            let message = next.expect("something in time")?.ok()?;
            let frame = match message {
                Message::Binary(bytes) => ServerFrame::decode(bytes).expect("a server frame"),
                Message::Text(text) => json::server_frame_from_json(&text).expect("a server frame"),
                Message::Close(_) => return None,
                _ => continue,
            };
            self.seen = self.seen.max(frame.n);
            return Some(frame.frame.expect("a kind of frame"));
        }
    }

    /// Waits for a frame.
    pub async fn until<T>(&mut self, what: &str, pick: impl Fn(Answer) -> Option<T>) -> T {
        let wait = async {
            loop {
                let frame = self.receive().await;
                let frame = frame.unwrap_or_else(|| panic!("closed before {what}"));
                if let Some(picked) = pick(frame) {
                    return picked;
                }
            }
        };
        let picked = timeout(PATIENCE, wait).await;
        picked.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// Waits until it is told why the connection ends, and until it has ended.
    pub async fn closing(&mut self) -> Closing {
        let closing = self
            .until("closing", |a| match a {
                Answer::Closing(closing) => Some(closing),
                _ => None,
            })
            .await;
        assert_eq!(self.receive().await, None, "closing is the last frame");
        closing
    }

    /// What becomes of an event.
    pub async fn answer(&mut self, submit: Submit) -> Result<Accepted, Rejected> {
        let id = submit.event_id.clone();
        self.send(Frame::Submit(submit)).await;
        self.until("an answer", |a| match a {
            Answer::Accepted(a) if a.event_id == id => Some(Ok(a)),
            Answer::Rejected(r) if r.event_id == id => Some(Err(r)),
            _ => None,
        })
        .await
    }

    /// The answer to a question.
    pub async fn ask(&mut self, id: u64, op: Op) -> Result<response::Result, Problem> {
        self.send(Frame::Request(Request { id, op: Some(op) }))
            .await;
        let result = self
            .until("a response", |a| match a {
                Answer::Response(r) if r.id == id => r.result,
                _ => None,
            })
            .await;
        match result {
            response::Result::Problem(problem) => Err(problem),
            other => Ok(other),
        }
    }

    /// The next event with a text.
    pub async fn event(&mut self) -> (Event, String) {
        self.until("an event", |a| match a {
            Answer::Event(event) => {
                let kind = event.body.clone().and_then(|b| b.kind)?;
                match kind {
                    Kind::Text(text) => Some((event, text.text)),
                    _ => None,
                }
            }
            _ => None,
        })
        .await
    }
}

/// Two people who mind their own business while others misbehave.
pub struct Bystanders {
    pub alice: Device,
    pub bob: Device,
    said: usize,
}

impl Bystanders {
    pub async fn new(up: &Up) -> Self {
        let alice = Device::connect(up, "alice", "bystander");
        let bob = Device::connect(up, "bob", "bystander");
        alice.synced().await;
        bob.synced().await;
        Self {
            alice,
            bob,
            said: 0,
        }
    }

    /// They still talk, and both show everything that was said so far, in order and once. How long the last
    /// message took to be shown.
    pub async fn still_talk(&mut self) -> Duration {
        let begin = tokio::time::Instant::now();
        self.alice.say("bob", &self.line(self.said)).await;
        self.said += 1;
        let expected: Vec<_> = (0..self.said).map(|i| self.line(i)).collect();
        let here = between("alice", "bob");
        let shown = self.bob.shows_at_least(&here, self.said).await;
        let took = begin.elapsed();
        let of_alice = |shown: Vec<(String, String)>| -> Vec<String> {
            shown.into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(of_alice(shown), expected);
        let shown = self.alice.shows_at_least(&here, self.said).await;
        assert_eq!(of_alice(shown), expected);
        took
    }

    fn line(&self, i: usize) -> String {
        format!("line {i}")
    }
}
