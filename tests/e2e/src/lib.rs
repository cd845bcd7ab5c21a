//! The suite as a person meets it: the real program, as a process of its own that can be killed.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub mod device;
pub mod gateway;
pub use device::Device;

/// How long a start may take before a test gives up. Generous: CI's machines are busy.
const START: Duration = Duration::from_secs(60);

/// The program, as it was built beside the tests.
pub fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("the test's own path");
    let target = tests
        .parent()
        .and_then(Path::parent)
        .expect("target/debug/deps/<test>");
    let program = target.join("tandem");
    assert!(
        program.exists(),
        "{} is missing: run `cargo xtask test`",
        program.display()
    );
    program
}

/// Python with the packages that the tests use.
pub fn python() -> PathBuf {
    let python = std::env::var_os("TANDEM_PYTHON").map(PathBuf::from);
    python.expect("TANDEM_PYTHON is not set: run `cargo xtask test`, which installs it")
}

/// A port that stays free while a server that listens there is down: none of those from which systems
/// choose for outgoing connections (RFC 6335: 49152 up; Linux: 32768 up). With one of these, a client
/// that tries again and again would sooner or later connect to itself, and hold the port.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    loop {
        // another test's process begins elsewhere
        let n = std::process::id().wrapping_mul(101) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + n % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running `tandem up` on a data folder of its own. Dropping it kills the process.
pub struct Up {
    /// Where it listens.
    pub port: u16,
    dir: TempDir,
    args: Vec<String>,
    child: Option<Child>,
}

impl Up {
    /// Starts it on an empty folder and waits until it is ready.
    pub fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        let mut up = Self {
            port,
            dir,
            args,
            child: None,
        };
        up.restart();
        up
    }

    /// Starts it again after it was killed, on the same folder and port, and waits until it is ready.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "still running");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("up.log"))
            .expect("a log file");
        let mut command = Command::new(program());
        command
            .args(["up", "--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        self.child = Some(command.spawn().expect("the program starts"));
        let start = Instant::now();
        while !self.ready() {
            let ended = self
                .child
                .as_mut()
                .expect("a child")
                .try_wait()
                .expect("its state");
            assert!(ended.is_none(), "up ended with {ended:?}:\n{}", self.log());
            assert!(start.elapsed() < START, "up is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the process can be killed");
            child.wait().expect("the process ends");
        }
    }

    /// SIGTERM, and its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        signal("TERM", child.id());
        child.wait().expect("the process ends").code()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The URL that clients take.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    fn ready(&self) -> bool {
        self.http("GET", "/readyz", "")
            .is_some_and(|r| r.starts_with("HTTP/1.1 200"))
    }

    /// A request by hand: the whole answer, head and body; `None` if nobody listens.
    pub fn http(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The sum of a metric's series whose line contains all of `with`.
    pub fn metric(&self, name: &str, with: &[&str]) -> f64 {
        let answer = self.http("GET", "/metrics", "").unwrap_or_default();
        let series = answer.lines().filter(|l| {
            l.starts_with(name)
                && l[name.len()..].starts_with(['{', ' '])
                && with.iter().all(|w| l.contains(w))
        });
        series
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Runs a subcommand of the program and returns its exit code, output and errors.
    pub fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        run(args, &[("TANDEM_SERVER", &self.url())])
    }

    /// Starts a subcommand of the program, which talks to this server.
    pub fn spawn(&self, args: &[&str]) -> Process {
        Process::start(args, &[("TANDEM_SERVER", &self.url())])
    }
}

/// Runs the program to its end, and returns its exit code, output and errors.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(program())
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The program at work, with an input that stays open. Dropping it kills the process.
pub struct Process {
    dir: TempDir,
    child: Child,
}

impl Process {
    /// Starts it.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| fs::File::create(dir.path().join(name)).expect("a file");
        let child = Command::new(program())
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .expect("the program starts");
        Self { dir, child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap_or_default()
    }

    /// What it complained of so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap_or_default()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its state")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let (output, errors) = (self.output(), self.errors());
            eprintln!("what process {} wrote:\n{output}{errors}", self.pid());
        }
    }
}

/// Waits until `seen` says so, and gives what it saw.
pub fn wait_for<T>(what: &str, patience: Duration, mut seen: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(start.elapsed() < patience, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let log = std::thread::panicking().then(|| self.log());
        self.kill();
        if let Some(log) = log {
            eprintln!("what up wrote:\n{log}");
        }
    }
}

/// Sends a signal by name.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|s| s.success()), "kill -{name} {pid}");
}
