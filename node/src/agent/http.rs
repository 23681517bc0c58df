//! Health, readiness and metrics over HTTP/1.1, for probes and scrapers, and the page for people.
//!
//! One request a connection, which is closed after its answer. Everything has a bound, so that nobody who may connect
//! can keep others from an answer or make the agent grow: bytes and headers of a request, time, and connections at one
//! moment, of which the oldest goes for a new one. One thread moves all bytes and waits for none of them; metrics and
//! the page, which take longer the larger the policy is, are made by others. The servers that were looked at wait for one
//! client at a time (tiny_http), or bring an asynchronous runtime for a few pages and a stream; the requests are read by
//! `httparse`.
//!
//! What tells of the mesh is told under names that are this node's alone. A page from elsewhere may have its own name lead
//! here (DNS rebinding), and its scripts would read what is answered under that name: a browser says it in `Host`.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mesh_runtime::State;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::metrics::Metrics;
use super::state::Shared;
use super::web::{Decisions, Web, WebPage};

/// Connections at one moment.
const CONNECTIONS: usize = 64;
/// Bytes of a request: its line and headers.
const REQUEST: usize = 8 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;
/// From connecting to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client sends beyond its request is read and thrown away, so long, or a reset would overtake the answer.
const DRAINING: Duration = Duration::from_millis(500);

/// How many listen to decisions at one moment.
const STREAMS: usize = 8;
/// How long one listens before it has to ask again.
const STREAM: Duration = Duration::from_secs(24 * 3600);
/// A stream that has nothing to tell says so, so often: who has gone is noticed.
const BEAT: Duration = Duration::from_secs(5);
/// Bytes that may wait for somebody who listens and does not read.
const BEHIND: usize = 256 * 1024;
/// What a probe asks for: it tells nothing of the mesh, under any name.
const PROBED: [&str; 2] = ["/healthz", "/readyz"];
/// The answer under a name that is not this node's.
const STRANGER: &str = "this agent is not known by the name that was asked for (`Host`): ask for its address, or start it \
                        with `--allow-host NAME`\n";
/// What a browser may do with what is for the page.
const CAREFUL: &str =
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n";

/// Where the agent answers.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; with port 0 at a port that is free.
    pub address: SocketAddr,
    /// Names that this node has for those who ask, beside its addresses and `localhost`.
    pub names: Vec<String>,
}

/// An answer.
struct Answer {
    code: u16,
    kind: &'static str,
    /// Lines of its head, each with its end.
    head: String,
    body: String,
}

impl Answer {
    /// A page of text.
    fn text(code: u16, body: impl Into<String>) -> Self {
        Self { code, kind: CONTENT_TYPE, head: String::new(), body: body.into() }
    }
}

/// What the pages are made of.
struct Pages {
    shared: Shared,
    interval: Duration,
    /// Names of this node.
    names: Vec<String>,
}

/// Answers at an address, which is returned with the port that port 0 became.
pub(super) fn serve(
    Listen { address, names }: Listen,
    shared: &Shared,
    interval: Duration,
    web: Option<Web>,
) -> io::Result<SocketAddr> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    let listener = TcpListener::bind(address).map_err(named)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let mut metrics = Metrics::default();
    let measured = move |shared: &Shared| match metrics.page(shared) {
        Ok(page) => Answer::text(200, page),
        Err(error) => Answer::text(500, format!("{error}\n")),
    };
    let mut makers = vec![("/metrics", Maker::start("metrics", shared.clone(), Box::new(measured))?)];
    let mut decisions = None;
    if let Some(Web { mut page, mut live, decision }) = web {
        let paged = move |shared: &Shared| match page(&shared.runtime) {
            Ok(WebPage { html, policy }) => {
                let head = format!(
                    "{CAREFUL}Content-Security-Policy: {policy}; frame-ancestors 'none'\r\n\
                     X-Frame-Options: DENY\r\n"
                );
                Answer { code: 200, kind: "text/html; charset=utf-8", head, body: html }
            }
            Err(why) => Answer::text(503, format!("{why}\n")),
        };
        let told = move |shared: &Shared| match live(&shared.runtime) {
            Ok(body) => Answer { code: 200, kind: "application/json", head: CAREFUL.into(), body },
            Err(why) => Answer::text(503, format!("{why}\n")),
        };
        makers.push(("/", Maker::start("page", shared.clone(), Box::new(paged))?));
        makers.push(("/live", Maker::start("live", shared.clone(), Box::new(told))?));
        decisions = Some(Decisions::start(shared.clone(), decision)?);
    }
    let pages = Pages { shared: shared.clone(), interval, names };
    let beat = Instant::now();
    let server = Server { listener, pages, makers, decisions, connections: VecDeque::new(), beat };
    std::thread::Builder::new().name("http".into()).spawn(move || server.run())?;
    Ok(bound)
}

/// A thread that makes one of the pages: one at a time, for all who wait.
struct Maker {
    tx: SyncSender<()>,
    page_rx: Receiver<Answer>,
    /// Readable when a page is made.
    wake_rx: UnixStream,
    /// A page is being made.
    busy: bool,
}

impl Maker {
    fn start(
        name: &str,
        shared: Shared,
        mut make: Box<dyn FnMut(&Shared) -> Answer + Send>,
    ) -> io::Result<Self> {
        let (tx, rx) = sync_channel(1);
        let (page_tx, page_rx) = sync_channel(1);
        let (wake_rx, wake_tx) = UnixStream::pair()?;
        wake_rx.set_nonblocking(true)?;
        std::thread::Builder::new().name(name.into()).spawn(move || {
            while rx.recv().is_ok() {
                if page_tx.send(make(&shared)).is_err() || (&wake_tx).write_all(&[1]).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { tx, page_rx, wake_rx, busy: false })
    }

    /// Begins a page, unless one is being made.
    fn begin(&mut self) -> bool {
        let begins = !self.busy && self.tx.try_send(()).is_ok();
        self.busy |= begins;
        begins
    }

    /// The page that was made.
    fn end(&mut self) -> Option<Answer> {
        let _ = (&self.wake_rx).read(&mut [0; 8]);
        let page = self.page_rx.try_recv().ok()?;
        self.busy = false;
        Some(page)
    }
}

/// A connection, and how far it is.
struct Connection {
    stream: TcpStream,
    until: Instant,
    phase: Phase,
}

enum Phase {
    /// So much of the request is there.
    Asking(Vec<u8>),
    /// For a page that a thread makes: one that was begun after this was asked for, where `begun`.
    Waiting { maker: usize, begun: bool, bare: bool },
    /// This is to be written, and so much is.
    Answering(Vec<u8>, usize),
    /// What is still to be written of a stream.
    Streaming(Vec<u8>),
    /// The answer is written.
    Draining,
    /// Done, well or not.
    Over,
}

struct Server {
    listener: TcpListener,
    pages: Pages,
    /// By their paths.
    makers: Vec<(&'static str, Maker)>,
    /// Where there is a page for people.
    decisions: Option<Decisions>,
    connections: VecDeque<Connection>,
    /// When streams were last told something.
    beat: Instant,
}

impl Server {
    fn run(mut self) {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                // Interrupted, or out of memory for a moment.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            self.go_on(&ready);
            self.hand_out();
            self.stream();
            let now = Instant::now();
            self.connections
                .retain(|connection| connection.until > now && !matches!(connection.phase, Phase::Over));
            self.accept();
        }
    }

    /// Waits until somebody can go on; which of the connections.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let next = self.connections.iter().map(|connection| connection.until).min();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        // A page may be asked for when one is made, so this never waits long.
        let left = left.unwrap_or(PATIENCE).min(PATIENCE) + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
        watched.extend(self.makers.iter().map(|(_, maker)| PollFd::new(&maker.wake_rx, PollFlags::IN)));
        watched.extend(self.decisions.iter().map(|it| PollFd::new(&it.wake_rx, PollFlags::IN)));
        let others = watched.len();
        watched.extend(self.connections.iter().map(|connection| {
            let flags = match &connection.phase {
                Phase::Asking(_) | Phase::Draining => PollFlags::IN,
                Phase::Answering(..) => PollFlags::OUT,
                Phase::Streaming(left) if left.is_empty() => PollFlags::IN,
                Phase::Streaming(_) => PollFlags::IN | PollFlags::OUT,
                Phase::Waiting { .. } | Phase::Over => PollFlags::empty(),
            };
            PollFd::new(&connection.stream, flags)
        }));
        poll(&mut watched, Some(&timeout))?;
        Ok(watched.iter().skip(others).map(|one| !one.revents().is_empty()).collect())
    }

    fn accept(&mut self) {
        // As many as wait now: others come in the next round.
        for _ in 0..CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() == CONNECTIONS {
                self.connections.pop_front();
            }
            let until = Instant::now() + PATIENCE;
            self.connections.push_back(Connection { stream, until, phase: Phase::Asking(Vec::new()) });
        }
    }

    fn go_on(&mut self, ready: &[bool]) {
        let streams = self.connections.iter().filter(|one| matches!(one.phase, Phase::Streaming(_))).count();
        let mut room = self.decisions.is_some().then_some(STREAMS.saturating_sub(streams));
        for (connection, _) in self.connections.iter_mut().zip(ready).filter(|(_, ready)| **ready) {
            connection.go_on(&self.pages, &self.makers, &mut room);
        }
    }

    /// Tells what was decided to those who listen.
    fn stream(&mut self) {
        let Some(decisions) = &self.decisions else { return };
        let mut told: String =
            decisions.lines().into_iter().map(|line| format!("data: {line}\n\n")).collect();
        if told.is_empty() && self.beat.elapsed() >= BEAT {
            told.push_str(":\n\n");
        }
        if !told.is_empty() {
            self.beat = Instant::now();
        }
        let mut count = 0;
        for connection in &mut self.connections {
            if let Phase::Streaming(left) = &mut connection.phase {
                left.extend_from_slice(told.as_bytes());
                count += 1;
                if left.len() > BEHIND {
                    connection.phase = Phase::Over;
                }
            }
        }
        decisions.listened_by(count);
    }

    /// Gives a page that was made to those that waited for it, and begins one for those that came since.
    fn hand_out(&mut self) {
        for (at, (_, made_by)) in self.makers.iter_mut().enumerate() {
            if let Some(answer) = made_by.end() {
                for connection in &mut self.connections {
                    if let Phase::Waiting { maker, begun: true, bare } = connection.phase
                        && maker == at
                    {
                        connection.answer(&answer, bare);
                    }
                }
            }
            let waits =
                |phase: &Phase| matches!(phase, Phase::Waiting { maker, begun: false, .. } if *maker == at);
            if self.connections.iter().any(|connection| waits(&connection.phase)) && made_by.begin() {
                for connection in &mut self.connections {
                    if let Phase::Waiting { maker, begun, .. } = &mut connection.phase
                        && *maker == at
                    {
                        *begun = true;
                    }
                }
            }
        }
    }
}

impl Connection {
    /// `room`: how many more may listen; none where nobody may.
    fn go_on(&mut self, pages: &Pages, makers: &[(&'static str, Maker)], room: &mut Option<usize>) {
        match &mut self.phase {
            Phase::Asking(read) => {
                let mut piece = [0; 2048];
                match self.stream.read(&mut piece) {
                    Ok(0) => self.phase = Phase::Over,
                    Ok(count) => {
                        read.extend_from_slice(piece.get(..count).unwrap_or_default());
                        self.asked(pages, makers, room);
                    }
                    Err(error) => self.failed(&error),
                }
            }
            Phase::Answering(text, written) => {
                match self.stream.write(text.get(*written..).unwrap_or_default()) {
                    Ok(count) => {
                        *written += count;
                        if *written == text.len() {
                            let _ = self.stream.shutdown(Shutdown::Write);
                            self.until = self.until.min(Instant::now() + DRAINING);
                            self.phase = Phase::Draining;
                        }
                    }
                    Err(error) => self.failed(&error),
                }
            }
            Phase::Draining => match self.stream.read(&mut [0; 4096]) {
                Ok(0) => self.phase = Phase::Over,
                Ok(_) => {}
                Err(error) => self.failed(&error),
            },
            Phase::Streaming(left) => {
                let mut end = None;
                if !left.is_empty() {
                    match self.stream.write(left) {
                        Ok(count) => drop(left.drain(..count)),
                        Err(error) => end = Some(error),
                    }
                }
                match self.stream.read(&mut [0; 1024]) {
                    Ok(0) => self.phase = Phase::Over,
                    Ok(_) => {}
                    Err(error) => self.failed(&error),
                }
                if let Some(error) = end {
                    self.failed(&error);
                }
            }
            // It has gone while it waited.
            Phase::Waiting { .. } => self.phase = Phase::Over,
            Phase::Over => {}
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            self.phase = Phase::Over;
        }
    }

    /// Looks whether the request is there as a whole, and what it asks for.
    fn asked(&mut self, pages: &Pages, makers: &[(&'static str, Maker)], room: &mut Option<usize>) {
        let Phase::Asking(read) = &self.phase else { return };
        let (path, bare, hosts) = match Parsed::read(read) {
            Parsed::More => return,
            Parsed::Wrong(code, why) => return self.answer(&Answer::text(code, why), false),
            Parsed::Page { path, bare, hosts } => (path, bare, hosts),
        };
        let is_probe = PROBED.contains(&path.as_str());
        if !is_probe && !hosts.iter().all(|host| is_of_node(host, &pages.names)) {
            return self.answer(&Answer::text(403, STRANGER), bare);
        }
        if let Some(maker) = makers.iter().position(|(of, _)| *of == path) {
            self.phase = Phase::Waiting { maker, begun: false, bare };
            return;
        }
        let answer = match (path.as_str(), room) {
            ("/healthz", _) => pages.health(),
            ("/readyz", _) => pages.readiness(),
            ("/events", Some(room)) if *room > 0 && !bare => {
                *room -= 1;
                return self.listens();
            }
            ("/events", Some(_)) => Answer::text(503, "as many listen as may\n"),
            (_, Some(_)) => Answer::text(404, "/, /healthz, /readyz, /metrics\n"),
            (_, None) => Answer::text(404, "/healthz, /readyz, /metrics\n"),
        };
        self.answer(&answer, bare);
    }

    /// Tells decisions from now on.
    fn listens(&mut self) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{CAREFUL}Connection: close\r\n\r\n"
        );
        self.until = Instant::now() + STREAM;
        self.phase = Phase::Streaming(head.into_bytes());
    }

    /// `bare`: without the page itself, as `HEAD` asks for.
    fn answer(&mut self, answer: &Answer, bare: bool) {
        let Answer { code, kind, head, body } = answer;
        let reason = match code {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            _ => "Service Unavailable",
        };
        let head = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\n{head}\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let body = if bare { "" } else { body };
        self.phase = Phase::Answering([head.as_bytes(), body.as_bytes()].concat(), 0);
    }
}

/// What was asked, as far as it is there.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    More,
    /// `hosts`: under which name; none where a client is older than that header.
    Page {
        path: String,
        bare: bool,
        hosts: Vec<String>,
    },
    Wrong(u16, &'static str),
}

impl Parsed {
    fn read(bytes: &[u8]) -> Self {
        const TOO_LARGE: Parsed = Parsed::Wrong(431, "the request is too large\n");
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() < REQUEST => Self::More,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => TOO_LARGE,
            Ok(httparse::Status::Complete(_)) => {
                // What follows a `?` asks for nothing here.
                let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
                let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
                let hosts = hosts.map(|header| String::from_utf8_lossy(header.value).into_owned()).collect();
                match request.method {
                    Some("GET") => Self::Page { path, bare: false, hosts },
                    Some("HEAD") => Self::Page { path, bare: true, hosts },
                    _ => Self::Wrong(405, "only GET\n"),
                }
            }
            Err(_) => Self::Wrong(400, "no request of HTTP\n"),
        }
    }
}

/// Whether a `Host` is an address, `localhost`, or one of these names: nobody elsewhere has those lead here.
fn is_of_node(host: &str, names: &[String]) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'))
        });
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = |known: &str| name.eq_ignore_ascii_case(known.strip_suffix('.').unwrap_or(known));
    name.parse::<IpAddr>().is_ok() || is_name("localhost") || names.iter().any(|known| is_name(known))
}

impl Pages {
    /// Whether the agent goes round: it has looked at everything not long ago.
    fn health(&self) -> Answer {
        let looked = self.shared.state().looked;
        let longest = self.interval * 3 + Duration::from_secs(30);
        match looked {
            Some(looked) if looked.elapsed() < longest => Answer::text(200, "ok\n"),
            Some(looked) => Answer::text(503, format!("stuck for {} s\n", looked.elapsed().as_secs())),
            None => Answer::text(503, "starting\n"),
        }
    }

    /// Whether pods and units of this node are in the mesh as a policy says. An older policy is one: what the
    /// directory holds and is refused is told by the metrics, and by `meshc status`.
    fn readiness(&self) -> Answer {
        let state = self.shared.state();
        match self.shared.runtime.head() {
            _ if state.looked.is_none() => Answer::text(503, "starting\n"),
            Ok(head) if matches!(head.state, State::Active | State::Paused) => {
                Answer::text(200, format!("{}: generation {}\n", head.state.word(), head.generation))
            }
            Ok(head) => {
                let why = state.report.refused.unwrap_or_default();
                Answer::text(503, format!("no policy is live ({})\n{why}\n", head.state.word()))
            }
            Err(error) => Answer::text(503, format!("{error}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_it_is_there_and_never_without_bound() {
        let page = |path: &str, bare, hosts: &[&str]| {
            let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
            Parsed::Page { path: path.into(), bare, hosts }
        };
        assert_eq!(Parsed::read(b"GET /healthz HT"), Parsed::More);
        assert_eq!(
            Parsed::read(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
            page("/healthz", false, &["x"])
        );
        assert_eq!(Parsed::read(b"HEAD /metrics?x=1 HTTP/1.0\r\n\r\n"), page("/metrics", true, &[]));
        let two = b"GET / HTTP/1.1\r\nhost: a\r\nHOST: b\r\n\r\n";
        assert_eq!(Parsed::read(two), page("/", false, &["a", "b"]));
        assert!(matches!(Parsed::read(b"POST / HTTP/1.1\r\n\r\n"), Parsed::Wrong(405, _)));
        assert!(matches!(Parsed::read(b"\x16\x03\x01\x02\x00"), Parsed::Wrong(400, _)));
        let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(HEADERS + 1));
        assert!(matches!(Parsed::read(many.as_bytes()), Parsed::Wrong(431, _)));
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST));
        assert!(matches!(Parsed::read(long.as_bytes()), Parsed::Wrong(431, _)));
    }

    #[test]
    fn addresses_localhost_and_names_that_were_given_are_this_nodes() {
        let names = ["node-7.example".to_owned()];
        let is_ours = |host| is_of_node(host, &names);
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "10.0.0.7:80",
            "[::1]",
            "[fd00::7]:9464",
            "localhost",
            "LOCALHOST.:9464",
            "node-7.example",
            "Node-7.example.:9464",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for strange in [
            "",
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "node-7.example.evil.example",
            "node-7",
            "[::1].evil.example",
            "[evil.example]",
            "[::1",
            "0x7f000001",
        ] {
            assert!(!is_ours(strange), "{strange}");
        }
    }
}
