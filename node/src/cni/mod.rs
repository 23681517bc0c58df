//! The CNI plugin: a chained one, versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0 of the specification.
//!
//! It stands at the end of a chain, when the pod has its interfaces and addresses and no process yet. At ADD it
//! registers the pod by its network namespace and passes the result of the plugins before it on, byte for byte.
//! With the agent away it does all by itself.

mod config;
mod environment;
mod failure;
mod pod;

use std::time::Duration;

use mesh_runtime::{PodFault, PodSelector, Runtime};
use serde_json::json;

pub use config::Site;
use config::{Config, LATEST, SUPPORTED};
pub use environment::Environment;
pub use failure::Failure;

use crate::admit::{Admission, admit};
use crate::wire::{self, Reply, Request};

/// The name that it is called by, in a network's configuration and as a program.
pub const NAME: &str = "meshc-cni";

/// The agent answers at once or is not waited for: a pod waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the instance that a network's configuration names.
pub type Open<'a> = &'a dyn Fn(&Site) -> Result<Runtime, Failure>;

/// Puts into words in what a pod is not as it should be.
pub type Wording = fn(&PodFault) -> String;

/// What a call answers its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub output: String,
    /// For standard error, which container runtimes keep: a line each.
    pub log: Vec<String>,
    /// Whether to exit with 0.
    pub success: bool,
}

/// Answers one call of a container runtime; `input` is what came on standard input.
pub fn call(environment: &Environment, input: &[u8], open: Open<'_>, wording: Wording) -> Answer {
    let mut log = Vec::new();
    let (version, result) = answer(environment, input, open, wording, &mut log);
    let success = result.is_ok();
    let output = result.unwrap_or_else(|failure| {
        log.push(format!("{NAME}: {}: {failure}", environment.command));
        failure.object(&version)
    });
    Answer { output, log, success }
}

/// The version to answer in, and the answer.
fn answer(
    environment: &Environment,
    input: &[u8],
    open: Open<'_>,
    wording: Wording,
    log: &mut Vec<String>,
) -> (String, Result<String, Failure>) {
    // A caller asks for the versions with whatever environment and configuration it has.
    if environment.command == "VERSION" {
        let version = config::version(input).unwrap_or_else(|| LATEST.into());
        return (
            version.clone(),
            Ok(json!({ "cniVersion": version, "supportedVersions": SUPPORTED }).to_string()),
        );
    }
    match Config::read(input) {
        Ok(config) => {
            let version = config.version.clone();
            (version, Call { environment, config, open, wording }.run(log))
        }
        Err(failure) => (config::version(input).unwrap_or_else(|| LATEST.into()), Err(failure)),
    }
}

/// A call whose configuration was understood.
struct Call<'a> {
    environment: &'a Environment,
    config: Config<'a>,
    open: Open<'a>,
    wording: Wording,
}

impl Call<'_> {
    fn run(&self, log: &mut Vec<String>) -> Result<String, Failure> {
        match self.environment.command.as_str() {
            "ADD" => self.add(log),
            "DEL" => self.del().map(|()| String::new()),
            "CHECK" if self.config.is_before((0, 4)) => Err(self.too_old()),
            "CHECK" => self.check().map(|()| String::new()),
            "GC" | "STATUS" if self.config.is_before((1, 1)) => Err(self.too_old()),
            "GC" => self.collect().map(|()| String::new()),
            "STATUS" => self.status().map(|()| String::new()),
            other => Err(Failure::environment(format!("CNI_COMMAND is `{other}`"))),
        }
    }

    fn too_old(&self) -> Failure {
        let (command, version) = (&self.environment.command, &self.config.version);
        Failure::version(format!("version {version} of the specification has no {command}"))
    }

    fn runtime(&self) -> Result<Runtime, Failure> {
        (self.open)(&self.config.site)
    }

    /// What the agent answers; `None` where it is away, and the plugin does it alone.
    fn ask(&self, runtime: &Runtime, request: &Request) -> Option<Reply> {
        wire::ask(&runtime.instance().socket(), request, PATIENCE, Some(runtime.clock())).ok()
    }

    fn add(&self, log: &mut Vec<String>) -> Result<String, Failure> {
        let pod = pod::of(self.environment, &self.config)?;
        let runtime = self.runtime()?;
        let admission = match self.ask(&runtime, &Request::Attach(Box::new(pod.clone()))) {
            Some(Reply::Admission(admission)) => admission,
            _ => admit(&runtime, &pod),
        };
        if let Admission::Failed { start, code, message, help, again } = admission {
            let failure = Failure::attach(&pod.name, &code, &message, help, again);
            if !start {
                return Err(failure);
            }
            log.push(format!("{NAME}: ADD: {failure}; it starts outside the mesh, as the policy says"));
        }
        Ok(self.config.result())
    }

    /// The pod may be half attached, detached already, or its namespace gone: each ends in nothing left.
    fn del(&self) -> Result<(), Failure> {
        let which = PodSelector::Container {
            container: self.environment.container()?.into(),
            interface: Some(self.environment.interface()?.into()),
            netns: self.environment.netns(),
        };
        let runtime = self.runtime()?;
        if let Some(Reply::Detached(_)) = self.ask(&runtime, &Request::Detach(which.clone())) {
            return Ok(());
        }
        runtime.detach(&which).map(drop).map_err(|error| Failure::runtime(&error))
    }

    fn check(&self) -> Result<(), Failure> {
        let netns = self.environment.netns();
        let which = PodSelector::Container {
            container: self.environment.container()?.into(),
            interface: Some(self.environment.interface()?.into()),
            netns: Some(netns.ok_or_else(|| Failure::environment("CNI_NETNS is empty".into()))?),
        };
        let wrong = self.runtime()?.check(&which).map_err(|error| Failure::runtime(&error))?;
        let wrong: Vec<String> = wrong.iter().map(self.wording).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Failure::wrong(&wrong.join("; "))) }
    }

    /// Removes what this network attached and its caller does not know any more.
    fn collect(&self) -> Result<(), Failure> {
        let Some(valid) = &self.config.valid else {
            return Err(Failure::config("there is no `cni.dev/valid-attachments`".into()));
        };
        let runtime = self.runtime()?;
        for pod in runtime.pods().map_err(|error| Failure::runtime(&error))? {
            let Some(sandbox) = pod.sandbox else { continue };
            for (interface, joined) in sandbox.interfaces {
                let is_valid =
                    |one: &config::Valid| one.container == sandbox.container && one.interface == interface;
                if joined.network == self.config.network && !valid.iter().any(is_valid) {
                    let container = sandbox.container.clone();
                    let which = PodSelector::Container {
                        container,
                        interface: Some(interface),
                        netns: pod.netns.clone(),
                    };
                    runtime.detach(&which).map_err(|error| Failure::runtime(&error))?;
                }
            }
        }
        Ok(())
    }

    /// Whether a pod could be attached now.
    fn status(&self) -> Result<(), Failure> {
        let runtime = self.runtime()?;
        let not_now = |error: mesh_runtime::Error| Failure::unavailable(error.to_string(), error.help());
        runtime.preflight().map_err(not_now)?;
        match runtime.awaits_restore().map_err(not_now)? {
            None => Ok(()),
            Some(_) => Err(Failure::unavailable(
                "the policy that was live before this boot is not restored yet".into(),
                "`meshc restore`, or the agent, brings it back".into(),
            )),
        }
    }
}
