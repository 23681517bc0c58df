//! What the plugin and the command line say to the agent: over a Unix socket that only root may use, one line
//! of JSON each way, with a version. Whoever does not understand the other's version does without.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mesh_runtime::{Pod, PodSelector};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admit::Admission;

/// The version of these messages.
pub const VERSION: u32 = 1;

/// A longer line is not read.
const LONGEST: u64 = 1 << 20;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Attach a pod, or say whether it may start without.
    Attach(Box<Pod>),
    /// Take a pod out.
    Detach(PodSelector),
    /// How the agent does.
    Report,
    /// Take over from whoever applied what is live.
    Resume,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// To [`Request::Attach`].
    Admission(Admission),
    /// To [`Request::Detach`]: whether it was there.
    Detached(bool),
    /// To [`Request::Report`].
    Report(Report),
    /// To [`Request::Resume`]: the generation that the agent made live, where it had waited.
    Resumed(Option<u64>),
    /// It could not be done.
    Refused {
        /// A word for scripts.
        code: String,
        /// Why not.
        message: String,
    },
}

/// How the agent does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its process.
    pub pid: u32,
    /// The directory that its policy is from.
    pub directory: Option<String>,
    /// Why the policy in the directory is not what is live; none where it is.
    pub refused: Option<String>,
    /// Why what is known of the cluster is old; none where it is not.
    #[serde(default)]
    pub cluster: Option<String>,
    /// It waits for `meshc resume`, since somebody at the command line applied what is live.
    pub waiting: bool,
}

/// A message with its version.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    /// Milliseconds since boot until which the asking side waits for the answer. Later it must not be done any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    message: T,
}

/// Asks the agent, and waits so long for each part of its answer. With `now`, which is what [`Runtime::clock`] says,
/// it is not done after that time.
///
/// [`Runtime::clock`]: mesh_runtime::Runtime::clock
///
/// # Errors
/// Where nobody listens, it is no agent of this version, or it does not answer in time.
pub fn ask(socket: &Path, request: &Request, patience: Duration, now: Option<u64>) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    write(&mut stream, request, now.map(|now| now.saturating_add(patience)))?;
    receive(&stream)
}

/// Writes one message.
///
/// # Errors
/// Where the other end is gone.
pub fn send<T: Serialize>(stream: &mut UnixStream, message: &T) -> io::Result<()> {
    write(stream, message, None)
}

fn write<T: Serialize>(stream: &mut UnixStream, message: &T, until: Option<u64>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Envelope { version: VERSION, until, message })?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads one message.
///
/// # Errors
/// Where the other end is gone, silent, of another version, or says what this one does not understand.
pub fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<T> {
    receive_until(stream).map(|(message, _)| message)
}

/// The same, and until when whoever says it waits for an answer.
///
/// # Errors
/// As [`receive`].
pub fn receive_until<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<(T, Option<u64>)> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let Envelope { version, until, message } = serde_json::from_str::<Envelope<serde_json::Value>>(&line)
        .map_err(|error| invalid(format!("no message of an agent: {error}")))?;
    if version != VERSION {
        return Err(invalid(format!("messages of version {version}, not {VERSION}")));
    }
    let message = serde_json::from_value(message);
    Ok((message.map_err(|error| invalid(format!("an unknown message: {error}")))?, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(line: &str) -> Result<Request, String> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(line.as_bytes()).unwrap();
        drop(ours);
        receive(&theirs).map_err(|error| error.to_string())
    }

    #[test]
    fn a_message_of_another_version_is_not_guessed_at() {
        assert_eq!(heard("{\"version\":1,\"message\":\"report\"}\n"), Ok(Request::Report));
        assert_eq!(
            heard("{\"version\":2,\"message\":\"report\"}\n"),
            Err("messages of version 2, not 1".into())
        );
        assert!(heard("{\"version\":1,\"message\":\"dance\"}\n").is_err());
        assert!(heard("").is_err() && heard("GET / HTTP/1.0\r\n").is_err());
    }

    #[test]
    fn what_is_said_is_heard() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let pod = Pod { netns: "/run/netns/a".into(), name: "a".into(), ..Pod::default() };
        for request in [
            Request::Attach(Box::new(pod)),
            Request::Detach(PodSelector::Name(None, "a".into())),
            Request::Resume,
        ] {
            send(&mut ours, &request).unwrap();
            assert_eq!(receive::<Request>(&theirs).unwrap(), request);
        }
    }
}
