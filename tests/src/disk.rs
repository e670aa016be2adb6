//! A box's flash as a file system of its own: a small ext4 on a loop device,
//! which can be full or read-only, and whose writes the kernel counts.
//!
//! Needs root and loop devices, and fails with words where they are missing.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

pub mod hour;

/// The unit in which the kernel counts, whatever a device's own.
const SECTOR_BYTES: u64 = 512;

/// Which field of a block device's `stat` counts sectors written
/// (Documentation/block/stat.rst of the kernel).
const SECTORS_WRITTEN: usize = 6;

/// Whether files can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing can be changed.
    ReadOnly,
    /// Everything can.
    ReadWrite,
}

/// A mounted file system. Unmounted on drop.
#[derive(Debug)]
pub struct LoopDisk {
    point: PathBuf,
    device: String,
}

impl LoopDisk {
    /// Makes an ext4 of so many bytes in the file `image` and mounts it on
    /// `point`, a folder that is made where it is missing.
    ///
    /// # Errors
    /// When there is no root or no loop device, or a program is missing.
    pub fn mount(image: &Path, bytes: u64, point: &Path) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "this test mounts a file system on a loop device: run it as root"
        );
        File::create(image)?.set_len(bytes)?;
        fs::create_dir_all(point)?;
        // Nothing is left for the kernel to initialise in the background, where
        // it would be counted.
        let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        let image = image.as_os_str();
        run(
            "mkfs.ext4",
            ["-q", "-F", "-E", whole].map(OsStr::new),
            image,
        )?;
        let options = ["-o", "loop,noatime"].map(OsStr::new);
        run(
            "mount",
            options.into_iter().chain([image]),
            point.as_os_str(),
        )?;
        let mut disk = Self {
            point: point.to_owned(),
            device: String::new(),
        };
        disk.device = disk.find_device()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    fn find_device(&self) -> anyhow::Result<String> {
        let point = self.point.canonicalize()?;
        let table = fs::read_to_string("/proc/self/mounts")?;
        let mut lines = table.lines().rev();
        let device = lines.find_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            (Path::new(rest.split(' ').next()?) == point).then_some(device)
        });
        let device =
            device.with_context(|| format!("nothing is mounted on {}", point.display()))?;
        Ok(device.trim_start_matches("/dev/").to_owned())
    }

    /// Bytes that have reached the device since it was made, everything before
    /// this call included.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn bytes_written(&self) -> anyhow::Result<u64> {
        self.sync()?;
        let path = format!("/sys/block/{}/stat", self.device);
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let sectors = stat.split_whitespace().nth(SECTORS_WRITTEN);
        let sectors: u64 = sectors.context("a block device's stat")?.parse()?;
        Ok(sectors * SECTOR_BYTES)
    }

    /// Writes back what only the page cache holds, as the kernel does by itself
    /// after some time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sync(&self) -> anyhow::Result<()> {
        run("sync", [OsStr::new("-f")], self.point.as_os_str())
    }

    /// Leaves no room.
    ///
    /// # Errors
    /// When the filler cannot be written for another reason.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::create(self.filler())?;
        // Down to the last block.
        for bytes in [64 * 1_024, 1_024] {
            loop {
                match filler.write_all(&vec![0xff; bytes]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // Or the room would be there again when it is found to be missing.
        match filler.sync_all() {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not full.
    pub fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }

    /// Mounts it anew, for reading only or for writing too. Nobody may have a
    /// file open for writing when it becomes read-only.
    ///
    /// # Errors
    /// When somebody has.
    pub fn remount(&self, access: Access) -> anyhow::Result<()> {
        let options = match access {
            Access::ReadOnly => "remount,ro",
            Access::ReadWrite => "remount,rw",
        };
        run(
            "mount",
            ["-o", options].map(OsStr::new),
            self.point.as_os_str(),
        )
    }

    /// Has the file system find an error in itself, whereupon it takes no more
    /// writes until it is mounted afresh.
    ///
    /// # Errors
    /// When the kernel cannot do that.
    pub fn break_down(&self) -> anyhow::Result<()> {
        let path = format!("/sys/fs/ext4/{}/trigger_fs_error", self.device);
        run(
            "mount",
            ["-o", "remount,errors=remount-ro"].map(OsStr::new),
            self.point.as_os_str(),
        )?;
        fs::write(&path, "1").with_context(|| format!("write {path}"))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Whoever still has files open loses the folder now, and the loop
        // device goes with the last of them.
        let _ = run("umount", [OsStr::new("--lazy")], self.point.as_os_str());
    }
}

fn run<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a OsStr>,
    last: &OsStr,
) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(last);
    let output = command
        .output()
        .with_context(|| format!("start {program}: `tests/install` installs it"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {said}", output.status);
    }
    Ok(())
}
