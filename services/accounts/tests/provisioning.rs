//! The provisioning API, sign-in, finding people and push tokens.

mod common;

use std::sync::atomic::Ordering;

use common::{Suite, at, code, config, person};
use tandem_accounts::Config;
use tandem_kernel::Code;
use tandem_proto::{
    accounts::{
        Account, CloseRequest, FindRequest, GetRequest, ImportResult, SetPushTokenRequest,
        SignInRequest, UpsertRequest, account, import_result::Result as Imported,
    },
    client::{PushToken, WebPush, push_token::Channel},
};
use tonic::Status;

async fn get(suite: &Suite, who: &str) -> Result<Account, Status> {
    let request = GetRequest {
        who: who.to_owned(),
    };
    suite
        .provisioning
        .clone()
        .get(request)
        .await
        .map(tonic::Response::into_inner)
}

fn with_phone(name: &str, phone: &str) -> UpsertRequest {
    UpsertRequest {
        phone: Some(phone.to_owned()),
        ..person(name)
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_upsert_again_changes_nothing() {
    let suite = Suite::start().await;
    let request = with_phone("alice", "+44 7700 900123");
    let once = suite.upsert(request.clone()).await.unwrap();
    assert_eq!(once.phone, "+447700900123");
    assert_eq!(suite.upsert(request).await.unwrap(), once);
    assert_eq!(suite.records("alice").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_account_is_read_by_address_and_by_number_in_any_form() {
    let suite = Suite::start().await;
    let account = suite
        .upsert(with_phone("alice", "0044 7700 900123"))
        .await
        .unwrap();
    for who in [
        "ALICE@x.test",
        "+447700900123",
        "+44 (0)7700 900123",
        "0044-7700-900123",
    ] {
        assert_eq!(get(&suite, who).await.unwrap(), account, "{who}");
    }
    assert_eq!(code(get(&suite, "bob@x.test").await), Code::NoAccount);
    assert_eq!(code(get(&suite, "+44 7700 900999").await), Code::NotFound);
    assert_eq!(
        code(get(&suite, "07700 900123").await),
        Code::InvalidArgument
    );
}

#[tokio::test(start_paused = true)]
async fn a_number_is_one_subscribers_and_is_free_again_once_given_up() {
    let suite = Suite::start().await;
    suite
        .upsert(with_phone("alice", "+447700900123"))
        .await
        .unwrap();
    assert_eq!(
        code(suite.upsert(with_phone("bob", "+447700900123")).await),
        Code::Conflict
    );
    assert_eq!(code(get(&suite, "bob@x.test").await), Code::NoAccount);
    suite
        .upsert(with_phone("alice", "+447700900124"))
        .await
        .unwrap();
    suite
        .upsert(with_phone("bob", "+447700900123"))
        .await
        .unwrap();
    assert_eq!(get(&suite, "+447700900123").await.unwrap().user, at("bob"));
    assert_eq!(
        get(&suite, "+447700900124").await.unwrap().user,
        at("alice")
    );
    suite.upsert(with_phone("bob", "")).await.unwrap();
    assert_eq!(code(get(&suite, "+447700900123").await), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn of_many_who_want_a_number_exactly_one_gets_it() {
    let suite = Suite::start().await;
    let names: Vec<String> = (0..16).map(|n| format!("user{n}")).collect();
    let want = names
        .iter()
        .map(|name| suite.upsert(with_phone(name, "+447700900123")));
    let results = futures::future::join_all(want).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    let winner = results.into_iter().flatten().next().unwrap();
    assert_eq!(get(&suite, "+447700900123").await.unwrap(), winner);
}

#[tokio::test(start_paused = true)]
async fn a_number_of_a_closed_account_can_be_taken() {
    let suite = Suite::start().await;
    suite
        .upsert(with_phone("alice", "+447700900123"))
        .await
        .unwrap();
    let request = CloseRequest { user: at("alice") };
    let closed = suite
        .provisioning
        .clone()
        .close(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(closed.state(), account::State::Closed);
    suite
        .upsert(with_phone("bob", "+447700900123"))
        .await
        .unwrap();
    suite.drained().await;
    assert_eq!(get(&suite, "+447700900123").await.unwrap().user, at("bob"));
    assert_eq!(
        get(&suite, "alice@x.test").await.unwrap().state(),
        account::State::Closed
    );
    assert_eq!(code(suite.upsert(person("alice")).await), Code::Conflict);
}

#[tokio::test(start_paused = true)]
async fn an_import_answers_in_order_and_a_bad_row_stops_nothing() {
    let suite = Suite::start().await;
    let mut rows: Vec<UpsertRequest> = (0..300).map(|n| person(&format!("user{n}"))).collect();
    rows[7].user = "no address".to_owned();
    rows[8].phone = Some("12".to_owned());
    rows[9].country = Some("XX".to_owned());
    // of the same subscriber the later row counts
    rows[100] = UpsertRequest {
        name: Some("first".to_owned()),
        ..person("twice")
    };
    rows[101] = UpsertRequest {
        name: Some("second".to_owned()),
        ..person("TWICE")
    };
    let stream = futures::stream::iter(rows);
    let mut answers = suite
        .provisioning
        .clone()
        .import(stream)
        .await
        .unwrap()
        .into_inner();
    let mut results: Vec<ImportResult> = Vec::new();
    while let Some(result) = answers.message().await.unwrap() {
        results.push(result);
    }
    assert!(results.iter().map(|r| r.index).eq(0..300));
    let bad: Vec<(u64, String)> = results
        .iter()
        .filter_map(|r| match &r.result {
            Some(Imported::Problem(p)) => Some((r.index, p.code.clone())),
            _ => None,
        })
        .collect();
    let invalid = || "invalid_argument".to_owned();
    assert_eq!(bad, [(7, invalid()), (8, invalid()), (9, invalid())]);
    assert_eq!(get(&suite, "user299@x.test").await.unwrap().version, 1);
    assert_eq!(get(&suite, "twice@x.test").await.unwrap().name, "second");
}

fn claims(name: &str) -> SignInRequest {
    SignInRequest {
        user: at(name),
        ..SignInRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_sign_in_creates_the_account_and_later_ones_take_over_what_changed() {
    let suite = Suite::start().await;
    let mut accounts = suite.accounts.clone();
    let first = SignInRequest {
        name: "Alice".to_owned(),
        country: "gb".to_owned(),
        ..claims("alice")
    };
    let answer = accounts.sign_in(first.clone()).await.unwrap().into_inner();
    assert_eq!(answer.entitlements, ["pc", "mobile", "portal"]);
    assert_eq!(answer.brand.unwrap().name, "Tandem");
    let account = answer.account.unwrap();
    assert_eq!(
        (account.name.as_str(), account.country.as_str()),
        ("Alice", "GB")
    );
    let again = accounts
        .sign_in(first)
        .await
        .unwrap()
        .into_inner()
        .account
        .unwrap();
    assert_eq!(again, account);
    // an empty claim takes nothing away
    let moved = SignInRequest {
        phone: "07700 900123".to_owned(),
        ..claims("alice")
    };
    let moved = accounts
        .sign_in(moved)
        .await
        .unwrap()
        .into_inner()
        .account
        .unwrap();
    assert_eq!(
        (moved.name.as_str(), moved.phone.as_str()),
        ("Alice", "+447700900123")
    );
    assert_eq!(moved.version, account.version + 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_account_nobody_signs_in_where_none_is_created() {
    let suite = Suite::with(Config {
        create_on_sign_in: false,
        ..config()
    })
    .await;
    let mut accounts = suite.accounts.clone();
    assert_eq!(
        code(accounts.sign_in(claims("alice")).await),
        Code::NoAccount
    );
    suite.people(&["alice"]).await;
    accounts.sign_in(claims("alice")).await.unwrap();
    suite
        .provisioning
        .clone()
        .close(CloseRequest { user: at("alice") })
        .await
        .unwrap();
    assert_eq!(
        code(accounts.sign_in(claims("alice")).await),
        Code::NoAccount
    );
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_anothers_or_none_keeps_nobody_out() {
    let suite = Suite::start().await;
    suite
        .upsert(with_phone("bob", "+447700900123"))
        .await
        .unwrap();
    for phone in ["+447700900123", "12"] {
        let claims = SignInRequest {
            phone: phone.to_owned(),
            email: "a@b.test".to_owned(),
            ..claims("alice")
        };
        let answer = suite
            .accounts
            .clone()
            .sign_in(claims)
            .await
            .unwrap()
            .into_inner();
        let account = answer.account.unwrap();
        assert_eq!(
            (account.phone.as_str(), account.email.as_str()),
            ("", "a@b.test")
        );
    }
    assert_eq!(get(&suite, "+447700900123").await.unwrap().user, at("bob"));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_not_offered_is_refused_with_its_name() {
    let suite = Suite::start().await;
    let refused = SignInRequest {
        plan: "gold".to_owned(),
        ..claims("alice")
    };
    let refused = suite.accounts.clone().sign_in(refused).await;
    assert!(refused.as_ref().unwrap_err().message().contains("gold"));
    assert_eq!(code(refused), Code::NotEntitled);
}

#[tokio::test(start_paused = true)]
async fn people_are_found_by_address_and_number() {
    let suite = Suite::start().await;
    let british = UpsertRequest {
        country: Some("GB".to_owned()),
        ..person("alice")
    };
    suite.upsert(british).await.unwrap();
    suite
        .upsert(with_phone("bob", "+447700900123"))
        .await
        .unwrap();
    let find = |who: &str| {
        let request = FindRequest {
            viewer: at("alice"),
            who: who.to_owned(),
        };
        let mut accounts = suite.accounts.clone();
        async move { accounts.find(request).await.map(|r| r.into_inner().user) }
    };
    assert_eq!(find("bob@x.test").await.unwrap(), at("bob"));
    assert_eq!(find("07700 900123").await.unwrap(), at("bob"));
    assert_eq!(code(find("ghost@x.test").await), Code::NotFound);
    assert_eq!(code(find("+447700900999").await), Code::NotFound);
}

fn token(n: u8) -> PushToken {
    let web_push = WebPush {
        endpoint: format!("https://push.example/{n}"),
        p256dh: [&[4], &[n; 64][..]].concat(),
        auth: vec![n; 16],
    };
    PushToken {
        channel: Some(Channel::WebPush(web_push)),
        hide_text: false,
    }
}

async fn set(
    suite: &Suite,
    device: &str,
    token: Option<PushToken>,
    only_if: Option<PushToken>,
) -> Result<(), Status> {
    let device = device.to_owned();
    let request = SetPushTokenRequest {
        user: at("alice"),
        device,
        token,
        only_if,
    };
    suite
        .accounts
        .clone()
        .set_push_token(request)
        .await
        .map(|_| ())
}

async fn targets(suite: &Suite) -> Vec<(String, Option<PushToken>)> {
    let targets = suite.push_targets(&["alice", "bob"]).await.into_iter();
    targets.map(|t| (t.device, t.token)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_that_was_replaced_stays() {
    let suite = Suite::start().await;
    suite.people(&["alice"]).await;
    set(&suite, "phone", Some(token(1)), None).await.unwrap();
    set(&suite, "phone", Some(token(2)), None).await.unwrap();
    set(&suite, "phone", None, Some(token(1))).await.unwrap();
    assert_eq!(
        targets(&suite).await,
        [("phone".to_owned(), Some(token(2)))]
    );
    set(&suite, "phone", None, Some(token(2))).await.unwrap();
    assert_eq!(targets(&suite).await, []);
    set(&suite, "phone", Some(token(3)), None).await.unwrap();
    set(&suite, "phone", None, None).await.unwrap();
    assert_eq!(targets(&suite).await, []);
}

#[tokio::test(start_paused = true)]
async fn one_device_too_many_takes_the_place_of_the_oldest() {
    let suite = Suite::with(Config {
        max_devices: 2,
        ..config()
    })
    .await;
    suite.people(&["alice"]).await;
    for (n, device) in ["c", "b", "a"].into_iter().enumerate() {
        set(&suite, device, Some(token(n as u8)), None)
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let devices: Vec<String> = targets(&suite).await.into_iter().map(|(d, _)| d).collect();
    assert_eq!(devices, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_needs_an_account_and_goes_with_it() {
    let suite = Suite::start().await;
    assert_eq!(
        code(set(&suite, "phone", Some(token(1)), None).await),
        Code::NoAccount
    );
    suite.people(&["alice"]).await;
    assert_eq!(
        code(set(&suite, "ph one", Some(token(1)), None).await),
        Code::InvalidArgument
    );
    let nothing = Some(PushToken::default());
    assert_eq!(
        code(set(&suite, "phone", nothing, None).await),
        Code::InvalidArgument
    );
    set(&suite, "phone", Some(token(1)), None).await.unwrap();
    suite
        .provisioning
        .clone()
        .close(CloseRequest { user: at("alice") })
        .await
        .unwrap();
    assert_eq!(targets(&suite).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_upsert_that_was_not_told_is_told_later_so_that_nobody_keeps_the_old() {
    let suite = Suite::start().await;
    suite.people(&["alice"]).await;
    suite.log.refuse_appends.store(true, Ordering::SeqCst);
    let renamed = UpsertRequest {
        name: Some("Al".to_owned()),
        ..person("alice")
    };
    assert_eq!(code(suite.upsert(renamed.clone()).await), Code::Unavailable);
    suite.log.refuse_appends.store(false, Ordering::SeqCst);
    let account = suite.upsert(renamed).await.unwrap();
    common::eventually("the new version is told", || async {
        suite
            .records("alice")
            .await
            .last()
            .is_some_and(|r| r.version == account.version)
    })
    .await;
}
