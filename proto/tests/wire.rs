//! A change of the protocol must not break the wire. `wire.lock` lists every field, enum value and
//! method that was ever given out, one a line. Lines may be added; a line that goes or changes must be
//! `reserved` in the .proto file by number, and then stays in the lock as it was.
//!
//! After an allowed change: `UPDATE_WIRE_LOCK=1 cargo test -p tandem-proto --test wire`.

use std::{collections::BTreeMap, fs, path::Path};

use prost_reflect::{DescriptorPool, EnumDescriptor, Kind, MessageDescriptor};

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(m) => m.full_name().to_owned(),
        Kind::Enum(e) => e.full_name().to_owned(),
        other => format!("{other:?}"),
    }
}

fn messages(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> + '_ {
    pool.all_messages()
        .filter(|m| m.package_name().starts_with("tandem."))
}

fn enums(pool: &DescriptorPool) -> impl Iterator<Item = EnumDescriptor> + '_ {
    pool.all_enums()
        .filter(|e| e.package_name().starts_with("tandem."))
}

/// Key (what it is, and its number) → the rest of its line.
fn wire(pool: &DescriptorPool) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for message in messages(pool) {
        for field in message.fields() {
            let key = format!("field {} {}", message.full_name(), field.number());
            let oneof = field
                .containing_oneof()
                .map_or(String::new(), |o| format!(" in {}", o.name()));
            let line = format!(
                "{} {:?} {}{oneof}",
                field.name(),
                field.cardinality(),
                kind(&field.kind())
            );
            lines.insert(key, line);
        }
    }
    for e in enums(pool) {
        for value in e.values() {
            lines.insert(
                format!("value {} {}", e.full_name(), value.number()),
                value.name().into(),
            );
        }
    }
    for service in pool.services() {
        for method in service.methods() {
            let stream = |is: bool| if is { "stream " } else { "" };
            let line = format!(
                "{}{} -> {}{}",
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name()
            );
            lines.insert(format!("method {}", method.full_name()), line);
        }
    }
    lines
}

fn reserved(pool: &DescriptorPool, key: &str) -> bool {
    let mut words = key.split(' ');
    let (Some(what), Some(name), number) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let Some(number) = number.and_then(|n| n.parse::<i32>().ok()) else {
        return false;
    };
    match what {
        "field" => pool
            .get_message_by_name(name)
            .is_some_and(|m| m.reserved_ranges().any(|r| r.contains(&(number as u32)))),
        "value" => pool
            .get_enum_by_name(name)
            .is_some_and(|e| e.reserved_ranges().any(|r| r.contains(&number))),
        _ => false,
    }
}

/// What of `lock` no longer holds.
fn broken(pool: &DescriptorPool, lock: &BTreeMap<String, String>) -> Vec<String> {
    let now = wire(pool);
    let holds = |(key, line): &(&String, &String)| match now.get(*key) {
        Some(current) => current == *line,
        None => reserved(pool, key),
    };
    lock.iter()
        .filter(|entry| !holds(entry))
        .map(|(key, line)| format!("{key} = {line}"))
        .collect()
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        line.split_once(" = ")
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

#[test]
fn what_was_given_out_stays() {
    let pool = DescriptorPool::decode(tandem_proto::DESCRIPTORS).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire.lock");
    let mut lock = parse(&fs::read_to_string(&path).unwrap_or_default());
    let broken = broken(&pool, &lock);
    assert!(
        broken.is_empty(),
        "the wire breaks; reserve the numbers instead:\n{}",
        broken.join("\n")
    );
    let before = lock.len();
    lock.extend(wire(&pool));
    if std::env::var_os("UPDATE_WIRE_LOCK").is_some() {
        let text: String = lock
            .iter()
            .map(|(key, line)| format!("{key} = {line}\n"))
            .collect();
        fs::write(&path, text).unwrap();
    } else {
        assert_eq!(
            before,
            lock.len(),
            "proto/wire.lock lacks new entries: see this test's first lines"
        );
    }
}

#[test]
fn a_change_that_breaks_the_wire_is_found() {
    let pool = DescriptorPool::decode(tandem_proto::DESCRIPTORS).unwrap();
    let mut lock = wire(&pool);
    let gone = "field tandem.client.v1.Submit 99".to_owned();
    lock.insert(gone.clone(), "old Optional String".into());
    let renumbered = "field tandem.client.v1.Submit 1".to_owned();
    lock.insert(renumbered.clone(), "event_id Optional Bytes".into());
    let broken = broken(&pool, &lock);
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken.iter().any(|b| b.starts_with(&gone)));
    assert!(broken.iter().any(|b| b.starts_with(&renumbered)));
}

#[test]
fn everything_on_the_wire_says_what_it_means() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tandem");
    let mut bare = Vec::new();
    for service in fs::read_dir(root).unwrap() {
        let service = service.unwrap();
        let name = service.file_name().into_string().unwrap();
        let path = service.path().join("v1").join(format!("{name}.proto"));
        let text = fs::read_to_string(&path).unwrap();
        let mut previous = "";
        for (at, line) in text.lines().map(str::trim).enumerate() {
            let declares = ["message ", "enum ", "service "]
                .iter()
                .any(|k| line.starts_with(k));
            if declares && !previous.starts_with("//") {
                bare.push(format!("{}:{}: {line}", path.display(), at + 1));
            }
            previous = line;
        }
    }
    assert!(bare.is_empty(), "without a comment:\n{}", bare.join("\n"));
}
