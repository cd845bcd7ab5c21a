//! Compiles `tandem/*/v1/*.proto` without a system protoc.

use std::{error::Error, fs, path::PathBuf};

use prost::Message;

const SERVICES: [&str; 8] = [
    "client", "event", "edge", "routing", "history", "presence", "push", "accounts",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=tandem");
    let files = SERVICES.map(|s| format!("tandem/{s}/v1/{s}.proto"));
    let descriptors = protox::compile(files, ["."])?;
    let out = std::env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or("cargo sets OUT_DIR")?;
    fs::write(out.join("tandem.fds"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".tandem.edge.v1.Delivery.sessions")
        .bytes(".tandem.event.v1.Parked")
        .compile_fds(descriptors)?;
    Ok(())
}
