//! The agent's socket: root asks, one request a connection.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_runtime::{Error, NEVER, Runtime};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::facts::Facts;
use super::{Ask, Log};
use crate::admit::{Admission, admit_before};
use crate::wire::{self, Reply, Request};

/// A client that says nothing is not listened to for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long somebody who resumes waits for the apply.
const APPLYING: Duration = Duration::from_secs(60);

/// What every connection needs.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) runtime: Arc<Runtime>,
    pub(super) facts: Arc<Mutex<Facts>>,
    pub(super) log: Arc<Log>,
    pub(super) asks: Sender<Ask>,
    pub(super) bell: Arc<UnixStream>,
}

/// That this is the instance's only agent, as long as it is kept.
pub(super) fn alone(socket: &Path) -> io::Result<File> {
    if let Some(folder) = socket.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let lock = socket.with_extension("lock");
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    // One of a version before may be open to whoever wants to lock it.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::other("another agent of this instance runs")),
        Err(error) => Err(error.into()),
    }
}

/// Listens. What a killed predecessor left in the way is removed: nobody listens there.
pub(super) fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers whoever connects, each on a thread of its own: an apply does not keep a pod waiting.
pub(super) fn serve(listener: UnixListener, desk: Desk) -> io::Result<()> {
    std::thread::Builder::new().name("socket".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let desk = desk.clone();
            // Without a thread nobody answers, and the plugin does it alone.
            let _ = std::thread::Builder::new().name("request".into()).spawn(move || {
                if let Err(error) = desk.attend(stream) {
                    desk.log.warn("a request was not answered", json!({ "error": error.to_string() }));
                }
            });
        }
    })?;
    Ok(())
}

impl Desk {
    fn attend(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
        if !peer.uid.is_root() {
            return Err(io::Error::other(format!("the user {} may not ask", peer.uid.as_raw())));
        }
        let reply = match wire::hear_until::<Request>(&stream) {
            Ok((request, until)) => self.answer(request, until.unwrap_or(NEVER)),
            Err(error) => Reply::Refused { code: "message".into(), message: error.to_string() },
        };
        wire::say(&mut stream, &reply)
    }

    fn answer(&self, request: Request, until: u64) -> Reply {
        match request {
            Request::Attach(pod) => {
                let Some(admission) = admit_before(&self.runtime, &pod, until) else {
                    return self.too_late(&json!({ "attach": pod.name }));
                };
                self.note(&pod, &admission);
                Reply::Admission(admission)
            }
            Request::Detach(which) => match self.runtime.detach_before(&which, until) {
                Err(Error::TooLate) => self.too_late(&json!({ "detach": which })),
                Ok(was_there) => {
                    self.count(|facts| facts.detached += u64::from(was_there));
                    self.log.info("pod detached", json!({ "which": which, "was_there": was_there }));
                    Reply::Detached(was_there)
                }
                Err(error) => Reply::Refused { code: error.code().into(), message: error.to_string() },
            },
            Request::Report => {
                let report = self.facts.lock().map(|facts| facts.report.clone());
                Reply::Report(report.unwrap_or_default())
            }
            Request::Resume => self.resume(),
        }
    }

    /// Whoever asked did it alone meanwhile, and may have undone it since.
    fn too_late(&self, what: &serde_json::Value) -> Reply {
        self.log.warn("a request came too late, and was not carried out", what.clone());
        Reply::Refused { code: Error::TooLate.code().into(), message: Error::TooLate.to_string() }
    }

    fn resume(&self) -> Reply {
        let (answer, answered) = channel();
        let gone = |_| Reply::Refused { code: "busy".into(), message: "the agent is busy or ends".into() };
        if self.asks.send(Ask::Resume(answer)).is_err() {
            return gone(());
        }
        self.ring();
        answered.recv_timeout(APPLYING).unwrap_or_else(|_| gone(()))
    }

    fn ring(&self) {
        use std::io::Write;
        // A full bell rings already.
        let _ = (&*self.bell).write(&[1]);
    }

    fn note(&self, pod: &mesh_runtime::Pod, admission: &Admission) {
        let container = pod.attachment.as_ref().map(|attachment| &attachment.container);
        let who = json!({ "pod": pod.name, "namespace": pod.namespace, "container": container });
        let mut fields = who.as_object().cloned().unwrap_or_default();
        match admission {
            Admission::Attached { key, workload } => {
                self.count(|facts| facts.attached += 1);
                fields.extend([("key".into(), json!(key)), ("workload".into(), json!(workload))]);
                self.log.info("pod attached", fields.into());
            }
            Admission::Failed { start, code, message, help, .. } => {
                self.count(|facts| if *start { facts.let_in += 1 } else { facts.refused += 1 });
                fields.extend([
                    ("starts_outside".into(), json!(start)),
                    ("code".into(), json!(code)),
                    ("error".into(), json!(message)),
                    ("help".into(), json!(help)),
                ]);
                self.log.error("pod cannot be in the mesh", fields.into());
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut Facts)) {
        if let Ok(mut facts) = self.facts.lock() {
            change(&mut facts);
        }
    }
}
