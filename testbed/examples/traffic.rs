//! The traffic of `bench/datapath`: a sidecar that echoes, and a client that does on command what is timed.
//!
//!     traffic serve ADDRESS...        listens, asks every connection where it was going, echoes
//!     traffic dial                    reads commands from standard input, answers each with a line of JSON
//!
//! Commands of `dial`, times in nanoseconds:
//!     connect COUNT FILE FROM         connects to COUNT addresses of FILE, one a line, from line FROM on; each
//!                                     connection carries one byte there and back, and is reset
//!     echo COUNT BYTES ADDRESS        by one connection, there and back
//!     calls COUNT ADDRESS             single system calls, the connection and datagrams to ADDRESS

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mesh_testbed::{Failure, Level, original_destination, raw_option};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", addresses @ ..] => serve(addresses),
        ["dial"] => dial(),
        _ => Err("usage: traffic serve ADDRESS... | traffic dial".into()),
    }
}

/// One thread for all TCP connections to an address, one after the other, and one for its datagrams.
fn serve(addresses: &[&str]) -> Result<(), Failure> {
    for address in addresses {
        let address: SocketAddr = address.parse()?;
        let (listener, datagrams) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
        std::thread::spawn(move || answer(&datagrams));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that resets is no failure.
                let _ = attend(&stream);
            }
        });
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn attend(mut stream: &TcpStream) -> io::Result<()> {
    // As every sidecar does first; without a redirect there is no answer.
    let _ = original_destination(stream.as_fd(), Level::V4);
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

fn answer(datagrams: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((length, client)) = datagrams.recv_from(&mut buffer) {
        let _ = datagrams.send_to(buffer.get(..length).unwrap_or_default(), client);
    }
}

fn dial() -> Result<(), Failure> {
    let mut known: Option<(String, Vec<SocketAddr>)> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["connect", count, file, from] => {
                if known.as_ref().is_none_or(|(name, _)| name != file) {
                    let text = std::fs::read_to_string(file)?;
                    let all = text.lines().map(str::parse).collect::<Result<Vec<_>, _>>()?;
                    known = Some(((*file).to_owned(), all));
                }
                let all = known.as_ref().map_or(&[][..], |(_, all)| all);
                connect(count.parse()?, all, from.parse()?)?
            }
            ["echo", count, bytes, address] => echo(count.parse()?, bytes.parse()?, address.parse()?)?,
            ["calls", count, address] => calls(count.parse()?, address.parse()?)?,
            _ => return Err(format!("no such command: {line}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn connect(count: usize, all: &[SocketAddr], from: usize) -> Result<Value, Failure> {
    let mut times = Vec::with_capacity(count);
    let began = Instant::now();
    for address in all.iter().cycle().skip(from % all.len().max(1)).take(count) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let target = SockAddr::from(*address);
        let called = Instant::now();
        socket.connect(&target)?;
        times.push(called.elapsed());
        let mut byte = [0];
        (&socket).write_all(b"x")?;
        (&socket).read_exact(&mut byte)?;
        // No TIME-WAIT: 28,000 ports would soon be used up.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    let all = began.elapsed();
    Ok(json!({ "connect": middle(&mut times), "each": all.as_nanos() as f64 / count as f64 }))
}

fn echo(count: usize, bytes: usize, address: SocketAddr) -> Result<Value, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (sent, mut heard) = (vec![7; bytes], vec![0; bytes]);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let called = Instant::now();
        stream.write_all(&sent)?;
        stream.read_exact(&mut heard)?;
        times.push(called.elapsed());
    }
    Ok(json!({ "echo": middle(&mut times) }))
}

fn calls(count: usize, address: SocketAddr) -> Result<Value, Failure> {
    let stream = TcpStream::connect(address)?;
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    let mut buffer = [0; 64];
    let mut connect = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.connect(&SockAddr::from(address))
    };
    let mut found = json!({
        "connect (datagrams)": timed(count, &mut connect)?,
        "getsockopt": timed(count, || {
            raw_option(stream.as_fd(), 1, 3, 4).map(drop).map_err(|error| io::Error::from_raw_os_error(error.0))
        })?,
        "getpeername": timed(count, || stream.peer_addr().map(drop))?,
        "getsockname": timed(count, || stream.local_addr().map(drop))?,
        "sendto and recvfrom": timed(count, || {
            datagrams.send_to(b"x", address)?;
            datagrams.recv_from(&mut buffer).map(drop)
        })?,
    });
    // The server attends to one connection at a time.
    drop(stream);
    let connections = timed(count, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.connect(&SockAddr::from(address))?;
        (&socket).write_all(b"x")?;
        (&socket).read_exact(&mut [0])?;
        socket.set_linger(Some(Duration::ZERO))
    })?;
    if let Some(found) = found.as_object_mut() {
        found.insert("TCP connection".to_owned(), connections.into());
    }
    Ok(found)
}

/// The median of a call's time, of as many calls together as one look at the clock should not weigh in.
fn timed(count: usize, mut call: impl FnMut() -> io::Result<()>) -> io::Result<u64> {
    const TOGETHER: u32 = 20;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count / TOGETHER as usize {
        let called = Instant::now();
        for _ in 0..TOGETHER {
            call()?;
        }
        times.push(called.elapsed() / TOGETHER);
    }
    Ok(middle(&mut times))
}

fn middle(times: &mut [Duration]) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
