//! Events and questions that are not the sender's to send or ask.

use prost::Message as _;
use tandem_e2e_tests::{Up, device::between};
use tandem_kernel::Code;
use tandem_proto::client::{
    Body, Delete, Edit, GroupCreate, MembersAdd, MembersRequest, PageRequest, Reaction, Read,
    Receipt, Received, Submit, Text, TitleSet, Typing, body::Kind, client_frame::Frame,
    request::Op, response,
};
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{Bystanders, Raw, refused, submit, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_text_or_event_as_it_must_not_be_is_rejected_and_the_session_goes_on() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let (mut dan, welcome) = Raw::open(&up, "dan", "pc", false).await;
    let most = welcome.limits.unwrap().text_bytes as usize;
    let with = |change: &dyn Fn(&mut Submit)| {
        let mut s = submit("alice", text("x"));
        change(&mut s);
        s
    };
    let cases = [
        (submit("alice", text("x".repeat(most + 1))), Code::TooLarge),
        (submit("alice", text("")), Code::InvalidArgument),
        (submit("dan", text("to oneself")), Code::InvalidArgument),
        (submit("nobody-here", text("x")), Code::NotFound),
        (submit("o:", text("x")), Code::InvalidArgument),
        (with(&|s| s.to = "no address".into()), Code::InvalidArgument),
        (with(&|s| s.body = None), Code::InvalidArgument),
        (
            with(&|s| s.body = Some(Body::default())),
            Code::InvalidArgument,
        ),
        (
            with(&|s| s.event_id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into()),
            Code::InvalidArgument,
        ),
        (
            with(&|s| s.event_id = "x".repeat(30)),
            Code::InvalidArgument,
        ),
        (
            with(&|s| s.conversation = between("alice", "dan")),
            Code::InvalidArgument,
        ),
        (
            submit("alice", Kind::TitleSet(TitleSet { title: "x".into() })),
            Code::InvalidArgument,
        ),
        (
            submit(
                "g:00000000-0000-4000-8000-000000000001@elsewhere.test",
                Kind::GroupCreate(GroupCreate {
                    title: "x".into(),
                    members: vec!["bob@tandem.test".into()],
                }),
            ),
            Code::Forbidden,
        ),
    ];
    for (event, code) in cases {
        let before = refused(&up, code);
        let what = format!("{event:.200?}");
        let rejected = dan.answer(event).await.expect_err(&what);
        assert_eq!(rejected.code, code.as_str(), "{what}");
        assert_eq!(refused(&up, code), before + 1.0, "{what} is counted");
    }
    let exactly = dan.answer(submit("alice", text("x".repeat(most)))).await;
    exactly.expect("the limit itself is within the limit");
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_to_or_reads_or_moves_a_conversation_of_others() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    others.still_talk().await;
    let here = between("alice", "bob");
    let (group, created) = others
        .alice
        .client
        .create_group("ours", vec!["bob@tandem.test".into()])
        .unwrap();
    created.outcome().await.unwrap();
    let secret = others.alice.say(&group, "for the two of us").await;

    let (mut dan, _) = Raw::open(&up, "dan", "pc", false).await;
    let receipt = Kind::Receipt(Receipt {
        read: secret,
        ..Receipt::default()
    });
    let add = Kind::MembersAdd(MembersAdd {
        members: vec!["dan@tandem.test".into()],
    });
    let again = Kind::GroupCreate(GroupCreate {
        title: "mine".into(),
        members: vec!["alice@tandem.test".into()],
    });
    let nowhere = "g:00000000-0000-4000-8000-000000000001@tandem.test";
    let cases = [
        (submit(&here, text("hi")), Code::NotAMember),
        (submit(&group, text("hi")), Code::NotAMember),
        (submit(nowhere, text("hi")), Code::NotAMember),
        (submit(&group, add), Code::NotAMember),
        (submit(&group, again), Code::NotAMember),
        (submit(&here, receipt.clone()), Code::InvalidArgument),
        (submit(&group, receipt), Code::InvalidArgument),
    ];
    for (event, code) in cases {
        let before = refused(&up, code);
        let what = format!("{event:.200?}");
        let rejected = dan.answer(event).await.expect_err(&what);
        assert_eq!(rejected.code, code.as_str(), "{what}");
        assert_eq!(refused(&up, code), before + 1.0, "{what} is counted");
    }
    let page = |conversation: &str| {
        Op::Page(PageRequest {
            conversation: conversation.to_owned(),
            ..PageRequest::default()
        })
    };
    let members = Op::Members(MembersRequest {
        conversation: group.clone(),
    });
    let before = refused(&up, Code::NotAMember);
    for (i, op) in [page(&here), page(&group), page(nowhere), members]
        .into_iter()
        .enumerate()
    {
        let problem = dan.ask(i as u64, op).await.unwrap_err();
        assert_eq!(problem.code, Code::NotAMember.as_str());
    }
    assert_eq!(refused(&up, Code::NotAMember), before + 4.0);
    // what has no answer has no effect
    for conversation in [&here, &group] {
        let conversation = conversation.clone();
        let (seq, all) = (u64::MAX, (0..300).collect());
        for frame in [
            Frame::Read(Read {
                conversation: conversation.clone(),
                seq,
            }),
            Frame::Received(Received {
                conversation: conversation.clone(),
                seq,
                exact: false,
                seqs: vec![],
            }),
            Frame::Received(Received {
                conversation: conversation.clone(),
                seq,
                exact: true,
                seqs: all,
            }),
            Frame::Typing(Typing {
                conversation,
                active: true,
            }),
        ] {
            dan.send(frame).await;
        }
    }
    dan.answer(submit("alice", text("over"))).await.unwrap();
    others.still_talk().await;
    let dans = |core: &tandem_client::Core| {
        let marks = |c: &str| {
            core.conversation(c)
                .map(|c| format!("{c:?}"))
                .unwrap_or_default()
        };
        marks(&here).contains("dan@") || marks(&group).contains("dan@")
    };
    for device in [&others.alice, &others.bob] {
        assert!(!device.client.look(dans), "dan left a trace");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_is_who_the_token_says_whatever_the_frame_says() {
    let up = Up::start(&[]);
    let others = Bystanders::new(&up).await;
    let (mut alice, _) = Raw::open(&up, "alice", "raw", false).await;
    let (mut dan, _) = Raw::open(&up, "dan", "pc", false).await;

    // fields that an event has and a submit has not, put there nevertheless
    let event = submit("alice", text("i am bob"));
    let id = event.event_id.clone();
    let mut forged = event.encode_to_vec();
    for field in 6..20_u32 {
        prost::encoding::string::encode(field, &"bob@tandem.test".to_owned(), &mut forged);
    }
    let mut frame = Vec::new();
    prost::encoding::bytes::encode(3, &forged, &mut frame);
    dan.send_message(Message::binary(frame)).await;
    let (event, said) = alice.event().await;
    assert_eq!((event.event_id, said.as_str()), (id.clone(), "i am bob"));
    assert_eq!(event.sender, "dan@tandem.test");
    assert_eq!(event.conversation, between("alice", "dan"));

    // another's event id hides nothing of theirs
    let mut copy = submit("alice", text("not the same"));
    copy.event_id.clone_from(&id);
    let (mut bob, _) = Raw::open(&up, "bob", "raw", false).await;
    bob.answer(copy)
        .await
        .expect("an id counts for its sender alone");
    let (event, said) = alice.event().await;
    assert_eq!((event.event_id, said.as_str()), (id, "not the same"));
    assert_eq!(event.sender, "bob@tandem.test");

    // what others wrote is theirs
    let (group, created) = others
        .alice
        .client
        .create_group(
            "all",
            ["bob", "dan"].map(|p| format!("{p}@tandem.test")).into(),
        )
        .unwrap();
    created.outcome().await.unwrap();
    let target = others.alice.say(&group, "mine").await;
    let edit = Kind::Edit(Edit {
        target,
        text: Some(Text {
            text: "yours".into(),
            ..Text::default()
        }),
    });
    let title = Kind::TitleSet(TitleSet {
        title: "dan's".into(),
    });
    let elsewhere = Kind::Reaction(Reaction {
        target,
        emoji: "👍".into(),
    });
    for (event, code) in [
        (submit(&group, edit), Code::Forbidden),
        (
            submit(&group, Kind::Delete(Delete { target })),
            Code::Forbidden,
        ),
        (submit(&group, title), Code::Forbidden),
        (submit(&between("bob", "dan"), elsewhere), Code::NotFound),
    ] {
        let before = refused(&up, code);
        let what = format!("{event:?}");
        let rejected = dan.answer(event).await.expect_err(&what);
        assert_eq!(rejected.code, code.as_str(), "{what}");
        assert_eq!(refused(&up, code), before + 1.0, "{what} is counted");
    }
    let page = Op::Page(PageRequest {
        conversation: group.clone(),
        ..PageRequest::default()
    });
    // history follows the log by itself
    let shown = loop {
        let Ok(response::Result::Page(page)) = dan.ask(9, page.clone()).await else {
            continue;
        };
        if let Some(event) = page.events.into_iter().find(|e| e.seq == target) {
            break event;
        }
    };
    assert_eq!(shown.folded, None, "nothing was made of it");
    assert_eq!(others.bob.shows(&group).len(), 1);
}
