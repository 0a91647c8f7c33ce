//! A real ComfyUI server of our own on loopback, and its HTTP interface.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::png;
use super::workflow::saved_image;
use crate::comfyui;
use crate::paths::Paths;
use crate::progress::{Step, show_tail};
use crate::run::{Group, Program, TemporaryFolder};

const START_LIMIT: Duration = Duration::from_secs(300);
const PROMPT_LIMIT: Duration = Duration::from_secs(600);
/// Memory is at rest when three looks in a row, this far apart, agree within [`REST_BYTES`].
const REST_PAUSE: Duration = Duration::from_millis(300);
const REST_BYTES: u64 = 4 << 20;
const REST_LIMIT: Duration = Duration::from_secs(20);

/// A running server. It ends, and its folder is removed, when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    group: Group,
    agent: ureq::Agent,
    pub(super) address: String,
    log: PathBuf,
    /// Declared last: the folder goes when the server has ended.
    _base: TemporaryFolder,
}

/// What one prompt left behind.
#[derive(Debug)]
pub(super) struct Finished {
    /// The node outputs of the history.
    pub(super) outputs: Value,
    pub(super) pixels: Vec<u8>,
    /// Memory of the process afterwards, read from outside. `None`: this system does not say.
    pub(super) resident: Option<u64>,
}

impl Server {
    /// Starts a server, with MemSweep as a node pack or without it.
    pub(super) fn start(paths: &Paths, with_pack: bool, port: Option<u16>) -> Result<Self> {
        let name = if with_pack { "with" } else { "without" };
        let mut step = Step::begin(&format!("Starting ComfyUI {name} MemSweep"));
        let base = TemporaryFolder::create(&paths.cache.join("demo"), name)?;
        lay_out(paths, base.path(), with_pack)?;
        let port = match port {
            Some(port) => port,
            None => free_port()?,
        };
        let log = paths.logs().join(format!("demo-{name}.log"));
        let group = Program::new(paths.python(), base.path())
            .arg(paths.comfyui(comfyui::CURRENT).join("main.py"))
            .args(["--cpu", "--listen", "127.0.0.1", "--port", &port.to_string()])
            .args(["--database-url", "sqlite:///:memory:", "--disable-api-nodes"])
            .arg("--base-directory")
            .arg(base.path())
            .start_logged(&log)?;
        let address = format!("http://127.0.0.1:{port}");
        let mut server = Self { group, agent: agent(), address, log, _base: base };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            server.check_alive()?;
            if server.get("/queue").is_ok() {
                break;
            }
            if Instant::now() > deadline {
                show_tail(&server.log);
                bail!("ComfyUI did not answer in {} s", START_LIMIT.as_secs());
            }
            step.tick(&String::new);
            thread::sleep(Duration::from_millis(200));
        }
        step.finish("ready");
        Ok(server)
    }

    /// Runs a prompt to its end.
    pub(super) fn run(&mut self, prompt: &Value) -> Result<Finished> {
        let answer = self.post("/prompt", &json!({ "prompt": prompt, "client_id": "demo" }))?;
        let id = answer
            .get("prompt_id")
            .and_then(Value::as_str)
            .ok_or_else(|| anyhow!("ComfyUI refused the prompt: {answer}"))?
            .to_owned();
        let entry = self.wait(&id)?;
        let status = entry["status"]["status_str"].as_str();
        if status != Some("success") {
            bail!("the prompt failed: {}", failure(&entry));
        }
        let outputs = entry["outputs"].clone();
        let pixels = self.image(&outputs)?;
        Ok(Finished { outputs, pixels, resident: self.resident_at_rest() })
    }

    /// ComfyUI's own way to free memory.
    pub(super) fn free(&mut self) -> Result<Option<u64>> {
        self.post("/free", &json!({ "unload_models": true, "free_memory": true }))?;
        // It is served by another thread, which says nothing when it is done.
        thread::sleep(Duration::from_secs(2));
        Ok(self.resident_at_rest())
    }

    /// Memory of the process once it stopped changing.
    pub(super) fn resident_at_rest(&self) -> Option<u64> {
        let deadline = Instant::now() + REST_LIMIT;
        let mut seen = vec![self.resident()?];
        loop {
            thread::sleep(REST_PAUSE);
            seen.push(self.resident()?);
            let last: Vec<u64> = seen.iter().rev().take(3).copied().collect();
            let spread = last.iter().max()?.saturating_sub(*last.iter().min()?);
            if last.len() == 3 && spread <= REST_BYTES || Instant::now() > deadline {
                return seen.pop();
            }
        }
    }

    /// `VmRSS`; Linux only.
    fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.group.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// Returns when the server has ended by itself.
    pub(super) fn wait_for_end(&mut self) -> Result<()> {
        self.group.wait()?;
        show_tail(&self.log);
        bail!("ComfyUI ended by itself")
    }

    fn wait(&mut self, id: &str) -> Result<Value> {
        let deadline = Instant::now() + PROMPT_LIMIT;
        loop {
            let mut history = self.get(&format!("/history/{id}"))?;
            if let Some(entry) = history.get_mut(id) {
                return Ok(entry.take());
            }
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!("a prompt took longer than {} s", PROMPT_LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.group.ended()? {
            show_tail(&self.log);
            bail!("ComfyUI ended by itself ({status}); its log is {}", self.log.display());
        }
        Ok(())
    }

    fn image(&self, outputs: &Value) -> Result<Vec<u8>> {
        let [name, folder, kind] = saved_image(outputs).context("the prompt saved no image")?;
        let mut response = self
            .agent
            .get(format!("{}/view", self.address))
            .query("filename", name)
            .query("subfolder", folder)
            .query("type", kind)
            .call()
            .context("fetching the image")?;
        png::pixels(&response.body_mut().read_to_vec().context("reading the image")?)
    }

    fn get(&self, path: &str) -> Result<Value> {
        let mut response =
            self.agent.get(format!("{}{path}", self.address)).call().context("asking ComfyUI")?;
        let text = response.body_mut().read_to_string().context("reading ComfyUI's answer")?;
        serde_json::from_str(&text).context("reading ComfyUI's answer")
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut response = self
            .agent
            .post(format!("{}{path}", self.address))
            .header("Content-Type", "application/json")
            .send(body.to_string())
            .context("asking ComfyUI")?;
        let text = response.body_mut().read_to_string().context("reading ComfyUI's answer")?;
        // `/free` answers with an empty body.
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        // A refused prompt says why in its body.
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        // Loopback never goes through a proxy.
        .proxy(None)
        .build()
        .into()
}

/// Node, exception and message of a failed prompt.
fn failure(entry: &Value) -> String {
    let messages = entry["status"]["messages"].as_array();
    let error = messages.into_iter().flatten().find(|message| message[0] == "execution_error");
    match error {
        Some(message) => format!(
            "{}: {}: {}",
            message[1]["node_type"], message[1]["exception_type"], message[1]["exception_message"]
        ),
        None => entry["status"].to_string(),
    }
}

/// The base folder of a server: the pack, the checkpoints and empty folders.
fn lay_out(paths: &Paths, base: &Path, with_pack: bool) -> Result<()> {
    for folder in ["custom_nodes", "models/checkpoints", "input", "output", "temp", "user"] {
        fs::create_dir_all(base.join(folder)).context("creating the server's folders")?;
    }
    if with_pack {
        link_folder(&paths.root, &base.join("custom_nodes/memsweep"))?;
    }
    for name in ["small", "full"] {
        let checkpoint = paths.checkpoint(name);
        if checkpoint.is_file() {
            let target = base.join("models/checkpoints").join(format!("{name}.safetensors"));
            // Another name for the same file: a link needs no right and no room.
            fs::hard_link(&checkpoint, &target)
                .with_context(|| format!("linking {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link_folder(from: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(from, to).context("linking the node pack")
}

#[cfg(not(unix))]
fn link_folder(from: &Path, to: &Path) -> Result<()> {
    std::os::windows::fs::symlink_dir(from, to)
        .context("linking the node pack (Windows: needs developer mode)")
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_node_and_the_exception() {
        let error = json!(["execution_error", {
            "node_type": "KSampler", "exception_type": "IndexError", "exception_message": "no",
        }]);
        let entry = json!({ "status": { "messages": [["execution_start", {}], error] } });
        assert_eq!(failure(&entry), "\"KSampler\": \"IndexError\": \"no\"");
    }

    #[test]
    fn a_server_folder_holds_the_pack_only_when_asked() {
        let base = TemporaryFolder::create(&std::env::temp_dir(), "xtask-layout").unwrap();
        let paths = Paths { root: base.path().to_path_buf(), cache: base.path().join("cache") };
        lay_out(&paths, &base.path().join("without"), false).unwrap();
        lay_out(&paths, &base.path().join("with"), true).unwrap();
        assert!(!base.path().join("without/custom_nodes/memsweep").exists());
        assert!(base.path().join("with/custom_nodes/memsweep").is_dir());
    }
}
