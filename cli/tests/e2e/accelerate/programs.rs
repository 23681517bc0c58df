//! Programs in Go, on a JVM and with Python's asyncio speak HTTP with each other past the stack, on connections that
//! are kept alive: each has another way to wait for its sockets.

use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Place, Process, Tested};

use crate::fixtures::command::Answer;
use crate::fixtures::duo::Duo;

const GO: &str = include_str!("../../../../testbed/programs/talk.go");
const JAVA: &str = include_str!("../../../../testbed/programs/Talk.java");
const PYTHON: &str = include_str!("../../../../testbed/programs/talk.py");

/// Where the servers listen, and where clients dial: one address as two words.
const LISTEN: [&str; 2] = ["127.0.0.1", "15005"];
const DIAL: [&str; 2] = ["10.0.3.9", "80"];

/// Small questions and answers one after the other, and some that are larger than every buffer.
const SMALL: [usize; 6] = [0, 1, 100, 1_000, 10_000, 30_000];
const LARGE: [usize; 3] = [1 << 20, 5 << 20, 300_000];

/// A kind of program, ready to run.
#[derive(Clone, Debug)]
enum Program {
    Go(PathBuf),
    Java(PathBuf),
    Python(PathBuf),
}

impl Program {
    /// All kinds, compiled.
    fn all(dir: &Path) -> Result<[Self; 3], Failure> {
        let (go, java, python) = (dir.join("talk.go"), dir.join("Talk.java"), dir.join("talk.py"));
        for (path, text) in [(&go, GO), (&java, JAVA), (&python, PYTHON)] {
            std::fs::write(path, text)?;
        }
        let talk = dir.join("talk");
        let mut build = Command::new("go");
        // Kept between runs: Go compiles its own library first.
        let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/go-cache");
        build.env("GOCACHE", cache).env("GO111MODULE", "off").env("GOPATH", dir).env("CGO_ENABLED", "0");
        Answer::of(build.arg("build").arg("-o").arg(&talk).arg(&go))?.done()?;
        Answer::of(Command::new("javac").arg("-d").arg(dir).arg(&java))?.done()?;
        Ok([Self::Go(talk), Self::Java(dir.to_owned()), Self::Python(python)])
    }

    /// The command that serves or asks at an address.
    fn command(&self, place: &Place, verb: &str, [ip, port]: [&str; 2]) -> Command {
        match self {
            Self::Go(talk) => {
                let mut command = place.command(talk);
                command.args([verb, &format!("{ip}:{port}")]);
                command
            }
            Self::Java(classes) => {
                let mut command = place.command("java");
                command.arg("-cp").arg(classes).args(["Talk", verb, ip, port]);
                command
            }
            Self::Python(talk) => {
                let mut command = place.command("/usr/bin/python3");
                command.arg(talk).args([verb, ip, port]);
                command
            }
        }
    }
}

#[test(long)]
fn programs_in_go_on_a_jvm_and_with_asyncio_speak_http_past_the_stack() -> Tested {
    let duo = Duo::new()?;
    let dir = duo.stage.ground().dir().join("programs");
    std::fs::create_dir(&dir)?;
    let [go, java, python] = Program::all(&dir)?;
    let sizes: Vec<_> = SMALL.iter().cycle().take(60).chain(&LARGE).map(ToString::to_string).collect();
    for (client, server) in
        [(&go, &go), (&java, &java), (&python, &python), (&go, &java), (&java, &python), (&python, &go)]
    {
        let case = format!("{client:?} asks {server:?}");
        let before = duo.counts()?.fast;
        duo.both_ways(|| {
            let log = dir.join("log");
            let mut serves = Process::start(&mut server.command(&duo.stage.beside(), "serve", LISTEN), &log)?;
            serves.wait_until_it_listens(15005)?;
            let mut asks = client.command(&duo.stage.cart(), "ask", DIAL);
            let answer = Answer::of(asks.args(&sizes))?.done()?;
            assert_eq!(answer.stdout, format!("right {}\n", sizes.len()), "{case}: {answer:?}");
            // What is kept alive is not opened again.
            let connections = serves.output()?.lines().filter(|line| *line == "connection").count();
            assert_eq!(connections, 1, "{case}: {}", serves.output()?);
            Ok(())
        })?;
        let counts = duo.counts()?;
        let small: usize = SMALL.iter().sum::<usize>() * 10;
        assert!(counts.fast - before > small as u64, "{case}: {counts:?}");
        println!("{case}: {} of {} bytes went past the stack", counts.fast, counts.fast + counts.slow);
    }
    Ok(())
}
