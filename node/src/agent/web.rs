//! The page at `/`, what it asks for while it is open, and the stream of decisions.
//!
//! Whoever starts the agent hands over what makes them: the agent knows no words and no policies. Decisions are
//! observed only while somebody listens.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mesh_runtime::{Decided, Filter, ObserverEvent, Runtime};

use super::state::Shared;

/// Bytes of the buffer that programs report to.
const BUFFER: u32 = 256 * 1024;
/// Decisions that are told of one second; others are counted.
const EACH_SECOND: u32 = 100;
/// Lines that wait to be sent.
const WAITING: usize = 256;
/// How long a thread waits for a decision before it looks whether anybody listens.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes something of what the node holds. What it remembers saves it work the next time.
pub type Make<T> = Box<dyn FnMut(&Runtime) -> Result<T, String> + Send>;

/// What makes the page and what it shows.
pub struct Web {
    /// The page.
    pub page: Make<WebPage>,
    /// What changes while it is open: JSON.
    pub live: Make<String>,
    /// A decision: JSON on one line.
    pub decision: fn(&Decided) -> String,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}

/// A page, and which content it may have.
#[derive(Clone, Debug)]
pub struct WebPage {
    /// HTML.
    pub html: String,
    /// The value of `Content-Security-Policy`.
    pub policy: String,
}

/// Decisions for those who listen.
pub(super) struct Decisions {
    rx: Receiver<String>,
    /// Readable when there are some.
    pub(super) wake_rx: UnixStream,
    listening: Arc<AtomicUsize>,
    begin_tx: SyncSender<()>,
}

impl Decisions {
    /// Starts the thread that observes.
    pub(super) fn start(shared: Shared, text: fn(&Decided) -> String) -> io::Result<Self> {
        let (begin_tx, begin_rx) = sync_channel(1);
        let (tx, rx) = sync_channel(WAITING);
        let (wake_rx, wake_tx) = UnixStream::pair()?;
        wake_rx.set_nonblocking(true)?;
        wake_tx.set_nonblocking(true)?;
        let listening = Arc::new(AtomicUsize::new(0));
        let mut teller = Teller {
            text,
            tx,
            wake_tx,
            listening: Arc::clone(&listening),
            second: Instant::now(),
            told: 0,
            lost: 0,
        };
        std::thread::Builder::new().name("decisions".into()).spawn(move || {
            while begin_rx.recv().is_ok() {
                teller.follow(&shared.runtime);
            }
        })?;
        Ok(Self { rx, wake_rx, listening, begin_tx })
    }

    /// Says how many listen now.
    pub(super) fn listened_by(&self, count: usize) {
        self.listening.store(count, Ordering::Relaxed);
        if count > 0 {
            // It goes on, or begins again where no policy was live.
            let _ = self.begin_tx.try_send(());
        }
    }

    /// The lines that came.
    pub(super) fn lines(&self) -> Vec<String> {
        let _ = io::Read::read(&mut &self.wake_rx, &mut [0; 64]);
        self.rx.try_iter().collect()
    }
}

/// The thread that observes.
struct Teller {
    text: fn(&Decided) -> String,
    tx: SyncSender<String>,
    wake_tx: UnixStream,
    listening: Arc<AtomicUsize>,
    second: Instant,
    told: u32,
    lost: u64,
}

impl Teller {
    fn follow(&mut self, runtime: &Runtime) {
        if self.is_alone() {
            return;
        }
        let Ok(mut observer) = runtime.observe(Filter::default(), BUFFER) else {
            std::thread::sleep(PATIENCE);
            return;
        };
        while !self.is_alone() {
            match observer.wait(PATIENCE) {
                Ok(ObserverEvent::Decision(decided)) => self.decided(&decided),
                Ok(ObserverEvent::Lost(more)) => self.lost += more,
                Ok(ObserverEvent::Gap | ObserverEvent::Silence) => {}
                Ok(ObserverEvent::Ended) | Err(_) => {
                    std::thread::sleep(PATIENCE);
                    return;
                }
            }
            if self.second.elapsed() >= Duration::from_secs(1) {
                self.second = Instant::now();
                self.told = 0;
                if self.lost > 0 && self.tell(format!("{{\"lost\":{}}}", self.lost)) {
                    self.lost = 0;
                }
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.listening.load(Ordering::Relaxed) == 0
    }

    fn decided(&mut self, decided: &Decided) {
        if self.told < EACH_SECOND && self.tell((self.text)(decided)) {
            self.told += 1;
        } else {
            self.lost += 1;
        }
    }

    /// Hands a line over; false where too many wait.
    fn tell(&mut self, line: String) -> bool {
        let is_told = self.tx.try_send(line).is_ok();
        // A full socket wakes already.
        let _ = self.wake_tx.write(&[1]);
        is_told
    }
}
