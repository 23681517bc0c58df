//! Questions and answers over a connection, timed; for `bench/accelerate`.
//!
//! `rounds serve ADDRESS` echoes; `rounds ask ADDRESS SIZE COUNT PAIRS` asks COUNT times, over PAIRS connections in turn;
//! `rounds stream ADDRESS BYTES` sends them in one direction. An address with `/` is a Unix socket's. Answers are JSON.
//! With `ROUNDS_POLL=1` in the environment nobody sleeps: both ends ask again until there is something to read.

use std::env;
use std::error::Error;
use std::hint;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Bytes a call of a stream.
const PART: usize = 64 << 10;

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A socket that does not block, read and written without sleeping.
struct Polled<T>(T);

fn insistently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => hint::spin_loop(),
            done => return done,
        }
    }
}

impl<T: Read> Read for Polled<T> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        insistently(|| self.0.read(room))
    }
}

impl<T: Write> Write for Polled<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        insistently(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn is_polled() -> bool {
    env::var_os("ROUNDS_POLL").is_some()
}

fn of_tcp(stream: TcpStream) -> io::Result<Box<dyn Duplex>> {
    stream.set_nodelay(true)?;
    if is_polled() {
        stream.set_nonblocking(true)?;
        return Ok(Box::new(Polled(stream)));
    }
    Ok(Box::new(stream))
}

fn of_unix(stream: UnixStream) -> io::Result<Box<dyn Duplex>> {
    if is_polled() {
        stream.set_nonblocking(true)?;
        return Ok(Box::new(Polled(stream)));
    }
    Ok(Box::new(stream))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", address] => serve(address)?,
        ["ask", address, size, count, pairs] => {
            ask(address, size.parse()?, count.parse()?, pairs.parse()?)?;
        }
        ["stream", address, bytes] => stream(address, bytes.parse()?)?,
        _ => return Err("serve ADDRESS | ask ADDRESS SIZE COUNT PAIRS | stream ADDRESS BYTES".into()),
    }
    Ok(())
}

/// A connection begins with the size of a question in four bytes; 0 is a stream, which ends when it closes.
fn serve(address: &str) -> io::Result<()> {
    let attend = |stream: Box<dyn Duplex>| {
        thread::spawn(move || attend(stream));
    };
    if address.contains('/') {
        for stream in UnixListener::bind(address)?.incoming() {
            attend(of_unix(stream?)?);
        }
    } else {
        for stream in TcpListener::bind(address)?.incoming() {
            attend(of_tcp(stream?)?);
        }
    }
    Ok(())
}

fn attend(mut stream: Box<dyn Duplex>) -> io::Result<()> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_le_bytes(size) as usize;
    let mut room = vec![0; size.max(PART)];
    if size == 0 {
        while stream.read(&mut room)? > 0 {}
        return Ok(());
    }
    let question = room.get_mut(..size).unwrap_or_default();
    loop {
        stream.read_exact(question)?;
        stream.write_all(question)?;
    }
}

fn open(address: &str, size: u32) -> io::Result<Box<dyn Duplex>> {
    let mut stream = if address.contains('/') {
        of_unix(UnixStream::connect(address)?)?
    } else {
        of_tcp(TcpStream::connect(address)?)?
    };
    stream.write_all(&size.to_le_bytes())?;
    Ok(stream)
}

/// Milliseconds of CPU time of this process so far.
fn cpu() -> io::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds())
}

fn ask(address: &str, size: u32, count: usize, pairs: usize) -> io::Result<()> {
    let mut streams = (0..pairs).map(|_| open(address, size)).collect::<io::Result<Vec<_>>>()?;
    let mut room = vec![7; size as usize];
    let mut times = Vec::with_capacity(count);
    let began = cpu()?;
    // Each connection is used some times before it counts.
    let warm = 20 * pairs;
    for round in 0..count + warm {
        let Some(stream) = streams.get_mut(round % pairs) else { break };
        let start = Instant::now();
        stream.write_all(&room)?;
        stream.read_exact(&mut room)?;
        if round >= warm {
            times.push(start.elapsed().as_nanos());
        }
    }
    let spent = cpu()? - began;
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{{\"p50\":{},\"p99\":{},\"cpu_ms\":{spent}}}", at(50), at(99));
    Ok(())
}

fn stream(address: &str, bytes: usize) -> io::Result<()> {
    let mut stream = open(address, 0)?;
    let part = vec![7; PART];
    let (start, began) = (Instant::now(), cpu()?);
    for _ in 0..bytes / PART {
        stream.write_all(&part)?;
    }
    let spent = cpu()? - began;
    // What is still in a buffer then is small beside the stream.
    drop(stream);
    println!("{{\"nanoseconds\":{},\"cpu_ms\":{spent}}}", start.elapsed().as_nanos());
    Ok(())
}
