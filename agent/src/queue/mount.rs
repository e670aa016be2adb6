//! With which options the queue's file system is mounted: some vendor images
//! mount in ways that corrupt databases, and the cloud should know.

use std::{fs, path::Path};

/// Type and options of the mount that holds `path`, as in
/// `ext4 rw,noatime data=ordered`; empty where the kernel does not say.
pub(super) fn options(path: &Path, bytes_max: usize) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut options = find(&table, &path).unwrap_or_default();
    while options.len() > bytes_max {
        options.pop();
    }
    options
}

/// Fields of a line (proc(5)): id, parent, device, root, mount point, options,
/// optional fields, "-", type, source, options of the file system.
fn find(table: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in table.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else {
            continue;
        };
        let mut mount = mount.split(' ').skip(4);
        let (Some(point), Some(options)) = (mount.next(), mount.next()) else {
            continue;
        };
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next().unwrap_or_default();
        let own_options = filesystem.nth(1).unwrap_or_default();
        // A later mount hides an earlier one on the same point.
        let deeper = best
            .as_ref()
            .is_none_or(|(length, _)| point.len() >= *length);
        if path.starts_with(point) && deeper {
            best = Some((point.len(), format!("{kind} {options} {own_options}")));
        }
    }
    best.map(|(_, options)| options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_wins() {
        let table = "\
1 0 8:1 / / rw,relatime - ext4 /dev/a rw
2 1 8:2 / /data rw,noatime shared:1 - ext4 /dev/b rw,data=writeback
3 1 8:3 / /data rw,noexec - f2fs /dev/c rw
4 1 8:4 / /database rw - tmpfs none rw
nonsense";
        let options = |path: &str| find(table, Path::new(path)).unwrap();
        assert_eq!(options("/var/lib"), "ext4 rw,relatime rw");
        assert_eq!(options("/data/queue"), "f2fs rw,noexec rw");
        assert_eq!(find("", Path::new("/")), None);
    }
}
