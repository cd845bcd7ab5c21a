//! Whatever comes, and in whatever order, the session machine keeps its promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    missing_docs,
    reason = "tests"
)]

use proptest::{collection::vec, prelude::*};
use prost::Message;
use tandem_edge::fuzz::{fuzz_frame, fuzz_session};
use tandem_proto::client::{
    Accepted, Body, Bye, ClientFrame, Device, DeviceClass, Event, Head, Heads, HeadsRequest, Hello,
    Ping, Pong, Presence, Read, Receipt, Received, Request, Response, ServerFrame, SetPresence,
    Submit, Text, Typing, TypingEvent, body::Kind, client_frame, request::Op, response,
    server_frame,
};

fn conversation() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("o:alice@x.test,bob@x.test".to_owned()),
        Just("o:alice@x.test,chloe@x.test".to_owned()),
        Just("g:6ba7b810-9dad-41d1-80b4-00c04fd430c8@x.test".to_owned()),
        Just("o:bob@x.test,chloe@x.test".to_owned()),
        "[a-z]{0,6}",
    ]
}

fn client_frame() -> impl Strategy<Value = client_frame::Frame> {
    use client_frame::Frame as F;
    let device = Device {
        id: "pc".into(),
        class: DeviceClass::Pc.into(),
        agent: String::new(),
    };
    let submit = (conversation(), "[a-z]{0,70}", any::<bool>()).prop_map(|(c, text, receipt)| {
        let kind = if receipt {
            Kind::Receipt(Receipt::default())
        } else {
            Kind::Text(Text {
                text,
                ..Text::default()
            })
        };
        F::Submit(Submit {
            event_id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
            conversation: c,
            body: Some(Body { kind: Some(kind) }),
            ..Submit::default()
        })
    });
    prop_oneof![
        4 => Just(F::Hello(Hello { device: Some(device), ..Hello::default() })),
        6 => submit,
        3 => (conversation(), 0u64..9, any::<bool>(), vec(0u64..9, 0..4))
            .prop_map(|(conversation, seq, exact, seqs)| F::Received(Received { conversation, seq, exact, seqs })),
        3 => (conversation(), 0u64..9).prop_map(|(conversation, seq)| F::Read(Read { conversation, seq })),
        1 => conversation().prop_map(|conversation| F::Typing(Typing { conversation, active: true })),
        1 => any::<i32>().prop_map(|status| F::SetPresence(SetPresence { status, message: String::new() })),
        2 => (0u64..4).prop_map(|id| F::Request(Request { id, op: Some(Op::Heads(HeadsRequest::default())) })),
        2 => any::<u64>().prop_map(|nonce| F::Ping(Ping { nonce })),
        1 => Just(F::Bye(Bye {})),
    ]
}

fn server_frame() -> impl Strategy<Value = server_frame::Frame> {
    use server_frame::Frame as F;
    prop_oneof![
        6 => (conversation(), 0u64..9).prop_map(|(conversation, seq)| F::Event(Event { conversation, seq, sender: "bob@x.test".into(), ..Event::default() })),
        1 => (0u64..4).prop_map(|id| F::Response(Response { id, result: Some(response::Result::Heads(Heads::default())) })),
        2 => (0u64..9).prop_map(|seq| F::Accepted(Accepted { seq, ..Accepted::default() })),
        2 => (0u64..9).prop_map(|version| F::Presence(Presence { user: "bob@x.test".into(), version, ..Presence::default() })),
        1 => Just(F::Typing(TypingEvent::default())),
        1 => Just(F::Pong(Pong::default())),
    ]
}

fn step() -> impl Strategy<Value = Vec<u8>> {
    let with = |kind: u8, arg: u8, body: Vec<u8>| {
        let mut out = vec![kind, arg, u8::try_from(body.len()).unwrap_or(u8::MAX)];
        out.extend(body);
        out
    };
    prop_oneof![
        6 => (0u64..6, client_frame()).prop_map(move |(ack, f)| with(0, 0, ClientFrame { ack, frame: Some(f) }.encode_to_vec())),
        4 => server_frame().prop_map(move |f| with(7, 0, ServerFrame { n: 0, frame: Some(f) }.encode_to_vec())),
        1 => (conversation(), 0u64..9, any::<u8>())
            .prop_map(move |(conversation, last_seq, arg)| with(6, arg, Head { conversation, last_seq, ..Head::default() }.encode_to_vec())),
        4 => (3u8..12, any::<u8>()).prop_map(move |(kind, arg)| with(kind, arg, Vec::new())),
        2 => (0u8..8).prop_map(move |n| with(9, n, Vec::new())),
    ]
}

/// Hello, and alice is verified: most sequences are of interest only from there.
fn opened(steps: &[Vec<u8>]) -> Vec<u8> {
    let hello = Hello {
        device: Some(Device {
            id: "pc".into(),
            class: DeviceClass::Pc.into(),
            agent: String::new(),
        }),
        ..Hello::default()
    };
    let hello = ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Hello(hello)),
    }
    .encode_to_vec();
    let mut out = vec![0, 0, u8::try_from(hello.len()).unwrap()];
    out.extend(hello);
    out.extend([3, 0, 0]);
    out.extend(steps.concat());
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_inputs_breaks_a_session(steps in vec(step(), 0..80)) {
        fuzz_session(&opened(&steps));
        fuzz_session(&steps.concat());
    }

    #[test]
    fn no_bytes_break_a_session_or_the_decoders(bytes in vec(any::<u8>(), 0..300)) {
        fuzz_session(&bytes);
        fuzz_frame(&bytes);
    }

    #[test]
    fn what_is_decoded_is_encoded_as_the_same(frame in client_frame(), ack in any::<u64>()) {
        fuzz_frame(&ClientFrame { ack, frame: Some(frame) }.encode_to_vec());
    }
}
