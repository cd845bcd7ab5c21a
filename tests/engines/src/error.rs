//! What can go wrong with an engine, each with what to do about it.

use std::{io, path::PathBuf};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an engine is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of ours.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program that must be there, and how to get it.
    #[error("{0}")]
    Missing(String),
    /// A command that did not do its work.
    #[error("{command} failed: {output}")]
    Command {
        /// The whole of it.
        command: String,
        /// The end of what it said.
        output: String,
    },
    /// An address that somebody else holds.
    #[error("{engine}: {address} is taken by a program that was not started from here: stop it")]
    Taken {
        /// Who wanted it.
        engine: String,
        /// Which.
        address: String,
    },
    /// A process that ended by itself.
    #[error("{node} ended by itself; the end of {log}:\n{tail}")]
    Ended {
        /// Whose.
        node: String,
        /// Where it wrote.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// A start that took too long.
    #[error("{what} is not ready after {seconds} s: {why}")]
    NotReady {
        /// Which engine or node.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// What it last said.
        why: String,
    },
    /// A question that an engine did not answer.
    #[error("{what}: {why}")]
    Answer {
        /// Who was asked.
        what: String,
        /// What came of it.
        why: String,
    },
}

/// Names the file in an I/O error.
pub(crate) trait At<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File {
            path: path.into(),
            source,
        })
    }
}
