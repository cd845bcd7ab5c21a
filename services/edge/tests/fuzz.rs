//! The short form of fuzzing; `cargo xtask fuzz` is the long one, by the same two functions.
#![allow(missing_docs, reason = "tests")]

use proptest::{collection::vec, prelude::*};
use prost::Message;
use tandem_edge::fuzz::{fuzz_frame, fuzz_session};
use tandem_proto::client::{
    Body, ClientFrame, Device, DeviceClass, Event, Hello, Received, ServerFrame, Submit, Text,
    body::Kind, client_frame, server_frame,
};

/// Frames to begin with: what is read is mostly one of these with a few octets changed.
fn corpus() -> Vec<Vec<u8>> {
    let client = |frame| {
        ClientFrame {
            ack: 300,
            frame: Some(frame),
        }
        .encode_to_vec()
    };
    let body = Body {
        kind: Some(Kind::Text(Text {
            text: "où ça?".into(),
            reply_to: 1 << 48,
            mentions: vec!["bob@x.test".into()],
        })),
    };
    let event = Event {
        conversation: "o:alice@x.test,bob@x.test".into(),
        seq: u64::MAX,
        body: Some(body.clone()),
        ..Event::default()
    };
    let device = Device {
        id: "pc".into(),
        class: DeviceClass::Pc.into(),
        agent: "x".into(),
    };
    let json = [
        r#"{"hello":{"token":"e","device":{"id":"a","class":"DEVICE_CLASS_PC"},"have":{"x":"7"}}}"#,
        r#"{"ack":"18446744073709551615","received":{"exact":true,"seqs":["1",2]}}"#,
        r#"{"submit":{"to":"b","body":{"edit":{"target":"9","text":{"text":"\u00e9"}}},"retry":true}}"#,
        r#"{"request":{"id":"1","pushToken":{"token":{"webPush":{"p256dh":"BA==","auth":"_-8"}}}}}"#,
    ];
    let mut corpus: Vec<_> = json.iter().map(|t| t.as_bytes().to_vec()).collect();
    corpus.push(client(client_frame::Frame::Hello(Hello {
        device: Some(device),
        have: [("c".to_owned(), 7)].into(),
        ..Hello::default()
    })));
    corpus.push(client(client_frame::Frame::Submit(Submit {
        event_id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        body: Some(body),
        ..Submit::default()
    })));
    corpus.push(client(client_frame::Frame::Received(Received {
        seqs: vec![1, 2, 1 << 40],
        exact: true,
        ..Received::default()
    })));
    corpus.push(
        ServerFrame {
            n: 7,
            frame: Some(server_frame::Frame::Event(event)),
        }
        .encode_to_vec(),
    );
    corpus
}

/// One of the corpus with some octets changed, added, removed or doubled.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..5_u8, any::<u8>());
    (prop::sample::select(corpus()), vec(change, 0..6)).prop_map(|(mut bytes, changes)| {
        for (at, how, octet) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, octet),
                1 if at < bytes.len() => bytes[at] = octet,
                2 if at < bytes.len() => bytes[at] ^= 1 << (octet % 8),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                4 => bytes.truncate(at),
                _ => bytes.extend_from_within(at.min(bytes.len())..),
            }
        }
        bytes
    })
}

/// Hello, verified, and registered, in the terms of [`fuzz_session`]'s choices: most inputs are of interest only
/// from there.
fn opened(steps: &[u8]) -> Vec<u8> {
    let hello = [0, 1, 255, 255, 0, 0, 0, 255];
    let verified = [24, 200];
    [&hello, verified.as_slice(), &[23], steps].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_input_in_any_order_breaks_an_open_session(steps in vec(any::<u8>(), 0..1_000)) {
        fuzz_session(&opened(&steps));
    }

    #[test]
    fn no_bytes_break_a_session_or_the_decoders(bytes in vec(any::<u8>(), 0..300)) {
        fuzz_session(&bytes);
        fuzz_frame(&bytes);
    }

    #[test]
    fn a_frame_with_a_few_octets_changed_is_read_as_what_it_is_or_not_at_all(bytes in changed()) {
        fuzz_frame(&bytes);
    }
}
