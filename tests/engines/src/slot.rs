//! A private engine's own folder and own loopback addresses: `~/.cache/tandem/run/private/<number>`.
//!
//! A folder says which process owns it. When that process is gone, whatever it left running is killed
//! and the folder removed, by the next start or by `cargo xtask engines down`.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    error::{At, Error, Result},
    fleet::Place,
    install, netns,
    process::Process,
};

const OWNER: &str = "owner";
/// In each node's folder: its process.
pub(crate) const PID: &str = "pid";
const SLOTS: u8 = 200;

/// A place for one private engine. Dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u8,
    dir: PathBuf,
}

impl Slot {
    /// The first free one; those of dead owners are cleared first.
    pub(crate) fn claim() -> Result<Self> {
        let private = private()?;
        let _lock = lock(&private)?;
        clear_dead(&private)?;
        for number in 1..=SLOTS {
            let dir = private.join(number.to_string());
            if !dir.exists() {
                fs::create_dir_all(&dir).at(&dir)?;
                Process::own()?.save(&dir.join(OWNER))?;
                return Ok(Self { number, dir });
            }
        }
        let full = format!(
            "all {SLOTS} places for private engines in {} are taken",
            private.display()
        );
        Err(Error::Missing(full))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Where `count` nodes listen: unless their places say otherwise, on loopback addresses where no
    /// other engine listens on any port.
    pub(crate) fn addresses(&self, count: usize, places: &[Place]) -> Vec<Ipv4Addr> {
        let own = |n: usize| Ipv4Addr::new(127, 88, self.number, n as u8 + 1);
        let address = |n: usize| {
            places
                .get(n)
                .and_then(|p| p.address)
                .unwrap_or_else(|| own(n))
        };
        (0..count).map(address).collect()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = clear(&self.dir);
    }
}

/// Kills and removes what dead processes left behind; says how many engines that were.
pub fn reap() -> Result<usize> {
    let private = private()?;
    let _lock = lock(&private)?;
    clear_dead(&private)
}

fn private() -> Result<PathBuf> {
    Ok(install::cache()?.join("run/private"))
}

fn lock(private: &Path) -> Result<fs::File> {
    install::lock(&private.join("lock"))
}

fn clear_dead(private: &Path) -> Result<usize> {
    let mut cleared = 0;
    for entry in fs::read_dir(private).at(private)?.flatten() {
        let dir = entry.path();
        let owner = Process::load(&dir.join(OWNER));
        // what cannot be removed keeps its number, and nobody from starting
        if dir.is_dir() && !owner.is_some_and(Process::alive) && clear(&dir).is_ok() {
            cleared += 1;
        }
    }
    Ok(cleared)
}

fn clear(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).at(dir)?.flatten() {
        if let Some(process) = Process::load(&entry.path().join(PID)) {
            process.kill();
        }
    }
    netns::remove(dir);
    fs::remove_dir_all(dir).at(dir)
}
