//! Attaches a pod; where that fails, the policy says whether it may start all the same.

use mesh_runtime::{Error, NEVER, Pod, PodSelector, Runtime};
use serde::{Deserialize, Serialize};

/// What became of a pod that asked to be in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// It is attached. The workload is none where no policy is live or none selects it.
    Attached {
        /// How the programs know it.
        key: String,
        /// The workload that it falls under.
        workload: Option<String>,
    },
    /// It could not be attached.
    Failed {
        /// Whether it may start outside the mesh: `on failed-attach start`, or no workload selects it.
        start: bool,
        /// A word for scripts.
        code: String,
        /// Why not.
        message: String,
        /// What to do.
        help: String,
        /// Another try may succeed without anybody doing anything.
        again: bool,
    },
}

/// The node's own network namespace is no pod's.
const HOST_NETWORK: &str = "host-network";
/// Whoever is registered for the namespace is not to be taken out.
const OTHER_POD: &str = "other-pod";

/// Why a pod could not be attached, before the policy was asked.
struct Refusal {
    code: String,
    message: String,
    help: String,
    again: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            code: error.code().into(),
            message: error.to_string(),
            help: error.help(),
            again: error.class() == mesh_runtime::Class::Busy,
        }
    }
}

/// Attaches a pod. A failure is noted for `status`; a pod that must not start is not registered.
pub fn admit(runtime: &Runtime, pod: &Pod) -> Admission {
    match attach(runtime, pod, NEVER) {
        Ok((key, workload)) => Admission::Attached { key, workload },
        Err(why) => failed(runtime, pod, why),
    }
}

/// The same for one who waits until `deadline`; `None` where that has passed, and nothing was done.
pub fn admit_before(runtime: &Runtime, pod: &Pod, deadline: u64) -> Option<Admission> {
    match attach(runtime, pod, deadline) {
        Ok((key, workload)) => Some(Admission::Attached { key, workload }),
        Err(_) if runtime.clock() > deadline => None,
        Err(why) => Some(failed(runtime, pod, why)),
    }
}

fn failed(runtime: &Runtime, pod: &Pod, why: Refusal) -> Admission {
    // Where the policy cannot be read, the language's default holds. A pod of the node's own network is nobody that a
    // policy for pods speaks of: it is left alone, and named.
    let start = why.code == HOST_NETWORK || !runtime.refuses(pod).unwrap_or(true);
    if !start
        && why.code != OTHER_POD
        && let Some(attachment) = &pod.attachment
    {
        let which = PodSelector::Container {
            container: attachment.container.clone(),
            interface: Some(attachment.interface.clone()),
            netns: Some(pod.netns.clone()),
        };
        // What cannot be undone now is swept when the namespace ends.
        let _ = runtime.detach(&which);
    }
    let mut message = why.message;
    if let Err(error) = runtime.note_failed(pod, &message, start) {
        message = format!("{message} (and that cannot be noted: {error})");
    }
    Admission::Failed { start, code: why.code, message, help: why.help, again: why.again }
}

fn attach(runtime: &Runtime, pod: &Pod, deadline: u64) -> Result<(String, Option<String>), Refusal> {
    let attached = runtime.attach_before(pod, deadline)?;
    // It is registered, and would be a member as soon as the policy is restored: too late for its first process.
    if runtime.awaits_restore()?.is_some() {
        return Err(Refusal {
            code: "not-restored".into(),
            message: "the policy that was live before this boot is not restored yet".into(),
            help: "`meshc restore`, or the agent, brings it back".into(),
            again: true,
        });
    }
    Ok((attached.key.to_string(), attached.workload))
}
