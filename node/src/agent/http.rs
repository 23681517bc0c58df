//! Health, readiness and metrics over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_runtime::{Runtime, State};
use tiny_http::{Header, Method, Response, Server};

use super::facts::Facts;
use super::metrics::Metrics;

/// What the pages are made of.
struct Desk {
    runtime: Arc<Runtime>,
    facts: Arc<Mutex<Facts>>,
    interval: Duration,
    metrics: Metrics,
}

/// Answers at an address, which is returned with the port that port 0 became.
pub(super) fn serve(
    address: SocketAddr,
    runtime: Arc<Runtime>,
    facts: Arc<Mutex<Facts>>,
    interval: Duration,
) -> io::Result<SocketAddr> {
    let server = Server::http(address).map_err(|error| io::Error::other(format!("{address}: {error}")))?;
    let bound = server.server_addr().to_ip().unwrap_or(address);
    let mut desk = Desk { runtime, facts, interval, metrics: Metrics::default() };
    std::thread::Builder::new().name("http".into()).spawn(move || {
        for request in server.incoming_requests() {
            let (code, text) = match (request.method(), request.url()) {
                (Method::Get | Method::Head, "/healthz") => desk.health(),
                (Method::Get | Method::Head, "/readyz") => desk.readiness(),
                (Method::Get | Method::Head, "/metrics") => desk.metrics(),
                (Method::Get | Method::Head, _) => (404, "/healthz, /readyz, /metrics\n".into()),
                _ => (405, "only GET\n".into()),
            };
            let mut response = Response::from_string(text).with_status_code(code);
            if let Ok(kind) = Header::from_bytes("Content-Type", "text/plain; version=0.0.4; charset=utf-8") {
                response.add_header(kind);
            }
            // Whoever asked may have gone.
            let _ = request.respond(response);
        }
    })?;
    Ok(bound)
}

impl Desk {
    /// Whether the agent goes round: it has looked at everything not long ago.
    fn health(&self) -> (u16, String) {
        let looked = self.facts.lock().ok().and_then(|facts| facts.looked);
        let longest = self.interval * 3 + Duration::from_secs(30);
        match looked {
            Some(looked) if looked.elapsed() < longest => (200, "ok\n".into()),
            Some(looked) => (503, format!("stuck for {} s\n", looked.elapsed().as_secs())),
            None => (503, "starting\n".into()),
        }
    }

    /// Whether pods and units of this node are in the mesh as a policy says. An older policy is one: what the
    /// folder holds and is refused is told by the metrics, and by `meshc status`.
    fn readiness(&self) -> (u16, String) {
        let looked = self.facts.lock().is_ok_and(|facts| facts.looked.is_some());
        match self.runtime.head() {
            _ if !looked => (503, "starting\n".into()),
            Ok(head) if matches!(head.state, State::Active | State::Paused) => {
                (200, format!("{}: generation {}\n", head.state.word(), head.generation))
            }
            Ok(head) => {
                let why = self.facts.lock().ok().and_then(|facts| facts.report.refused.clone());
                (503, format!("no policy is live ({})\n{}\n", head.state.word(), why.unwrap_or_default()))
            }
            Err(error) => (503, format!("{error}\n")),
        }
    }

    fn metrics(&mut self) -> (u16, String) {
        match self.metrics.page(&self.runtime, &self.facts) {
            Ok(page) => (200, page),
            Err(error) => (500, format!("{error}\n")),
        }
    }
}
