//! Child processes that do not outlive the test: each in a process group of
//! its own, killed on drop, and by the kernel when the test process dies.
//! What they print goes to a log file.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;

use crate::wait::{Hopeless, wait_until};

/// Lines of a log shown when something went wrong.
const TAIL_LINES: usize = 60;

/// A running child process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

type Spawned = io::Result<Child>;

/// The thread from which all children are started. The kernel's promise to
/// kill a child when its parent dies is tied to the *thread* that started it,
/// and the threads of tests come and go; this one lives as long as the process.
static KEEPER: LazyLock<mpsc::Sender<(Command, mpsc::SyncSender<Spawned>)>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<(Command, mpsc::SyncSender<Spawned>)>();
    thread::spawn(move || {
        for (mut command, answer) in requests {
            // A caller that went away gets no child: dropping it is enough,
            // because the process group is killed with the keeper.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

impl Process {
    /// Starts `program` with `arguments`, appending what it prints to
    /// `directory/{name}.log`.
    ///
    /// # Errors
    /// When the program or its log file cannot be opened.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        name: &str,
        directory: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let stdout = open().with_context(|| format!("open {}", log.display()))?;
        let stderr = open().with_context(|| format!("open {}", log.display()))?;
        // setpriv asks for the kernel's promise and becomes the program.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let (answer, answered) = mpsc::sync_channel(1);
        KEEPER
            .send((command, answer))
            .ok()
            .context("the thread that starts processes is gone")?;
        let child = answered
            .recv()
            .context("the thread that starts processes is gone")?
            .with_context(|| format!("start {} by setpriv", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Process id, which is that of the group too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error that stops waiting, when the process has ended.
    ///
    /// # Errors
    /// Says how it ended, with the end of its log.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            let name = &self.name;
            let tail = tail(&self.log);
            bail!(Hopeless(format!("{name} ended: {status}\n{tail}")));
        }
        Ok(())
    }

    /// Kills it, as a power cut would (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL);
        self.child.wait()?;
        Ok(())
    }

    /// Stops it where it is (SIGSTOP), until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let name = self.name.clone();
        wait_until(&format!("{name} to stop on SIGTERM"), limit, async || {
            self.ended()?
                .with_context(|| format!("still running\n{}", tail(&self.log)))
        })
        .await
    }

    fn signal(&self, signal: Signal) {
        // Gone already, and reaped by `try_wait`: nothing left to signal.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs `program` to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started, or does not end within `limit`.
pub async fn output<A: AsRef<std::ffi::OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    directory: &Path,
    limit: Duration,
) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(limit, command.output())
        .await
        .with_context(|| format!("{command:?} did not end in {limit:?}"))?
        .with_context(|| format!("start {command:?}"))
}

/// Lines of a log in which one of our programs says that it panicked.
///
/// # Errors
/// When the log cannot be read.
pub fn panics(log: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let panics = text.lines().filter(|line| line.contains(" panicked at "));
    Ok(panics.map(str::to_owned).collect())
}

/// The end of a log, for an error.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    format!(
        "--- {} ({} lines, the last {})\n{}\n---",
        log.display(),
        lines.len(),
        lines.len() - from,
        lines[from..].join("\n")
    )
}
