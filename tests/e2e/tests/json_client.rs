//! A client of another make: Python's `websockets`, on the JSON mapping and proto/README.md alone.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use tandem_e2e_tests::{Up, python};

fn scenario(name: &str) {
    let up = Up::start(&[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python())
        .arg(root.join("tests/json_client.py"))
        .args([name, &up.port.to_string()])
        .arg(root.join("../../proto/README.md"))
        .stdin(Stdio::null())
        .output()
        .expect("python starts");
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_example_of_the_protocol_page_works_as_it_is_written() {
    scenario("page");
}

#[test]
fn every_body_and_request_of_the_protocol_page_works_by_its_name() {
    scenario("bodies");
}

#[test]
fn two_people_and_a_device_that_comes_later_show_the_same_in_the_same_order() {
    scenario("talk");
}

#[test]
fn a_broken_session_goes_on_where_it_broke_and_an_ended_one_does_not() {
    scenario("resume");
}

#[test]
fn what_is_not_the_json_mapping_is_refused_and_the_connection_closed() {
    scenario("strict");
}
