//! Readers that the kernel's sockmap serves ill get all their bytes, or are named and helped: those that ask `FIONREAD`
//! how much there is, and those that splice.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::Nginx;
use mesh_testbed::{Client, Errno, Failure, Process, Tested, until};
use rustix::net::{RecvFlags, recv};
use serde_json::Value;

use crate::fixtures::command::Answer;
use crate::fixtures::duo::{Duo, End, SIDECAR, TARGET, patient};
use crate::fixtures::stage::{address, as_member};

const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = include_str!("../../../../testbed/programs/Available.java");

/// An agent that keeps whatever is live.
fn agent(duo: &Duo) -> Result<Process, Failure> {
    let mut command = duo.stage.meshc();
    command.args(["agent", "--interval", "60s"]);
    let agent = Process::start(&mut command, &duo.stage.ground().dir().join("agent.log"))?;
    let answers = || duo.stage.ask(&["status"]).is_ok_and(|it| !it["agent"]["pid"].is_null());
    if until(PATIENCE, answers) { Ok(agent) } else { Err(agent.output()?.into()) }
}

/// The line of its log that says so: the agent acts before it tells.
fn logged(agent: &Process, what: &str) -> Result<String, Failure> {
    let line = || Some(agent.output().ok()?.lines().find(|line| line.contains(what))?.to_owned());
    until(PATIENCE, || line().is_some());
    Ok(line().ok_or(agent.output()?)?)
}

fn counter(status: &Value, name: &str) -> u64 {
    let counters = status["counters"].as_array().into_iter().flatten();
    counters.filter(|it| it["name"] == name).find_map(|it| it["value"].as_u64()).unwrap_or(0)
}

/// What is uploaded: larger than any buffer of nginx.
fn body() -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    blake3::Hasher::new().update(b"upload").finalize_xof().fill(&mut bytes);
    bytes
}

/// The head of an answer of nginx, and the body that its length tells of.
fn answered(stream: &mut TcpStream) -> Result<String, Errno> {
    let (mut all, mut room) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
                return Ok(head.lines().next().unwrap_or_default().to_owned());
            }
        }
        match stream.read(&mut room)? {
            0 => return Err(Errno::ECONNRESET),
            count => all.extend(room.get(..count).unwrap_or_default()),
        }
    }
}

/// Asks for something small, as clients do that keep connections, and then uploads as `/kept/NAME`.
fn upload(name: &str) -> Result<String, Errno> {
    let mut stream = Client::to(address(TARGET).map_err(|_| Errno::EINVAL)?).open()?.socket().try_clone()?;
    patient(&stream)?;
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        answered(&mut stream)?;
    }
    let bytes = body();
    write!(stream, "PUT /kept/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
    for part in bytes.chunks(10_000) {
        stream.write_all(part)?;
    }
    answered(&mut stream)
}

#[test]
fn nginx_gets_uploads_that_are_larger_than_its_buffers() -> Tested {
    let duo = Duo::new()?;
    let nginx = Nginx::keeping(&duo.stage.beside(), address(SIDECAR)?)?;
    let uploaded = |name: &str| -> Tested {
        let said = as_member(&duo.stage.cart(), || upload(name))?;
        assert_eq!(said.as_deref(), Ok("HTTP/1.1 201 Created"), "{name}");
        assert!(nginx.kept(name)? == body(), "{name}");
        Ok(())
    };
    duo.apply(false)?;
    uploaded("plain")?;
    let applied = duo.apply(true)?;
    let status = duo.stage.ask(&["status"])?;
    let told = status["acceleration"]["fionread"].as_str().unwrap_or_default();
    let warned = applied["warnings"].to_string().contains("\"fionread-");
    match told {
        "right" | "repaired" => {
            assert!(!warned, "{applied}");
            for name in ["one", "two", "three"] {
                let before = duo.counts()?;
                uploaded(name)?;
                let after = duo.counts()?;
                assert!(after.fast - before.fast > 100_000, "{before:?} {after:?}");
            }
            let status = duo.stage.ask(&["status"])?;
            assert_eq!(counter(&status, "count_repaired") > 0, told == "repaired", "{status}");
            assert_eq!(counter(&status, "count_short"), 0, "{status}");
        }
        // Nothing may be written into nginx: it is helped once, and then let alone.
        "noticed" => {
            assert!(warned, "{applied}");
            let agent = agent(&duo)?;
            uploaded("one")?;
            let status = duo.stage.ask(&["status"])?;
            assert!(counter(&status, "count_short") > 0, "{status}");
            assert_eq!(status["acceleration"]["fionread_readers"][0]["name"], "nginx", "{status}");
            assert_eq!(status["acceleration"]["stuck"], Value::Array(Vec::new()), "{status}");
            // Where it waited, it was helped; else more came in time.
            if counter(&status, "counts_released") > 0 {
                assert!(logged(&agent, "FIONREAD under-reported")?.contains("nginx"));
            }
            drop(agent);
            let before = duo.counts()?;
            uploaded("two")?;
            assert_eq!(duo.counts()?.fast, before.fast);
        }
        other => return Err(format!("FIONREAD: {other}").into()),
    }
    Ok(())
}

#[test(long)]
fn a_jvm_reads_as_much_as_available_tells() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let _agent = agent(&duo)?;
    let program = duo.stage.ground().write("Available.java", PROGRAM)?;
    let mut java = duo.stage.beside().command("java");
    java.arg(program).args(["15005", "300000", "2"]);
    let mut java = Process::start(&mut java, &duo.stage.ground().dir().join("java.log"))?;
    java.wait_until_it_listens(15005)?;
    for _ in 0..2 {
        let digest = as_member(&duo.stage.cart(), || {
            let mut stream =
                Client::to(address(TARGET).map_err(|_| Errno::EINVAL)?).open()?.socket().try_clone()?;
            patient(&stream)?;
            for part in body().get(..300_000).unwrap_or_default().chunks(10_000) {
                stream.write_all(part)?;
            }
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok::<_, Errno>(said)
        })??;
        assert_eq!(digest, sum(body().get(..300_000).unwrap_or_default()).to_string());
    }
    Ok(())
}

/// As `java.util.zip.Adler32` has it.
fn sum(bytes: &[u8]) -> u32 {
    let add = |(a, b): (u32, u32), byte: &u8| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    };
    let (a, b) = bytes.iter().fold((1, 0), add);
    b << 16 | a
}

/// How much `FIONREAD` tells.
fn waiting(end: &impl std::os::fd::AsFd) -> Result<u64, Errno> {
    Ok(rustix::io::ioctl_fionread(end)?)
}

/// Waits until as much can be read, by looking at it.
fn arrived(end: &End<'_>, length: usize) -> Result<(), Errno> {
    let mut room = vec![0; length];
    let there = || end.stream.peek(&mut room).is_ok_and(|count| count == length);
    if until(PATIENCE, there) { Ok(()) } else { Err(Errno::ETIMEDOUT) }
}

/// Whether this kernel tells, by itself or repaired, what is there.
fn tells(duo: &Duo) -> Result<bool, Failure> {
    duo.apply(true)?;
    let status = duo.stage.ask(&["status"])?;
    Ok(matches!(status["acceleration"]["fionread"].as_str(), Some("right" | "repaired")))
}

#[test]
fn fionread_tells_of_bytes_of_either_way_and_of_both() -> Tested {
    let duo = Duo::new()?;
    if !tells(&duo)? {
        return Ok(());
    }
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                end.send(&[1; 1000])?;
                end.tell("one way")?;
                end.wait("seen")?;
                end.send(&[2; 500])?;
                end.tell("both")?;
                end.wait("seen")?;
                end.stream.shutdown(std::net::Shutdown::Write)?;
                end.tell("end")?;
                end.wait("seen")
            },
            |end| {
                let mut told = Vec::new();
                end.wait("one way")?;
                arrived(end, 1000)?;
                told.push(waiting(&end.stream)?);
                end.take(399)?;
                // To one that reads so, the next bytes come through the stack.
                let mut room = [0; 1];
                recv(&end.stream, &mut room, RecvFlags::WAITALL)?;
                told.push(waiting(&end.stream)?);
                end.tell("seen")?;
                end.wait("both")?;
                std::thread::sleep(Duration::from_millis(50));
                told.push(waiting(&end.stream)?);
                end.take(700)?;
                told.push(waiting(&end.stream)?);
                end.tell("seen")?;
                end.wait("end")?;
                std::thread::sleep(Duration::from_millis(50));
                told.push(waiting(&end.stream)?);
                end.take(400)?;
                told.push(waiting(&end.stream)?);
                end.tell("seen")?;
                Ok(told)
            },
        )?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, [1000, 600, 1100, 400, 400, 0]);
    // Before anything was read, all bytes come through the stack.
    duo.apply(true)?;
    let (near, far) = duo.run_strangers(
        |end| end.send(&[3; 777]),
        |end| {
            arrived(end, 777)?;
            waiting(&end.stream)
        },
    )?;
    near?;
    assert_eq!(far?, 777);
    Ok(())
}

#[test]
fn who_asks_fionread_on_connections_that_it_opens_is_let_alone_where_it_was_told_too_little() -> Tested {
    let duo = Duo::new()?;
    if tells(&duo)? {
        return Ok(());
    }
    // The first bytes come through the stack, the next past it, where the connection is accelerated.
    let asked = || -> Result<(u64, u64), Failure> {
        let (near, far) = duo.run_strangers(
            |end| {
                arrived(end, 777)?;
                let first = waiting(&end.stream)?;
                end.take(777)?;
                end.send(b"!")?;
                arrived(end, 100)?;
                let second = waiting(&end.stream)?;
                end.take(100)?;
                Ok((first, second))
            },
            |end| {
                end.send(&[3; 777])?;
                end.take(1)?;
                end.send(&[4; 100])?;
                Ok(end.rest()?.len())
            },
        )?;
        far?;
        Ok(near?)
    };
    let told = asked()?;
    assert!([(0, 100), (777, 0)].contains(&told), "one way is not counted: {told:?}, {:?}", duo.counts()?);
    let status = duo.stage.ask(&["status"])?;
    let asker = &status["acceleration"]["fionread_readers"][0];
    assert_eq!((asker["port"].is_null(), &asker["times"]), (true, &1.into()), "{status}");
    let pairs = |status: &Value| status["acceleration"]["rules"][0]["closed"].as_u64();
    assert_eq!(
        (asked()?, pairs(&status)),
        ((777, 100), Some(1)),
        "counted right, where it is not accelerated"
    );
    let after = duo.stage.ask(&["status"])?;
    assert_eq!((pairs(&after), counter(&after, "counts_avoided")), (Some(1), 1), "{after}");
    Ok(())
}

#[test]
fn what_fionread_tells_of_other_files_stays_as_it_was() -> Tested {
    let duo = Duo::new()?;
    let asked = || {
        let (out, into) = rustix::pipe::pipe()?;
        rustix::io::write(&into, &[0; 33])?;
        let one = std::net::UdpSocket::bind("127.0.0.1:0")?;
        one.send_to(&[0; 44], one.local_addr()?)?;
        one.send_to(&[0; 11], one.local_addr()?)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let mut near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        near.write_all(&[0; 55])?;
        far.peek(&mut [0; 55])?;
        let (mut left, right) = std::os::unix::net::UnixStream::pair()?;
        left.write_all(&[0; 66])?;
        let told = [waiting(&out)?, waiting(&one)?, waiting(&far)?, waiting(&right)?];
        let not = [waiting(&listener).is_err(), waiting(&std::fs::File::open("/dev/null")?).is_err()];
        Ok::<_, Errno>((told, not))
    };
    let mut all = Vec::new();
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        all.push((as_member(&duo.stage.cart(), asked)??, as_member(&duo.stage.beside(), asked)??));
    }
    assert_eq!(all.first(), all.last());
    assert_eq!(all.first().map(|((told, _), _)| *told), Some([33, 44, 55, 66]));
    Ok(())
}

/// Whether this kernel refuses a splice that would stall: then nobody has to be helped.
fn refuses_splice(duo: &Duo) -> Result<bool, Failure> {
    Ok(duo.stage.ask(&["status"])?["acceleration"]["refuses_splice"] == true)
}

/// A reader that turns to splice while bytes of the fast path are unread; both ends then wait, and tell what ended
/// that.
fn strand(duo: &Duo, meanwhile: impl FnOnce() -> Tested + Send) -> Result<(String, String), Failure> {
    let sign = duo.stage.ground().dir().join("spliced");
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let spliced = until(PATIENCE, || sign.exists());
            if spliced { meanwhile().map_err(|failure| failure.to_string()) } else { Err("no splice".into()) }
        });
        let (near, far) = duo.run(
            |end| {
                end.send(b"short")?;
                end.tell("sent")?;
                let mut ended = end.stream.read(&mut [0; 10]).map_err(|error| error.kind());
                // What a blocking read of an accelerated socket says first when the other end resets.
                if ended == Err(std::io::ErrorKind::WouldBlock) {
                    ended = end.stream.read(&mut [0; 10]).map_err(|error| error.kind());
                }
                Ok(format!("{ended:?}"))
            },
            |end| {
                end.wait("sent")?;
                arrived(end, 5)?;
                let (_out, into) = rustix::pipe::pipe()?;
                std::fs::write(&sign, "")?;
                let spliced = rustix::pipe::splice(
                    &end.stream,
                    None,
                    &into,
                    None,
                    100,
                    rustix::pipe::SpliceFlags::empty(),
                );
                Ok(format!("{:?}", spliced.map_err(|error| std::io::Error::from(error).kind())))
            },
        )?;
        watched.join().map_err(|_| "a panic")??;
        std::fs::remove_file(&sign)?;
        Ok((near?, far?))
    })
}

#[test]
fn a_program_that_splices_from_any_connection_of_a_pod_is_known() -> Tested {
    let duo = Duo::new()?;
    let text = "exempt uid 1500\nredirect outbound -> 15001\nmesh shop {\naccelerate local\nworkload a { label app = a }\n}\n";
    let policy = duo.stage.ground().write("pod.mesh", text)?;
    duo.stage.apply(&policy)?;
    let netns = duo.stage.pair().client.path().display().to_string();
    duo.stage.ask(&["attach", "--netns", &netns, "--name", "a", "--label", "app=a"])?;
    // From outside, past the sidecar: nothing is kept with such a socket.
    let outside = duo.stage.beside().netns(&duo.stage.pair().server);
    let (near, far) = duo.strangers(
        &duo.stage.beside(),
        address("0.0.0.0:9091")?,
        &outside,
        Client::to(address("192.168.7.2:9091")?),
        |end| end.send(b"plain"),
        |end| {
            let (_out, into) = rustix::pipe::pipe()?;
            let flags = rustix::pipe::SpliceFlags::empty();
            Ok(rustix::pipe::splice(&end.stream, None, &into, None, 100, flags)?)
        },
    )?;
    near?;
    assert_eq!(far?, 5);
    let status = duo.stage.ask(&["status"])?;
    assert_eq!(status["acceleration"]["splice_readers"].as_array().map(Vec::len), Some(1), "{status}");
    Ok(())
}

#[test]
fn a_reader_that_spliced_in_vain_is_named_and_its_connection_closed() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    if refuses_splice(&duo)? {
        return Ok(());
    }
    let stuck = || Ok::<_, Failure>(duo.stage.ask(&["status"])?["acceleration"]["stuck"].clone());
    let ended = strand(&duo, || {
        assert!(until(PATIENCE, || stuck().is_ok_and(|it| it[0]["why"] == "splice")), "{}", stuck()?);
        let one = &stuck()?[0];
        assert_eq!((&one["server"], &one["end"]), (&SIDECAR.into(), &"server".into()), "{one}");
        assert!(one["pid"].as_u64().is_some_and(|pid| pid > 0) && one["unread"] == 5, "{one}");
        let text = Answer::of(duo.stage.meshc().arg("status"))?.done()?.stdout;
        assert!(text.contains("stalled readers") && text.contains("apply --repair"), "{text}");
        std::thread::sleep(Duration::from_millis(1100));
        let policy = duo.stage.ground().dir().join("policy.mesh").display().to_string();
        let applied = duo.stage.ask(&["apply", "--repair", &policy])?;
        let warnings = applied["warnings"].as_array().into_iter().flatten();
        let helped = warnings.filter(|it| it["code"] == "reader-helped");
        let text: String = helped.map(|it| it["text"].to_string()).collect();
        assert!(text.contains("the connection was closed"), "{applied}");
        Ok(())
    })?;
    let told = ("Err(ConnectionReset)".to_owned(), "Err(ConnectionAborted)".to_owned());
    assert_eq!(ended, told);
    assert_eq!(stuck()?, Value::Array(Vec::new()));
    Ok(())
}

#[test]
fn the_agent_closes_the_connection_of_a_reader_that_spliced_in_vain() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    if refuses_splice(&duo)? {
        return Ok(());
    }
    let agent = agent(&duo)?;
    let ended = strand(&duo, || Ok(()))?;
    assert_eq!(ended, ("Err(ConnectionReset)".to_owned(), "Err(ConnectionAborted)".to_owned()));
    let line = logged(&agent, "switched to `splice`")?;
    assert!(line.contains(SIDECAR) && line.contains("the connection was closed"), "{line}");
    Ok(())
}

#[test]
fn a_reader_that_peeks_goes_on_by_the_fast_path() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let before = duo.counts()?;
    let (near, far) = duo.run(
        |end| {
            for _ in 0..20 {
                end.send(&[5; 100])?;
                end.take(1)?;
            }
            Ok(())
        },
        |end| {
            for _ in 0..20 {
                arrived(end, 100)?;
                end.take(100)?;
                end.send(b"!")?;
            }
            Ok(())
        },
    )?;
    near?;
    far?;
    let after = duo.counts()?;
    assert_eq!(after.messages["reader_splices"], before.messages["reader_splices"], "{after:?}");
    assert!(after.fast - before.fast > 1000, "{before:?} {after:?}");
    Ok(())
}
