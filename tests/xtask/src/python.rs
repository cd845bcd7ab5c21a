//! A Python with other implementations that check ours, installed once into a cache outside the repo.

use std::{fs, path::PathBuf, process::Command};

use tandem_engines::install::cache;

use crate::check::{Result, sh};

/// Web Push decryption, and a WebSocket client.
const PACKAGES: [&str; 3] = [
    "http-ece==1.2.1",
    "cryptography==46.0.3",
    "websockets==15.0.1",
];

/// Names it to the tests.
pub const VARIABLE: &str = "TANDEM_PYTHON";

/// Installs it if it is missing. Quick if it is not.
pub fn install() -> Result<PathBuf> {
    let venv = cache()?.join("venv");
    let python = venv.join("bin/python");
    // the stamp names what was installed, so another list installs anew
    let (stamp, wanted) = (venv.join("tandem-stamp"), PACKAGES.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|s| s == wanted) && python.exists() {
        return Ok(python);
    }
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    sh(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    sh(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(PACKAGES))?;
    fs::write(stamp, wanted)?;
    Ok(python)
}
