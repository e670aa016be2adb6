//! Why there is no queue, and whose business that is.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why there is no queue.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The file cannot be opened or made.
    #[error("cannot use the queue file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The directory or a file in it cannot be used.
    #[error("cannot use {path}")]
    Directory {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("cannot start the queue thread")]
    Thread(#[source] io::Error),
}

impl QueueError {
    /// Whether another process has the queue open.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Open { source, .. } if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
        )
    }

    /// Whether the directory is missing or not ours, which no flash does.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Directory { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::PermissionDenied
            ),
            Self::Open { source, .. } => {
                source.sqlite_error_code() == Some(ErrorCode::PermissionDenied)
            }
            Self::Thread(_) => true,
        }
    }
}
