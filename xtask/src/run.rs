//! Runs programs: each in a process group of its own, so that nothing outlives us.
//!
//! A group is ended when its [`Group`] is dropped, when a step fails, and on Ctrl-C or a
//! termination signal (see [`end_everything_on_ctrl_c`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, bail};
use process_wrap::std::{ChildWrapper, CommandWrap};

use crate::progress::{self, Step, last_line, show_tail};

/// How long a program may take to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is checked whether it has.
const PAUSE: Duration = Duration::from_millis(20);

/// A program with all that it starts. Shared with the handler of Ctrl-C, so nobody waits while
/// holding it.
type Child = Arc<Mutex<Box<dyn ChildWrapper>>>;

#[derive(Debug)]
struct Running {
    children: Vec<Child>,
    folders: Vec<PathBuf>,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { children: Vec::new(), folders: Vec::new() });

fn held<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every group and removes every temporary folder when the user or the system stops us.
pub(crate) fn end_everything_on_ctrl_c() -> Result<()> {
    ctrlc::set_handler(|| {
        // The lock is kept until exit, so that nothing new can start meanwhile.
        let running = held(&RUNNING);
        progress::stop();
        let _ = writeln!(io::stderr(), "\nstopping ...");
        end(&running.children);
        for folder in &running.folders {
            let _ = fs::remove_dir_all(folder);
        }
        std::process::exit(130);
    })
    .context("installing the Ctrl-C handler")
}

/// Asks the groups to end, gives them [`GRACE`], and ends what is left.
fn end(children: &[Child]) {
    for child in children {
        ask_to_end(&**held(child));
    }
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && children.iter().any(|child| is_alive(&mut **held(child))) {
        thread::sleep(PAUSE);
    }
    for child in children {
        // An error means that nobody is left.
        let _ = held(child).kill();
    }
}

#[cfg(unix)]
fn ask_to_end(child: &dyn ChildWrapper) {
    let _ = child.signal(rustix::process::Signal::TERM.as_raw());
}

/// Whether anybody of the group is left. Its leader must be reaped first, or it counts.
#[cfg(unix)]
fn is_alive(child: &mut dyn ChildWrapper) -> bool {
    let _ = child.try_wait();
    // A running process is not disturbed by it, and a stopped one can end now.
    child.signal(rustix::process::Signal::CONT.as_raw()).is_ok()
}

/// Windows has no such request: a job is ended immediately.
#[cfg(not(unix))]
fn ask_to_end(_child: &dyn ChildWrapper) {}

#[cfg(not(unix))]
fn is_alive(_child: &mut dyn ChildWrapper) -> bool {
    false
}

/// A running program and all that it starts.
#[derive(Debug)]
struct Group {
    child: Child,
    name: String,
}

impl Group {
    /// `Some` when the program has ended.
    fn ended(&self) -> Result<Option<ExitStatus>> {
        held(&self.child).try_wait().with_context(|| format!("waiting for `{}`", self.name))
    }

    fn wait(&self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
    }

    fn stdout(&self) -> Option<ChildStdout> {
        held(&self.child).stdout().take()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        end(std::slice::from_ref(&self.child));
        held(&RUNNING).children.retain(|other| !Arc::ptr_eq(other, &self.child));
    }
}

/// A folder that is removed on drop and on Ctrl-C.
#[derive(Debug)]
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Self> {
        let folder = parent.join(format!("{name}-{}", std::process::id()));
        held(&RUNNING).folders.push(folder.clone());
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
        held(&RUNNING).folders.retain(|folder| *folder != self.0);
    }
}

/// A program with its arguments, described once and run in one of several ways. Its standard input
/// is empty.
#[derive(Debug)]
pub(crate) struct Program(CommandWrap);

impl Program {
    pub(crate) fn new(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        let mut command = CommandWrap::with_new(program, |command| {
            command.current_dir(folder).stdin(Stdio::null());
        });
        #[cfg(unix)]
        command.wrap(process_wrap::std::ProcessGroup::leader());
        #[cfg(windows)]
        command.wrap(process_wrap::std::JobObject);
        Self(command)
    }

    pub(crate) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.command_mut().args(arguments);
        self
    }

    pub(crate) fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs([(name, value)])
    }

    pub(crate) fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.0.command_mut().envs(variables);
        self
    }

    /// Does not hand a variable of ours on.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.command_mut().env_remove(name);
        self
    }

    /// Runs it in another folder.
    pub(crate) fn inside(mut self, folder: &Path) -> Self {
        self.0.command_mut().current_dir(folder);
        self
    }

    fn start(mut self, stdout: Stdio, stderr: Stdio) -> Result<Group> {
        let command = self.0.command_mut();
        command.stdout(stdout).stderr(stderr);
        let name = command.get_program().to_string_lossy().into_owned();
        // The lock spans start and registration: Ctrl-C in between must not miss the child.
        let mut running = held(&RUNNING);
        let child = self.0.spawn().with_context(|| format!("starting `{name}`"))?;
        let child = Arc::new(Mutex::new(child));
        running.children.push(Arc::clone(&child));
        Ok(Group { child, name })
    }

    /// Runs it quietly and returns what it printed on standard output, `None` when it failed.
    pub(crate) fn output(self) -> Result<Option<String>> {
        let group = self.start(Stdio::piped(), Stdio::null())?;
        let mut text = Vec::new();
        if let Some(mut pipe) = group.stdout() {
            pipe.read_to_end(&mut text).context("reading a program's output")?;
        }
        let status = group.wait()?;
        Ok(status.success().then(|| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Runs a long step quietly: a heading, the time that passes, and on failure the end of its
    /// log.
    pub(crate) fn run_step(self, heading: &str, log: &Path) -> Result<()> {
        let status = self.run_logged(heading, "FAILED", log)?;
        if status.success() {
            return Ok(());
        }
        show_tail(log);
        bail!("{} failed ({status}); its log is {}", heading.trim(), log.display())
    }

    /// The same, where a failure is not an error; `failed` is the word for it.
    pub(crate) fn run_logged(self, heading: &str, failed: &str, log: &Path) -> Result<ExitStatus> {
        let mut step = Step::begin(heading);
        let file = create_log(log)?;
        let same = file.try_clone().context("sharing the log file")?;
        let group = self.start(file.into(), same.into())?;
        let status = loop {
            if let Some(status) = group.ended()? {
                break status;
            }
            step.tick(&|| last_line(log));
            thread::sleep(Duration::from_millis(100));
        };
        step.finish(if status.success() { "done" } else { failed });
        Ok(status)
    }

    /// Runs it with our own output and errors.
    pub(crate) fn run_here(self) -> Result<ExitStatus> {
        self.start(Stdio::inherit(), Stdio::inherit())?.wait()
    }

    /// Runs it with its output on the screen, and returns that output too.
    pub(crate) fn run_shown(self) -> Result<(ExitStatus, Vec<String>)> {
        self.run_reading(|line| {
            print!("{line}");
            let _ = io::stdout().flush();
        })
    }

    /// Runs it quietly, and returns both its output and its errors.
    pub(crate) fn run_captured(self) -> Result<(ExitStatus, Vec<String>)> {
        self.run_reading(|_| {})
    }

    fn run_reading(self, each: impl Fn(&str)) -> Result<(ExitStatus, Vec<String>)> {
        let (reader, writer) = io::pipe().context("creating a pipe")?;
        let same = writer.try_clone().context("sharing a pipe")?;
        let group = self.start(writer.into(), same.into())?;
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

#[allow(clippy::disallowed_methods, reason = "what hid from us may hold the pipe for ever")]
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh", &std::env::temp_dir()).args(["-c", script])
    }

    /// A running script, and the first line that it printed.
    fn started(script: &str) -> (Group, String) {
        let group = shell(script).start(Stdio::piped(), Stdio::null()).unwrap();
        let mut line = String::new();
        BufReader::new(group.stdout().unwrap()).read_line(&mut line).unwrap();
        (group, line)
    }

    /// A dead process that nobody has waited for yet does not run.
    fn runs(id: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    #[test]
    fn a_dropped_group_takes_its_grandchildren_with_it() {
        // The shell prints the grandchild's id, then waits for it.
        let (group, line) = started("sleep 600 & echo $!; wait");
        let (child, grandchild) = (held(&group.child).id(), line.trim().parse().unwrap());
        assert!(runs(child) && runs(grandchild));
        drop(group);
        assert!(!runs(child) && !runs(grandchild));
        assert!(held(&RUNNING).children.iter().all(|other| held(other).id() != child));
    }

    #[test]
    fn a_program_that_ignores_the_request_to_end_is_killed() {
        let (group, _) = started("trap '' TERM; echo ready; while :; do sleep 0.1; done");
        let child = held(&group.child).id();
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
