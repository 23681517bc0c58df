//! The agent's socket: root asks, one request a connection.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use mesh_runtime::{Error, NEVER, Pod, PodSelector};
use rustix::fs::{FlockOperation, flock};
use tracing::{error, info, warn};

use super::state::Shared;
use crate::admit::{Admission, admit_before};
use crate::wire::{self, Reply, Request};

/// A client that says nothing is not listened to for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long somebody who resumes waits for the apply.
const APPLYING: Duration = Duration::from_secs(60);

/// What other threads ask the agent to do.
#[derive(Debug)]
pub(super) enum Command {
    Resume(Sender<Reply>),
}

/// What every connection needs.
#[derive(Clone)]
pub(super) struct SocketServer {
    pub(super) shared: Shared,
    pub(super) tx: Sender<Command>,
    pub(super) wake_tx: Arc<UnixStream>,
}

/// That this is the instance's only agent, as long as it is kept.
pub(super) fn alone(socket: &Path) -> io::Result<File> {
    if let Some(dir) = socket.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
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

impl SocketServer {
    /// Answers whoever connects, each on a thread of its own: an apply does not keep a pod waiting.
    pub(super) fn serve(&self, listener: UnixListener) -> io::Result<()> {
        let server = self.clone();
        std::thread::Builder::new().name("socket".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // Without a thread nobody answers, and the plugin does it alone.
                let _ = std::thread::Builder::new().name("request".into()).spawn(move || {
                    if let Err(error) = server.attend(stream) {
                        warn!(error = %error, "a request was not answered");
                    }
                });
            }
        })?;
        Ok(())
    }

    fn attend(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
        if !peer.uid.is_root() {
            return Err(io::Error::other(format!("the user {} may not ask", peer.uid.as_raw())));
        }
        let reply = match wire::receive_until::<Request>(&stream) {
            Ok((request, until)) => self.answer(request, until.unwrap_or(NEVER)),
            Err(error) => Reply::Refused { code: "message".into(), message: error.to_string() },
        };
        wire::send(&mut stream, &reply)
    }

    fn answer(&self, request: Request, until: u64) -> Reply {
        match request {
            Request::Attach(pod) => {
                let Some(admission) = admit_before(&self.shared.runtime, &pod, until) else {
                    return too_late("attach", &pod.name);
                };
                self.note(&pod, &admission);
                Reply::Admission(admission)
            }
            Request::Detach(which) => match self.shared.runtime.detach_before(&which, until) {
                Err(Error::TooLate) => too_late("detach", &named(&which)),
                Ok(was_there) => {
                    self.shared.change(|state| state.detached += u64::from(was_there));
                    info!(which = named(&which), was_there, "pod detached");
                    Reply::Detached(was_there)
                }
                Err(error) => Reply::Refused { code: error.code().into(), message: error.to_string() },
            },
            Request::Report => Reply::Report(self.shared.state().report),
            Request::Resume => self.resume(),
        }
    }

    fn resume(&self) -> Reply {
        let (answer, answered) = channel();
        let gone = |_| Reply::Refused { code: "busy".into(), message: "the agent is busy or ends".into() };
        if self.tx.send(Command::Resume(answer)).is_err() {
            return gone(());
        }
        self.wake();
        answered.recv_timeout(APPLYING).unwrap_or_else(|_| gone(()))
    }

    fn wake(&self) {
        use std::io::Write;
        // A full socket wakes already.
        let _ = (&*self.wake_tx).write(&[1]);
    }

    fn note(&self, pod: &Pod, admission: &Admission) {
        let container = pod.attachment.as_ref().map(|attachment| attachment.container.as_str());
        let (name, namespace) = (&pod.name, pod.namespace.as_deref());
        match admission {
            Admission::Attached { key, workload } => {
                self.shared.change(|state| state.attached += 1);
                let workload = workload.as_deref();
                info!(pod = name, namespace, container, key = %key, workload, "pod attached");
            }
            Admission::Failed { start, code, message, help, .. } => {
                self.shared.change(|state| if *start { state.let_in += 1 } else { state.refused += 1 });
                error!(
                    pod = name,
                    namespace,
                    container,
                    starts_outside = start,
                    code,
                    error = message,
                    help,
                    "pod cannot be in the mesh"
                );
            }
        }
    }
}

/// The pod, as whoever asks named it.
fn named(which: &PodSelector) -> String {
    match which {
        PodSelector::Key(key) => key.to_string(),
        PodSelector::Container { container, .. } => container.clone(),
        PodSelector::Netns(path) => path.display().to_string(),
        PodSelector::Name(namespace, name) => format!("{}/{name}", namespace.as_deref().unwrap_or_default()),
    }
}

/// Whoever asked did it alone meanwhile, and may have undone it since.
fn too_late(what: &str, pod: &str) -> Reply {
    warn!(what, pod, "a request came too late and was dropped");
    Reply::Refused { code: Error::TooLate.code().into(), message: Error::TooLate.to_string() }
}
