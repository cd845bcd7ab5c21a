//! Where the engines' data lies: a folder that goes with the suite, and small disks that can be filled up.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

/// Fills the disk.
const FILLER: &str = "filler";

/// A disk in memory. Dropping it removes it with all that is on it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// An empty one.
    pub fn mount(path: &Path, megabytes: u32) -> Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tandem-faults"])
            .arg(path)
            .status()?;
        if !mounted.success() {
            return Err(format!("mount a tmpfs at {}: {mounted}", path.display()).into());
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Leaves no room on it.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.path.join(FILLER))?;
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// There is room again.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.path.join(FILLER))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// A folder that is empty at first. Dropping it removes it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it, without what was there.
    pub fn new(path: &Path) -> Result<Self> {
        if path.exists() {
            for entry in fs::read_dir(path)?.flatten() {
                // a disk that a killed run left; what is none is not unmounted
                let umount = Command::new("umount").arg("-l").arg(entry.path()).output();
                drop(umount);
            }
            fs::remove_dir_all(path)?;
        }
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
