//! The rules of the house that a machine can hold: who may import what, which licences may come in,
//! and what stands at the top of the tree.

#![allow(clippy::unwrap_used, reason = "a test that cannot look fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

const SERVICES: [&str; 6] = ["accounts", "edge", "history", "presence", "push", "routing"];
const SEAMS: [&str; 3] = ["log", "store", "ephemeral"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn metadata() -> Metadata {
    let manifest = root().join("Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(["--locked".into()])
        .exec()
        .unwrap()
}

/// What each of our packages depends on (of our own), outside its tests.
fn imports(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<String> = metadata
        .workspace_packages()
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    let of = |p: &&Package| {
        let names = p
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development);
        names
            .map(|d| d.name.clone())
            .filter(|n| ours.contains(n))
            .collect()
    };
    metadata
        .workspace_packages()
        .iter()
        .map(|p| (p.name.to_string(), of(p)))
        .collect()
}

fn service(name: &str) -> bool {
    SERVICES.iter().any(|s| name == format!("tandem-{s}"))
}

fn adapter(name: &str) -> bool {
    SEAMS
        .iter()
        .any(|s| name.starts_with(&format!("tandem-{s}-")))
}

#[test]
fn no_service_imports_another_service_or_an_adapter() {
    let imports = imports(&metadata());
    for name in SERVICES.map(|s| format!("tandem-{s}")) {
        let bad: Vec<_> = imports[&name]
            .iter()
            .filter(|d| service(d) || adapter(d))
            .collect();
        assert!(bad.is_empty(), "{name} imports {bad:?}");
    }
}

#[test]
fn only_the_program_imports_services_and_adapters() {
    for (name, uses) in imports(&metadata()) {
        let test = [
            "tandem-arch-tests",
            "tandem-e2e-tests",
            "tandem-faults",
            "xtask",
        ]
        .contains(&name.as_str());
        if name != "tandem" && !test {
            let bad: Vec<_> = uses.iter().filter(|d| service(d) || adapter(d)).collect();
            assert!(bad.is_empty(), "{name} imports {bad:?}");
        }
    }
}

#[test]
fn the_kernel_and_the_seams_stand_below_everything() {
    let imports = imports(&metadata());
    let allowed = |name: &str, allowed: &[&str]| {
        let bad: Vec<_> = imports[name]
            .iter()
            .filter(|d| !allowed.contains(&d.as_str()))
            .collect();
        assert!(bad.is_empty(), "{name} imports {bad:?}");
    };
    allowed("tandem-proto", &[]);
    allowed("tandem-kernel", &["tandem-proto"]);
    allowed("tandem-chassis", &["tandem-kernel", "tandem-proto"]);
    for seam in SEAMS {
        allowed(
            &format!("tandem-{seam}"),
            &["tandem-kernel", "tandem-proto"],
        );
    }
}

#[test]
fn the_kernel_does_no_io() {
    let metadata = metadata();
    let kernel = metadata.workspace_packages();
    let kernel = kernel
        .iter()
        .find(|p| p.name.as_str() == "tandem-kernel")
        .unwrap();
    let names = kernel
        .dependencies
        .iter()
        .filter(|d| d.kind == DependencyKind::Normal);
    for d in names {
        let bad = ["tokio", "futures", "async-trait", "tonic", "hyper"].contains(&d.name.as_str());
        assert!(!bad, "the kernel depends on {}", d.name);
    }
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn a_domain_is_synchronous_and_knows_only_the_kernel() {
    let mut files = Vec::new();
    for name in SERVICES {
        let dir = root().join("services").join(name).join("src/domain");
        if dir.exists() {
            rust_files(&dir, &mut files);
        }
    }
    assert!(!files.is_empty());
    let banned = [
        "async fn",
        ".await",
        "tokio::",
        "tonic::",
        "hyper::",
        "axum::",
        "tandem_chassis::",
        "tandem_log::",
        "tandem_store::",
        "tandem_ephemeral::Ephemeral",
        "SystemTime",
        "Instant",
    ];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
        for line in code {
            let found = banned.iter().find(|b| line.contains(**b));
            assert!(found.is_none(), "{}: {line}", file.display());
        }
    }
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    const ALLOWED: [&str; 13] = [
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "BSL-1.0",
        "Unicode-3.0",
        "CC0-1.0",
        "OpenSSL",
        "Unlicense",
        "MIT-0",
    ];
    let mut bad = Vec::new();
    for package in metadata().packages {
        let licence = package
            .license
            .clone()
            .unwrap_or_default()
            .replace('/', " OR ");
        // a choice of several: one must do; all of a combination must
        let term = |t: &str| {
            let t = t.trim().trim_matches(['(', ')']);
            let t = t.split(" WITH ").next().unwrap_or(t);
            ALLOWED.contains(&t)
        };
        let fine = licence
            .split(" AND ")
            .all(|all| all.split(" OR ").any(term));
        if !fine {
            bad.push(format!("{} {}: {licence:?}", package.name, package.version));
        }
    }
    assert!(bad.is_empty(), "licences to look at:\n{}", bad.join("\n"));
}

#[test]
fn the_top_of_the_tree_is_the_house_plan() {
    const PLAN: [&str; 11] = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "CONTRIBUTING.md",
        "README.md",
        "rust-toolchain.toml",
        "services",
        "proto",
        "deploy",
        "charts",
        "tests",
    ];
    let tracked = std::process::Command::new("git")
        .args(["ls-tree", "--name-only", "HEAD"])
        .current_dir(root())
        .output()
        .unwrap();
    let listing = String::from_utf8(tracked.stdout).unwrap();
    for name in listing.lines().filter(|n| !n.starts_with('.')) {
        assert!(
            PLAN.contains(&name),
            "{name} does not belong at the top of the tree"
        );
    }
}

#[test]
fn a_dependency_is_pinned_in_one_place() {
    let root = root();
    for package in metadata().workspace_packages() {
        let text = fs::read_to_string(&package.manifest_path).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(entries) = manifest.get(section).and_then(|s| s.as_table()) else {
                continue;
            };
            for (name, value) in entries {
                let workspace = value.get("workspace").and_then(toml::Value::as_bool);
                let path = package
                    .manifest_path
                    .strip_prefix(&root)
                    .unwrap_or(&package.manifest_path);
                assert_eq!(
                    workspace,
                    Some(true),
                    "{path}: {name} is not `workspace = true`"
                );
            }
        }
    }
}
