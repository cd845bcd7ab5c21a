//! The program as those meet it who start, configure and script it.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_e2e_tests::{Process, Up, device::PATIENCE, free_port, run, wait_for};

/// EX_USAGE of sysexits.h.
const USAGE: Option<i32> = Some(64);

fn object(output: &str) -> Value {
    serde_json::from_str(output).unwrap_or_else(|e| panic!("one JSON object: {e}: {output:?}"))
}

#[test]
fn the_config_is_shown_with_where_each_value_came_from_and_secrets_masked() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tandem.toml");
    // the 32 octets 1, 2, 3, …
    let secret = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA";
    fs::write(
        &file,
        format!(
            "[push]\nvapid_private_key = \"{secret}\"\nvapid_subject = \"mailto:ops@example.org\"\n\
             [edge]\nresume_ms = 1234\nevents_per_s = 1\nheartbeat_ms = 1\n"
        ),
    )
    .expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let args = [
        "config",
        "show",
        "--config",
        path,
        "--set",
        "edge.heartbeat_ms=9999",
    ];
    let env = [
        ("TANDEM__EDGE__EVENTS_PER_S", "77"),
        ("TANDEM__EDGE__HEARTBEAT_MS", "2"),
    ];
    let (code, output, errors) = run(&args, &env);
    assert_eq!(code, Some(0), "{errors}");
    let line = |key: &str| {
        let key = format!("{key} = ");
        let mut found = output.lines().filter(|l| l.starts_with(&key));
        let line = found.next().unwrap_or_else(|| panic!("{key}: {output}"));
        assert_eq!(found.next(), None);
        line
    };
    assert_eq!(
        line("edge.resume_ms"),
        format!("edge.resume_ms = 1234  # file {path}")
    );
    // the environment wins over the file, and the flag over both
    assert_eq!(
        line("edge.events_per_s"),
        "edge.events_per_s = 77  # env TANDEM__EDGE__EVENTS_PER_S"
    );
    assert_eq!(
        line("edge.heartbeat_ms"),
        "edge.heartbeat_ms = 9999  # flag"
    );
    assert_eq!(line("push.window_ms"), "push.window_ms = 5000  # default");
    let masked = line("push.vapid_private_key");
    assert!(masked.ends_with(&format!("# file {path}")), "{masked}");
    assert!(!output.contains(secret) && !errors.contains(secret));
    for section in [
        "accounts",
        "edge",
        "history",
        "lifecycle",
        "presence",
        "push",
        "routing",
        "telemetry",
    ] {
        let prefix = format!("{section}.");
        assert!(output.lines().any(|l| l.starts_with(&prefix)), "{section}");
    }
}

#[test]
fn a_config_that_is_wrong_is_refused_before_anything_else_and_names_the_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let data_dir = data.to_str().expect("a path in UTF-8");
    let env = |name, value| Vec::from([(name, value)]);
    let file = dir.path().join("tandem.toml");
    fs::write(&file, "[psh]\nwindow_ms = 5\n").expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    /// Flags, the environment, and what the refusal names.
    type Case<'a> = (&'a [&'a str], Vec<(&'a str, &'a str)>, &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        (
            &["--set", "edge.resume_m=1"],
            Vec::new(),
            &["edge.resume_m", "flag", "did you mean edge.resume_ms?"],
        ),
        (
            &[],
            env("TANDEM__PUSH__WINDOW", "1"),
            &[
                "push.window",
                "TANDEM__PUSH__WINDOW",
                "did you mean push.window_ms?",
            ],
        ),
        (
            &["--config", path],
            Vec::new(),
            &["psh", path, "did you mean push?"],
        ),
        (
            &["--set", "edge.resume_ms=soon"],
            Vec::new(),
            &["edge.resume_ms", "flag"],
        ),
        (
            &["--set", "routing.partitions=0"],
            Vec::new(),
            &["routing.partitions", "1 to 4096"],
        ),
        (
            &["--config", "/nowhere/at-all.toml"],
            Vec::new(),
            &["/nowhere/at-all.toml"],
        ),
    ];
    for (args, env, named) in cases {
        for command in [
            &["config", "show"][..],
            &["config", "check"],
            &["up", "--listen", "127.0.0.1:0", "--data-dir", data_dir],
        ] {
            let all: Vec<_> = command.iter().chain(args).copied().collect();
            let (code, output, errors) = run(&all, &env);
            assert_eq!(code, USAGE, "{all:?} {env:?}: {errors}");
            assert_eq!(output, "", "{all:?}");
            for part in named {
                assert!(errors.contains(part), "{all:?}: {part} is not in: {errors}");
            }
        }
    }
    assert!(!data.exists(), "nothing was begun");
    let (code, output, _) = run(&["config", "check"], &[]);
    assert_eq!((code, output.as_str()), (Some(0), "config is good\n"));
}

#[test]
fn a_second_up_on_the_same_folder_or_port_is_refused_clearly_and_harms_nothing() {
    let up = Up::start(&[]);
    let data = up.data_dir();
    let data_dir = data.to_str().expect("a path in UTF-8");
    let (code, _, errors) = run(
        &["up", "--listen", "127.0.0.1:0", "--data-dir", data_dir],
        &[],
    );
    assert_eq!(code, Some(1));
    assert!(errors.contains(data_dir), "{errors}");
    assert!(errors.contains("in use by another process"), "{errors}");

    let other = tempfile::tempdir().expect("a folder");
    let other_dir = other.path().join("data");
    let listen = format!("127.0.0.1:{}", up.port);
    let args = [
        "up",
        "--listen",
        &listen,
        "--data-dir",
        other_dir.to_str().expect("a path in UTF-8"),
    ];
    let (code, _, errors) = run(&args, &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains(&listen), "{errors}");
    assert!(errors.contains("in use"), "{errors}");

    // the first one goes on
    let (code, _, errors) = up.run(&["send", "--as", "alice", "--to", "bob", "still here?"]);
    assert_eq!(code, Some(0), "{errors}");
    // a folder that is none
    let file = other.path().join("file");
    fs::write(&file, "").expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let (code, _, errors) = run(&["up", "--listen", "127.0.0.1:0", "--data-dir", path], &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains(path), "{errors}");
}

#[test]
fn it_says_where_it_is_and_how_to_talk_and_shows_its_health() {
    let begin = Instant::now();
    let up = Up::start(&[]);
    let first = begin.elapsed();
    let mut up = up;
    up.run(&["send", "--as", "alice", "--to", "bob", "zanzibar"]);
    let said = wait_for("the greeting is there", PATIENCE, || {
        let log = up.log();
        log.contains("stop with").then_some(log)
    });
    for part in [
        &format!("tandem is up on 127.0.0.1:{}", up.port),
        up.data_dir().to_str().expect("a path in UTF-8"),
        &format!("chat --as alice --server {}", up.url()),
        &format!("{}/v1/connect", up.url()),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let get = |path: &str| {
        let answer = up.http("GET", path, "").expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let status = head.lines().next().expect("a status");
        (status.to_owned(), body.to_owned())
    };
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(path).0, "HTTP/1.1 200 OK", "{path}");
    }
    let metrics = get("/metrics").1;
    for name in [
        "tandem_accounts_",
        "tandem_edge_",
        "tandem_history_",
        "tandem_log_",
        "tandem_presence_",
        "tandem_push_",
        "tandem_routing_",
        "tandem_store_",
    ] {
        assert!(metrics.lines().any(|l| l.starts_with(name)), "{name}");
    }
    assert!(up.metric("tandem_routing_admitted_total", &[]) >= 1.0);
    for private in ["alice", "zanzibar"] {
        let line = metrics.lines().find(|l| l.contains(private));
        assert_eq!(line, None, "{private}");
    }
    let info = object(&get("/dev/info").1);
    assert_eq!(info["pid"], up.pid());
    assert_eq!(info["domain"], "tandem.test");
    // what only tests may do is not there unasked
    let hook = up.http("POST", "/dev/history/pause", "");
    assert!(hook.expect("an answer").starts_with("HTTP/1.1 404"));
    assert_eq!(up.stop(), Some(0), "{}", up.log());
    let begin = Instant::now();
    up.restart();
    let again = begin.elapsed();
    // the promise is 2 s on a quiet machine, release build; a test's machine is not quiet
    eprintln!("ready after {first:?} on an empty folder, {again:?} on one with data");
}

#[test]
fn it_starts_wherever_an_earlier_start_was_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().join("data");
    let listen = format!("127.0.0.1:{}", free_port());
    let args = [
        "up",
        "--listen",
        &listen,
        "--data-dir",
        data_dir.to_str().expect("a path in UTF-8"),
    ];
    let url = format!("ws://{listen}");
    let send = |text: &str| {
        run(
            &["send", "--json", "--as", "alice", "--to", "bob", text],
            &[("TANDEM_SERVER", &url)],
        )
    };
    let ready = |up: &mut Process| {
        wait_for("it is up", PATIENCE, || {
            assert_eq!(up.ended(), None, "{}", up.errors());
            up.output().contains("tandem is up on").then_some(())
        });
    };
    let mut seqs = Vec::new();
    // cut off ever later, on ever more data: at first there is none at all
    for ms in [1, 5, 10, 20, 35, 50, 75, 100, 140, 180, 240, 320, 450, 600] {
        let mut up = Process::start(&args, &[]);
        std::thread::sleep(Duration::from_millis(ms));
        assert_eq!(up.ended(), None, "after {ms} ms: {}", up.errors());
        up.kill();
        if ms % 20 == 0 {
            let mut up = Process::start(&args, &[]);
            ready(&mut up);
            let (code, output, errors) = send("once more");
            assert_eq!(code, Some(0), "after {ms} ms: {errors}");
            seqs.push(object(&output)["seq"].as_str().expect("a text").to_owned());
            up.kill();
        }
    }
    let mut up = Process::start(&args, &[]);
    ready(&mut up);
    let back = Process::start(
        &["chat", "--as", "bob", "--plain"],
        &[("TANDEM_SERVER", &url)],
    );
    wait_for("bob has what was said in between", PATIENCE, || {
        let output = back.output();
        let said = output.lines().filter(|l| l.ends_with("alice: once more"));
        (output.contains("* synced") && said.count() == seqs.len()).then_some(())
    });
    let mut sorted = seqs.clone();
    sorted.sort_by_key(|s| s.parse::<u64>().expect("a number"));
    sorted.dedup();
    assert_eq!(sorted, seqs, "places only grow");
    for (who, state) in [
        ("alice@tandem.test", "active"),
        ("dan@tandem.test", "active"),
    ] {
        let (code, output, errors) = run(
            &["accounts", "show", "--json", who],
            &[("TANDEM_SERVER", &url)],
        );
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(object(&output)["state"], state);
    }
}

#[test]
fn accounts_are_set_shown_connected_and_closed_by_scripts() {
    let up = Up::start(&[]);
    let accounts = |args: &[&str]| {
        let all: Vec<_> = ["accounts"].iter().chain(args).copied().collect();
        up.run(&all)
    };
    let set = [
        "set",
        "zoe@tandem.test",
        "--name",
        "Zoé",
        "--phone",
        "06 12 34 56 99",
        "--country",
        "FR",
        "--json",
    ];
    let (code, output, errors) = accounts(&set);
    assert_eq!(code, Some(0), "{errors}");
    let zoe = object(&output);
    assert_eq!(zoe["phone"], "+33612345699", "{zoe}");
    // what is not given stays
    let (_, output, _) = accounts(&["set", "zoe@tandem.test", "--name", "Z", "--json"]);
    let renamed = object(&output);
    assert_eq!(renamed["name"], "Z");
    assert_eq!(renamed["phone"], "+33612345699");
    for who in ["zoe@tandem.test", "+33 6 12 34 56 99"] {
        let (code, output, errors) = accounts(&["show", who, "--json"]);
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(object(&output), renamed, "{who}");
        let (code, output, _) = accounts(&["show", who]);
        assert_eq!(code, Some(0));
        assert!(output.contains("+33612345699"), "{output}");
    }
    let (code, _, errors) = accounts(&["show", "nobody@tandem.test"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("nobody@tandem.test") || errors.contains("no such"),
        "{errors}"
    );
    let (code, _, errors) = accounts(&["set", "yan@tandem.test", "--phone", "12"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("phone"), "{errors}");

    // contacts: what bob says to zoe is no request
    let (code, output, errors) =
        accounts(&["connect", "zoe@tandem.test", "bob@tandem.test", "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(
        object(&output),
        json!({"a": "zoe@tandem.test", "b": "bob@tandem.test"})
    );

    let (code, output, errors) = accounts(&["close", "zoe@tandem.test", "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(object(&output)["state"], "closed");
    let (code, _, errors) = up.run(&["send", "--as", "zoe", "--to", "bob", "am I here?"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("no_account"), "{errors}");

    let (code, _, errors) = run(
        &[
            "accounts",
            "show",
            "alice@tandem.test",
            "--server",
            "ws://127.0.0.1:1",
        ],
        &[],
    );
    assert_eq!(code, Some(1), "nobody listens there");
    assert!(!errors.is_empty());
}

#[test]
fn an_import_does_what_is_right_and_tells_the_lines_that_are_not() {
    let up = Up::start(&[]);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("people.jsonl");
    let lines = [
        r#"{"user":"one@tandem.test","name":"One","phone":"+44 7700 900101"}"#,
        "",
        r#"{"user":"no address"}"#,
        "this is no JSON",
        r#"{"user":"two@tandem.test","nme":"Two"}"#,
        r#"{"user":"three@tandem.test","name":"Drei","country":"DE"}"#,
    ];
    fs::write(&file, lines.join("\n")).expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let (code, output, errors) = up.run(&["accounts", "import", path, "--json"]);
    assert_eq!(code, Some(1), "some lines were refused");
    assert_eq!(object(&output), json!({"imported": 2, "refused": 3}));
    for line in 1..=lines.len() {
        let told = errors.contains(&format!("{path}:{line}:"));
        assert_eq!(told, (3..=5).contains(&line), "{line}: {errors}");
    }
    assert!(errors.contains("nme"), "{errors}");
    for (who, name) in [("one", "One"), ("three", "Drei")] {
        let (_, output, _) = up.run(&["accounts", "show", "--json", &format!("{who}@tandem.test")]);
        assert_eq!(object(&output)["name"], name);
    }
    let (code, ..) = up.run(&["accounts", "show", "two@tandem.test"]);
    assert_eq!(code, Some(1));
    // the same again, without the bad lines, changes nothing and is well
    fs::write(&file, [lines[0], lines[5]].join("\n")).expect("a file");
    let version = |who: &str| {
        let (_, output, _) = up.run(&["accounts", "show", "--json", who]);
        object(&output)["version"].clone()
    };
    let before = version("one@tandem.test");
    let (code, output, errors) = up.run(&["accounts", "import", path, "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(object(&output), json!({"imported": 2, "refused": 0}));
    assert_eq!(version("one@tandem.test"), before);
    let (code, _, errors) = up.run(&["accounts", "import", "/nowhere/at-all", "--json"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nowhere/at-all"), "{errors}");
}

#[test]
fn send_and_token_answer_scripts_in_json_and_in_exit_codes() {
    let up = Up::start(&[]);
    let (code, output, errors) = up.run(&[
        "send",
        "--json",
        "--as",
        "alice",
        "--to",
        "bob",
        "for scripts",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    let first = object(&output);
    let here = "o:alice@tandem.test,bob@tandem.test";
    assert_eq!(first["conversation"], here);
    let seq = |answer: &Value| {
        let seq = answer["seq"].as_str().expect("64 bits as text");
        seq.parse::<u64>().expect("a number")
    };
    // by a token from a file, to a conversation by its id
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    let (code, output, errors) = up.run(&["token", "--as", "bob"]);
    assert_eq!(code, Some(0), "{errors}");
    fs::write(&file, &output).expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let (code, output, errors) = up.run(&[
        "send",
        "--json",
        "--token-file",
        path,
        "--to",
        here,
        "an answer",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(seq(&object(&output)) > seq(&first));

    let (code, output, _) = up.run(&["token", "--as", "alice", "--ttl", "60", "--json"]);
    assert_eq!(code, Some(0));
    let token = object(&output);
    let parts = token["token"].as_str().expect("a text").split('.').count();
    assert_eq!(parts, 3, "{token}");
    assert!(token["expires_at_ms"].is_i64(), "{token}");

    let refused = |args: &[&str], said: &str| {
        let (code, output, errors) = up.run(args);
        assert_eq!(code, Some(1), "{args:?}: {errors}");
        assert_eq!(output, "", "{args:?}");
        assert!(errors.contains(said), "{args:?}: {errors}");
    };
    let long = "x".repeat(20_000);
    refused(
        &["send", "--as", "alice", "--to", "bob", &long],
        "too_large",
    );
    refused(
        &["send", "--as", "alice", "--to", "nobody-here", "hi"],
        "not_found",
    );
    refused(&["token", "--as", "not an address"], "local part");
    fs::write(&file, "not.a.token").expect("a file");
    refused(
        &["send", "--token-file", path, "--to", "bob", "hi"],
        "token_invalid",
    );
    let (code, _, errors) = run(
        &[
            "send",
            "--as",
            "alice",
            "--to",
            "bob",
            "hi",
            "--server",
            "nonsense://x",
        ],
        &[],
    );
    assert_eq!(code, USAGE, "{errors}");
}
