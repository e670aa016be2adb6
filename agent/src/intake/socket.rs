//! The socket file: made with its mode and group, a stale one replaced, one on
//! which somebody listens left alone, and removed at the end.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};
use thiserror::Error;
use tokio::net::UnixListener;

use crate::config::IntakeConfig;

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another process listens on {path}")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket lies there.
    #[error("{path} is not a socket, and is left alone")]
    NotASocket {
        /// What lies there.
        path: PathBuf,
    },
    /// The group is not known.
    #[error("intake.group: there is no group {name}")]
    Group {
        /// As in the configuration.
        name: String,
    },
    /// The system refused.
    #[error("cannot make the socket {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The socket file; removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that stays is replaced by the next start.
        let _stale = fs::remove_file(&self.path);
    }
}

pub(super) fn listen(config: &IntakeConfig) -> Result<(UnixListener, SocketFile), SocketError> {
    let path = &config.socket;
    let wrong = |source| SocketError::Io {
        path: path.clone(),
        source,
    };
    let group = config.group.as_deref().map(group_id).transpose()?;
    remove_stale(path)?;
    // Nobody may connect before mode and group are set.
    let former = umask(Mode::RWXU | Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(former);
    let listener = bound.map_err(wrong)?;
    let file = SocketFile { path: path.clone() };
    if group.is_some() {
        chown(path, None, group).map_err(wrong)?;
    }
    fs::set_permissions(path, Permissions::from_mode(config.mode)).map_err(wrong)?;
    Ok((listener, file))
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let wrong = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(wrong)
        }
        Ok(_) => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(wrong(error)),
    }
}

/// A group by number or by its line in `/etc/group`: a static binary has no
/// other name service.
fn group_id(name: &str) -> Result<u32, SocketError> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    find_group(&groups, name).ok_or_else(|| SocketError::Group {
        name: name.to_owned(),
    })
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nmiddleware:x:1042:player,ui\nbroken:x:many:\n";
        assert_eq!(find_group(groups, "middleware"), Some(1_042));
        assert_eq!(find_group(groups, "broken"), None);
        assert_eq!(find_group(groups, "middle"), None);
    }
}
