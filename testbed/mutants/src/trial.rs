//! Runs the tests with one mistake at a time.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::Result;
use crate::compile::{Compiled, Workspace};

/// A test binary, and what it is told.
pub struct Step {
    pub package: String,
    target: String,
    arguments: Vec<String>,
}

/// A step that can run.
struct Ready<'a> {
    file: &'a Path,
    directory: &'a Path,
    arguments: &'a [String],
    /// The mistakes that it comes to.
    reached: BTreeSet<usize>,
    /// Longer than this and it does not end.
    patience: Duration,
}

impl Step {
    /// `PACKAGE:TARGET [ARGUMENT…]`.
    pub fn read(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace().map(String::from);
        let first = words.next().unwrap_or_default();
        let (package, target) = first.split_once(':').ok_or_else(|| format!("`{text}` names no test"))?;
        Ok(Self { package: package.into(), target: target.into(), arguments: words.collect() })
    }
}

/// Tries all, and returns those that no step noticed.
pub fn all(workspace: &Workspace<'_>, compiled: &Compiled, steps: &[Step]) -> Result<BTreeSet<usize>> {
    let ready: Vec<Ready<'_>> =
        steps.iter().map(|step| Ready::of(workspace, compiled, step)).collect::<Result<_>>()?;
    let left: Mutex<VecDeque<usize>> = Mutex::new(compiled.behind.iter().copied().collect());
    let next = || left.lock().ok().and_then(|mut left| left.pop_front());
    // An error ends the thread that has it.
    let try_some = || {
        let mut survivors = BTreeSet::new();
        while let Some(id) = next() {
            if !noticed(&ready, id).map_err(|error| error.to_string())? {
                survivors.insert(id);
            }
        }
        Ok::<_, String>(survivors)
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(try_some)).collect();
        let mut survivors = BTreeSet::new();
        for thread in threads {
            survivors.extend(thread.join().map_err(|_| "a thread panicked")??);
        }
        Ok(survivors)
    })
}

fn noticed(steps: &[Ready<'_>], id: usize) -> Result<bool> {
    for step in steps.iter().filter(|step| step.reached.contains(&id)) {
        let mut tests = step.command(&[("MESHC_MUTANT", id.to_string())]).spawn()?;
        if !passes(&mut tests, step.patience)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether tests end in time, and well.
fn passes(tests: &mut Child, patience: Duration) -> Result<bool> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = tests.try_wait()? {
            return Ok(status.success());
        }
        if begin.elapsed() > patience {
            tests.kill()?;
            tests.wait()?;
            return Ok(false);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

impl<'a> Ready<'a> {
    /// Runs it once without a mistake, to see which it comes to, and how long it takes.
    fn of(workspace: &Workspace<'_>, compiled: &'a Compiled, step: &'a Step) -> Result<Self> {
        let name = (step.package.clone(), step.target.clone());
        let found = compiled.tests.get(&name);
        let (file, directory) = found.ok_or_else(|| format!("{}:{} is no test", name.0, name.1))?;
        let mut ready = Self {
            file,
            directory,
            arguments: &step.arguments,
            reached: BTreeSet::new(),
            patience: Duration::MAX,
        };
        let trace = workspace.tree.join("target").join("reached");
        let _ = fs::remove_file(&trace);
        let begin = Instant::now();
        let values = [("MESHC_MUTANT", "trace".into()), ("MESHC_MUTANT_TRACE", trace.display().to_string())];
        if !ready.command(&values).status()?.success() {
            return Err(format!("{}:{} fails without a mistake", step.package, step.target).into());
        }
        ready.patience = begin.elapsed() * 10 + Duration::from_secs(20);
        let reached = fs::read_to_string(&trace).unwrap_or_default();
        ready.reached = reached.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(ready)
    }

    fn command(&self, values: &[(&str, String)]) -> Command {
        let mut command = Command::new(self.file);
        command.args(self.arguments).arg("--quiet").current_dir(self.directory);
        command.env("CARGO_MANIFEST_DIR", self.directory).env("RUST_BACKTRACE", "0");
        command.envs(values.iter().map(|(name, value)| (*name, value)));
        for name in env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_string_lossy().starts_with("MESHC_TEST_"))
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}
