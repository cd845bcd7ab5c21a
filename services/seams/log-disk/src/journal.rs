//! Cuts a torn end off fjall's newest journal before fjall opens it.
//!
//! A machine that stops may have written the pages of its last, never acknowledged batch in any order;
//! fjall then finds an end that is there with a checksum that is wrong, and refuses. Each batch is synced
//! before the next begins, so only the last one can be torn: it is cut off. A damaged batch with a sound
//! one after it is no torn end but a damaged disk, and is refused.
//!
//! The format is that of fjall 3 (`journal/entry.rs`); a test holds it against the real thing.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use bytes::Buf;
use tandem_log::LogError;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";

/// Makes the newest journal in `home` end with a sound batch.
pub fn mend(home: &Path) -> Result<(), LogError> {
    let failed =
        |error: std::io::Error| LogError::Unavailable(format!("{}: {error}", home.display()));
    let Some(path) = newest(home).map_err(failed)? else {
        return Ok(());
    };
    let bytes = std::fs::read(&path).map_err(failed)?;
    let written = written(&bytes);
    let sound = sound(written);
    // nothing sound at all: not for us to judge
    if sound == 0 || sound >= written.len() {
        return Ok(());
    }
    let torn = &written[sound..];
    if (1..torn.len()).any(|at| torn[at] == START && batch(&torn[at..]).is_some()) {
        return Err(LogError::Corrupt(format!(
            "{}: the batch at byte {sound} is damaged, but not those after it",
            path.display()
        )));
    }
    tracing::warn!(
        journal = %path.display(), at = sound, bytes = torn.len(),
        "cut off what was being written when the machine stopped"
    );
    let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
    file.set_len(sound as u64)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

fn newest(home: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for item in std::fs::read_dir(home)? {
        let path = item?.path();
        if path.extension().is_none_or(|e| e != "jnl") {
            continue;
        }
        let id = path
            .file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.parse().ok());
        if let Some(id) = id
            && newest.as_ref().is_none_or(|(highest, _)| id > *highest)
        {
            newest = Some((id, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// All but the zeros at the end, which are room for more.
fn written(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for chunk in bytes.rchunks(ZEROS.len()) {
        if chunk != &ZEROS[..chunk.len()] {
            end -= chunk.iter().rev().take_while(|b| **b == 0).count();
            break;
        }
        end -= chunk.len();
    }
    &bytes[..end]
}

/// How far the journal consists of sound batches.
fn sound(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = batch(&bytes[at..]) {
        at += length;
    }
    at
}

/// Length of the sound batch at the beginning.
fn batch(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    if rest.try_get_u8().ok()? != START {
        return None;
    }
    let count = rest.try_get_u32_le().ok()?;
    let _seqno = rest.try_get_u64_le().ok()?;
    let items = rest;
    for _ in 0..count {
        match rest.try_get_u8().ok()? {
            ITEM => {
                rest = rest.get(1 + 1 + 8..)?; // kind, compression, keyspace
                let key = usize::from(rest.try_get_u16_le().ok()?);
                let _plain = rest.try_get_u32_le().ok()?;
                let value = rest.try_get_u32_le().ok()? as usize;
                rest = rest.get(key.checked_add(value)?..)?;
            }
            CLEAR => rest = rest.get(8..)?,
            _ => return None,
        }
    }
    let items = &items[..items.len() - rest.len()];
    if rest.try_get_u8().ok()? != END
        || rest.try_get_u64_le().ok()? != xxhash_rust::xxh3::xxh3_64(items)
        || !rest.starts_with(MAGIC)
    {
        return None;
    }
    Some(bytes.len() - rest.len() + MAGIC.len())
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    /// A journal with three batches, and where the last begins.
    fn journal(home: &Path) -> (PathBuf, usize) {
        let db = Database::builder(home).open().unwrap();
        let keyspace = db.keyspace("k", KeyspaceCreateOptions::default).unwrap();
        let path = newest(home).unwrap().unwrap();
        let mut before = 0;
        keyspace.insert("gone", "gone").unwrap();
        keyspace.clear().unwrap();
        for n in 0..3u8 {
            before = written(&std::fs::read(&path).unwrap()).len();
            let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
            for i in 0..20u8 {
                // the large ones are compressed unless that is turned off, and look the same from here
                batch.insert(&keyspace, [n, i], vec![n; usize::from(i) * 500]);
            }
            batch.remove(&keyspace, [n, 3]);
            batch.commit().unwrap();
        }
        (path, before)
    }

    #[test]
    fn what_fjall_writes_is_sound_to_its_end() {
        let home = tempfile::tempdir().unwrap();
        let (path, last) = journal(home.path());
        let bytes = std::fs::read(path).unwrap();
        let end = sound(&bytes);
        assert!(end > last && end >= written(&bytes).len());
        assert!(bytes[end..].iter().all(|b| *b == 0));
    }

    #[test]
    fn damage_before_a_sound_batch_is_refused_and_touches_nothing() {
        let home = tempfile::tempdir().unwrap();
        let (path, last) = journal(home.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[last - 300] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(mend(home.path()), Err(LogError::Corrupt(why)) if why.contains(".jnl")));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_hole_in_the_last_batch_is_cut_off() {
        let home = tempfile::tempdir().unwrap();
        let (path, last) = journal(home.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[last + 200..last + 300].fill(0xee);
        std::fs::write(&path, &bytes).unwrap();
        mend(home.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes[..last]);
    }
}
