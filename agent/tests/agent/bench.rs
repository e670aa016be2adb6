//! A box on the test bench: its files in a directory of its own, a broker
//! address at which nobody is, and the real agent on it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

/// Long enough for a machine under load; what is waited for comes in
/// milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// A tune to a service.
pub(crate) fn tune(service_id: u32) -> Value {
    json!({"tune": {"channel": {"serviceId": service_id}, "source": "SOURCE_LIVE"}})
}

/// A box; its agent is killed and its files removed when dropped.
pub(crate) struct Box {
    directory: PathBuf,
    agent: Option<Child>,
}

impl Box {
    /// A box named `box-{name}` without an agent running.
    pub(crate) fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("returnpath-{name}-{}", std::process::id()));
        let _leftover = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, format!("box-{name}"));
        let certificate = parameters.self_signed(&key).unwrap().pem();
        fs::write(directory.join("box.crt"), &certificate).unwrap();
        fs::write(directory.join("ca.crt"), &certificate).unwrap();
        fs::write(directory.join("box.key"), key.serialize_pem()).unwrap();
        // Bound and let go: nobody answers there.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let at = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "[identity]\ncertificate = {:?}\nprivate_key = {:?}\nca = {:?}\n\
             [intake]\nsocket = {:?}\n[queue]\ndirectory = {:?}\n\
             [link]\nbrokers = [\"127.0.0.1:{port}\"]\n[batch]\n[log]\nlevel = \"warn\"\n",
            at("box.crt"),
            at("box.key"),
            at("ca.crt"),
            at("agent.sock"),
            at("queue"),
        );
        fs::write(directory.join("agent.toml"), config).unwrap();
        Self {
            directory,
            agent: None,
        }
    }

    /// Has it connect to this broker at once.
    pub(crate) fn connect(&mut self, port: u16, certificate: &str) {
        fs::write(self.directory.join("ca.crt"), certificate).unwrap();
        let path = self.directory.join("agent.toml");
        let config = fs::read_to_string(&path).unwrap();
        let nobody = config.lines().find(|line| line.starts_with("brokers"));
        let here = format!(
            "brokers = [\"127.0.0.1:{port}\"]\n\
             reconnect_wait_base_ms = 10\nreconnect_spread_ms = 100"
        );
        fs::write(&path, config.replace(nobody.unwrap(), &here)).unwrap();
    }

    /// Has it trust these keys, PEM.
    pub(crate) fn trust(&mut self, decisions: Option<&str>, config: Option<&str>) {
        let mut section = "\n[trust]\n".to_owned();
        for (key, name, pem) in [
            ("decision_keys", "decision-keys.pem", decisions),
            ("config_keys", "config-keys.pem", config),
        ] {
            let Some(pem) = pem else { continue };
            let path = self.directory.join(name);
            fs::write(&path, pem).unwrap();
            section += &format!("{key} = {:?}\n", path.display().to_string());
        }
        let path = self.directory.join("agent.toml");
        let text = fs::read_to_string(&path).unwrap() + &section;
        fs::write(&path, text).unwrap();
    }

    /// Adds a line to a section of the configuration.
    pub(crate) fn configure(&mut self, section: &str, line: &str) {
        let path = self.directory.join("agent.toml");
        let config = fs::read_to_string(&path).unwrap();
        let header = format!("[{section}]\n");
        assert!(config.contains(&header));
        fs::write(&path, config.replace(&header, &format!("{header}{line}\n"))).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_returnpath-agent"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.directory.join("agent.toml"));
        command
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn start(&mut self) {
        assert!(self.agent.is_none());
        self.agent = Some(self.command(&["run"]).spawn().unwrap());
        self.retry("an agent that answers", |box_| {
            let exited = box_.agent.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(exited, None, "the agent ended");
            box_.answers()
        });
    }

    /// Whether an agent answers: it does once the socket is as it should be.
    fn answers(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok_and(|stream| {
            let mut client = Client(BufReader::new(stream));
            client.try_send_line(b"{\"status\":{}}").is_ok() && client.is_served()
        })
    }

    /// A client that was let in, however many are leaving.
    pub(crate) fn served_client(&mut self) -> Client {
        let mut served = None;
        self.retry("a place for a client", |box_| {
            let mut client = box_.client();
            if client.try_send_line(b"{\"status\":{}}").is_ok() && client.is_served() {
                served = Some(client);
            }
            served.is_some()
        });
        served.unwrap()
    }

    /// As a power cut does, except that the kernel keeps its page cache.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// In order, as the supervisor does.
    pub(crate) fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        let pid = agent.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        let status = agent.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Runs a command beside the agent.
    pub(crate) fn run_to_end(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command with input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = thread::spawn(move || stdin.write_all(&input).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    pub(crate) fn queue_file(&self, name: &str) -> PathBuf {
        self.directory.join("queue").join(name)
    }

    /// Overwrites the queue's files from their middle on.
    pub(crate) fn ruin_queue(&self) {
        for name in ["queue.db", "queue.db-wal"] {
            let path = self.queue_file(name);
            if let Ok(mut bytes) = fs::read(&path) {
                let middle = bytes.len() / 2;
                bytes[middle..].fill(0xa5);
                fs::write(&path, bytes).unwrap();
            }
        }
        fs::write(self.queue_file("queue.db"), [0x5a; 4_096]).unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Client(BufReader::new(stream))
    }

    pub(crate) fn status(&self) -> Value {
        self.client().ask(&json!({"status": {}}))["report"].take()
    }

    /// Waits until the status is as wanted.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        self.retry(what, |box_| wanted(&box_.status()));
    }

    /// Tries until it is so.
    pub(crate) fn retry(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
            thread::yield_now();
        }
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ended = agent.kill();
            let _ended = agent.wait();
        }
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// A client on the socket.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn set_write_timeout(&mut self, limit: Duration) {
        self.0.get_ref().set_write_timeout(Some(limit)).unwrap();
    }

    pub(crate) fn send_line(&mut self, line: &[u8]) {
        self.try_send_line(line).unwrap();
    }

    pub(crate) fn try_send_line(&mut self, line: &[u8]) -> std::io::Result<()> {
        let line = [line, b"\n"].concat();
        self.0.get_mut().write_all(&line)
    }

    /// Whether the answer is there and no refusal.
    fn is_served(&mut self) -> bool {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).is_ok();
        let answer: Value = serde_json::from_str(&line).unwrap_or_default();
        read && answer["status"] == "ok"
    }

    /// The next line; `None` when the agent hung up.
    pub(crate) fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then_some(line)
    }

    pub(crate) fn answer(&mut self) -> Value {
        let line = self.read_line().expect("the agent hung up");
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send_line(request.to_string().as_bytes());
        self.answer()
    }
}
