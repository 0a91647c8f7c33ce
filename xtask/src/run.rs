//! Runs programs: each in a process group of its own, so that nothing outlives us.
//!
//! A group is ended when its [`Group`] is dropped, when a step fails, and on Ctrl-C or a
//! termination signal (see [`end_everything_on_ctrl_c`]).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, bail};

use crate::progress::{Step, last_line, show_tail};

/// How long a program may take to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Running {
    groups: Vec<u32>,
    folders: Vec<PathBuf>,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { groups: Vec::new(), folders: Vec::new() });

/// Set on Ctrl-C: what fails from then on is no failure worth showing.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// True once we were asked to stop.
pub(crate) fn is_stopping() -> bool {
    STOPPING.load(Ordering::SeqCst)
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every group and removes every temporary folder when the user or the system stops us.
pub(crate) fn end_everything_on_ctrl_c() -> Result<()> {
    ctrlc::set_handler(|| {
        // The lock is kept until exit, so that nothing new can start meanwhile.
        let running = running();
        STOPPING.store(true, Ordering::SeqCst);
        let _ = writeln!(io::stderr(), "\nstopping ...");
        for group in &running.groups {
            signal(*group, Signal::Terminate);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && running.groups.iter().any(|group| is_alive(*group)) {
            thread::sleep(Duration::from_millis(50));
        }
        for group in &running.groups {
            signal(*group, Signal::Kill);
        }
        for folder in &running.folders {
            let _ = fs::remove_dir_all(folder);
        }
        std::process::exit(130);
    })
    .context("installing the Ctrl-C handler")
}

/// A running program and all that it starts.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    name: String,
}

impl Group {
    /// Starts a program in a new process group. Its standard input is empty.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        // The lock spans start and registration: Ctrl-C in between must not miss the child.
        let mut running = running();
        let child = command.spawn().with_context(|| format!("starting `{name}`"))?;
        running.groups.push(child.id());
        Ok(Self { child, name })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `Some` when the program has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("waiting for `{}`", self.name))
    }

    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("waiting for `{}`", self.name))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.child.id();
        signal(group, Signal::Terminate);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            // The leader must be reaped first, or its group counts as alive.
            let _ = self.child.try_wait();
            if !is_alive(group) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        signal(group, Signal::Kill);
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().groups.retain(|other| *other != group);
    }
}

#[derive(Clone, Copy, Debug)]
enum Signal {
    Terminate,
    Kill,
}

#[cfg(unix)]
fn signal(group: u32, signal: Signal) {
    let signal = match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    if let Some(pid) = unix_pid(group) {
        // An error means that nobody is left in the group.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

#[cfg(unix)]
fn is_alive(group: u32) -> bool {
    unix_pid(group).is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
}

#[cfg(unix)]
fn unix_pid(group: u32) -> Option<rustix::process::Pid> {
    i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw)
}

#[cfg(not(unix))]
fn signal(group: u32, signal: Signal) {
    if matches!(signal, Signal::Kill) {
        let _ = Command::new("taskkill")
            .args(["/T", "/F", "/PID", &group.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

#[cfg(not(unix))]
fn is_alive(_group: u32) -> bool {
    false
}

/// A folder that is removed on drop and on Ctrl-C.
#[derive(Debug)]
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Self> {
        let folder = parent.join(format!("{name}-{}", std::process::id()));
        running().folders.push(folder.clone());
        let made = Self(folder);
        fs::create_dir_all(&made.0).with_context(|| format!("creating {}", made.0.display()))?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        running().folders.retain(|folder| *folder != self.0);
    }
}

/// A program with its arguments, described once and run in one of several ways.
#[derive(Debug)]
pub(crate) struct Program {
    program: OsString,
    arguments: Vec<OsString>,
    /// `None` takes a variable away.
    environment: BTreeMap<OsString, Option<OsString>>,
    folder: PathBuf,
}

impl Program {
    pub(crate) fn new(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        Self {
            program: program.as_ref().to_os_string(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: folder.to_path_buf(),
        }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_os_string());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|one| one.as_ref().to_os_string()));
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = Some(value.as_ref().to_os_string());
        self.environment.insert(name.as_ref().to_os_string(), value);
        self
    }

    /// Does not hand a variable of ours on.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.insert(name.into(), None);
        self
    }

    pub(crate) fn envs<V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        variables.into_iter().fold(self, |program, (name, value)| program.env(name, value))
    }

    /// Runs it in another folder.
    pub(crate) fn inside(mut self, folder: &Path) -> Self {
        self.folder = folder.to_path_buf();
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Starts it with all output in a file.
    pub(crate) fn start_logged(&self, log: &Path) -> Result<Group> {
        let file = create_log(log)?;
        let same = file.try_clone().context("sharing the log file")?;
        Group::start(self.command().stdout(file).stderr(same))
    }

    /// Runs it quietly and returns what it printed on standard output, `None` when it failed.
    pub(crate) fn output(&self) -> Result<Option<String>> {
        let mut group = Group::start(self.command().stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let mut text = Vec::new();
        if let Some(mut pipe) = group.child.stdout.take() {
            pipe.read_to_end(&mut text).context("reading a program's output")?;
        }
        let status = group.wait()?;
        Ok(status.success().then(|| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Runs a long step quietly: a heading, the time that passes, and on failure the end of its
    /// log.
    pub(crate) fn run_step(&self, heading: &str, log: &Path) -> Result<()> {
        let mut step = Step::begin(heading);
        let mut group = self.start_logged(log)?;
        let status = loop {
            if let Some(status) = group.ended()? {
                break status;
            }
            step.tick(&|| last_line(log));
            thread::sleep(Duration::from_millis(100));
        };
        if status.success() {
            step.finish("done");
            return Ok(());
        }
        step.finish("FAILED");
        show_tail(log);
        bail!("{} failed ({status}); its log is {}", heading.trim(), log.display())
    }

    /// Runs it with its output on the screen, and returns that output too.
    pub(crate) fn run_shown(&self) -> Result<(ExitStatus, Vec<String>)> {
        self.run_reading(|line| {
            print!("{line}");
            let _ = io::stdout().flush();
        })
    }

    /// Runs it quietly, and returns both its output and its errors.
    pub(crate) fn run_captured(&self) -> Result<(ExitStatus, Vec<String>)> {
        self.run_reading(|_| {})
    }

    fn run_reading(&self, each: impl Fn(&str)) -> Result<(ExitStatus, Vec<String>)> {
        let (reader, writer) = io::pipe().context("creating a pipe")?;
        let same = writer.try_clone().context("sharing a pipe")?;
        let mut group = Group::start(self.command().stdout(writer).stderr(same))?;
        let received = read_lines(reader);
        let mut lines = Vec::new();
        let mut show = |line: Vec<u8>| {
            let line = String::from_utf8_lossy(&line);
            each(&line);
            lines.push(line.trim_end().to_owned());
        };
        let status = loop {
            match received.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => show(line),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = group.ended()? {
                        break status;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break group.wait()?,
            }
        };
        // What the program left behind is ended here; something that hid in a session of its own
        // may still hold the pipe, so the wait for the last lines is bounded.
        drop(group);
        while let Ok(line) = received.recv_timeout(Duration::from_millis(500)) {
            show(line);
        }
        Ok((status, lines))
    }
}

fn read_lines(reader: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(1..) if sender.send(line).is_ok() => {}
                _ => return,
            }
        }
    });
    receiver
}

fn create_log(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    File::create(log).with_context(|| format!("creating {}", log.display()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh", &std::env::temp_dir()).args(["-c", script])
    }

    /// A dead process that nobody has waited for yet does not run.
    fn runs(id: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    #[test]
    fn a_dropped_group_takes_its_grandchildren_with_it() {
        // The shell prints the grandchild's id, then waits for it.
        let mut group =
            Group::start(shell("sleep 600 & echo $!; wait").command().stdout(Stdio::piped()))
                .unwrap();
        let mut line = String::new();
        BufReader::new(group.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (child, grandchild) = (group.id(), line.trim().parse().unwrap());
        assert!(runs(child) && runs(grandchild));
        drop(group);
        assert!(!runs(child) && !runs(grandchild));
        assert!(!running().groups.contains(&child));
    }

    #[test]
    fn a_program_that_ignores_the_request_to_end_is_killed() {
        let mut group = Group::start(
            shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")
                .command()
                .stdout(Stdio::piped()),
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(group.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = group.id();
        drop(group);
        assert!(!runs(child));
    }

    #[test]
    fn shown_output_holds_both_streams_and_the_status() {
        let (status, lines) = shell("echo one; echo two >&2; exit 3").run_shown().unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn output_of_a_failing_program_is_none() {
        assert_eq!(shell("echo hello").output().unwrap().as_deref(), Some("hello\n"));
        assert_eq!(shell("echo hello; exit 1").output().unwrap(), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Program::new("no-such-program-xyz", Path::new("/")).output().unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-xyz"));
    }

    #[test]
    fn a_temporary_folder_is_gone_after_use() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-test").unwrap();
        let path = folder.path().to_path_buf();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
