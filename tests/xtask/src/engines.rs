//! What the tests need beside Rust, installed once into a cache outside the repo.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::check::{Result, sh};

/// Other implementations that check ours: Web Push decryption, and a WebSocket client.
const PYTHON_PACKAGES: [&str; 3] = [
    "http-ece==1.2.1",
    "cryptography==46.0.3",
    "websockets==15.0.1",
];

/// Where everything is.
#[derive(Debug)]
pub struct Engines {
    /// A Python with [`PYTHON_PACKAGES`].
    pub python: PathBuf,
}

impl fmt::Display for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TANDEM_PYTHON={}", self.python.display())
    }
}

impl Engines {
    /// Names them to the tests.
    pub fn name_to(&self, command: &mut Command) {
        command.env("TANDEM_PYTHON", &self.python);
    }
}

/// Installs what is missing. Quick when nothing is.
pub fn install() -> Result<Engines> {
    let cache = cache()?;
    Ok(Engines {
        python: python(&cache)?,
    })
}

fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    let cache = base
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?
        .join("tandem");
    fs::create_dir_all(&cache)?;
    Ok(cache)
}

fn python(cache: &Path) -> Result<PathBuf> {
    let venv = cache.join("venv");
    let python = venv.join("bin/python");
    // the stamp names what was installed, so another list installs anew
    let (stamp, wanted) = (venv.join("tandem-stamp"), PYTHON_PACKAGES.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|s| s == wanted) && python.exists() {
        return Ok(python);
    }
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    sh(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    sh(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(PYTHON_PACKAGES))?;
    fs::write(stamp, wanted)?;
    Ok(python)
}
