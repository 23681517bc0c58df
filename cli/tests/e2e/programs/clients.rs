//! Advice about programs of one kind, run with those programs: clients of databases, Prometheus, and who speaks QUIC.
//! As in `advice`, the policies are the recipes' own.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{HaProxy, Nginx};
use mesh_testbed::{Failure, Netns, Place, Process, Tested, until, veth};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::recipes::{Scene, recipe};
use crate::fixtures::stage::{SIDECAR_UID, address};
use crate::fixtures::town::{Pod, WAY, addresses};

const PATIENCE: Duration = Duration::from_secs(30);

/// A database of one's own, and one on the Internet.
const OURS: &str = "10.0.3.9";
const FOREIGN: &str = "203.0.113.9";

/// The recipe that lets databases of one's own network pass, in force.
fn databases() -> Result<(Scene, HaProxy), Failure> {
    let scene = Scene::new()?;
    scene.pair().server.own("203.0.113.0/24")?;
    let sidecar = HaProxy::start(&scene.beside().uid(SIDECAR_UID), &[address("127.0.0.1:15001")?])?;
    scene.apply(&recipe("Databases", 1, &scene.selector()?)?)?;
    Ok((scene, sidecar))
}

/// Asks both databases from whom they are asked: the one directly, the other through the sidecar.
fn asked_from(
    sidecar: &HaProxy,
    port: u16,
    ask: impl Fn(&str) -> Result<String, Failure>,
) -> Result<[String; 2], Failure> {
    let before = sidecar.destinations()?;
    let ours = ask(OURS)?;
    assert_eq!(sidecar.destinations()?, before, "a database of one's own was asked through the sidecar");
    let foreign = ask(FOREIGN)?;
    let expected = [before, vec![address(&format!("{FOREIGN}:{port}"))?]].concat();
    until(PATIENCE, || sidecar.destinations().is_ok_and(|destinations| destinations == expected));
    assert_eq!(sidecar.destinations()?, expected);
    Ok([ours, foreign])
}

#[test]
fn redis_is_asked_directly_where_it_is_ours_and_by_the_sidecar_elsewhere() -> Tested {
    let (scene, sidecar) = databases()?;
    let mut server = Place::here().netns(&scene.pair().server).command("redis-server");
    server.args(["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]);
    let mut server = Process::start(&mut server, &scene.ground().dir().join("redis.log"))?;
    server.wait_until_it_listens(6379)?;
    let redis = |host: &str, words: &[&str]| -> Result<String, Failure> {
        let mut command = scene.cart().command("redis-cli");
        Ok(Answer::of(command.args(["-h", host]).args(words))?.done()?.stdout)
    };
    assert_eq!(redis(OURS, &["set", "cart", "full"])?, "OK\n");
    let from = asked_from(&sidecar, 6379, |host| redis(host, &["client", "info"]))?;
    for (from, host) in from.iter().zip([OURS, FOREIGN]) {
        assert!(from.contains("addr=192.168.7.2:"), "{from}");
        assert!(from.contains(&format!("laddr={host}:6379")), "{from}");
    }
    assert_eq!(redis(FOREIGN, &["get", "cart"])?, "full\n");
    Ok(())
}

/// The newest program of this name of Debian's PostgreSQL, which has no version of it in the path.
fn postgresql(name: &str) -> Result<PathBuf, Failure> {
    let versions = fs::read_dir("/usr/lib/postgresql")?.flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
    found.max().ok_or_else(|| format!("no {name} of PostgreSQL").into())
}

/// A directory that this user may write to.
fn dir_for_all(scene: &Scene, name: &str) -> Result<PathBuf, Failure> {
    let dir = scene.ground().dir().join(name);
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    Ok(dir)
}

/// Their servers refuse to be root's.
const NOBODY: u32 = 65534;

#[test(long)]
fn postgresql_and_mariadb_whose_server_speaks_first_are_asked_alike() -> Tested {
    let (scene, sidecar) = databases()?;
    let there = Place::here().netns(&scene.pair().server).uid(NOBODY);
    let dir = dir_for_all(&scene, "postgresql")?;
    let data = dir.join("data");
    let mut init = there.command(postgresql("initdb")?);
    init.args(["--auth=trust", "--username=shop", "--no-sync", "-D"]).arg(&data).current_dir(&dir);
    Answer::of(&mut init)?.done()?;
    fs::write(data.join("pg_hba.conf"), "host all all all trust\n")?;
    let mut server = there.command(postgresql("postgres")?);
    server.args(["-h", "0.0.0.0", "-c", "unix_socket_directories=", "-c", "fsync=off", "-D"]).arg(&data);
    let mut postgres = Process::start(server.current_dir(&dir), &dir.join("log"))?;
    postgres.wait_until_it_listens(5432)?;
    let psql = |host: &str| -> Result<String, Failure> {
        let mut command = scene.cart().command("psql");
        command.args(["-h", host, "-U", "shop", "-d", "postgres", "-At", "-c"]);
        let question = "select host(inet_client_addr()), host(inet_server_addr())";
        Ok(Answer::of(command.arg(question))?.done()?.stdout)
    };
    until(PATIENCE, || psql(OURS).is_ok());
    let from = asked_from(&sidecar, 5432, psql)?;
    assert_eq!(from, [OURS, FOREIGN].map(|host| format!("192.168.7.2|{host}\n")));

    let dir = dir_for_all(&scene, "mariadb")?;
    let data = format!("--datadir={}", dir.join("data").display());
    let mut install = there.command("mariadb-install-db");
    install.args(["--no-defaults", &data, "--skip-test-db"]).current_dir(&dir);
    Answer::of(&mut install)?.done()?;
    let mut server = there.command("mariadbd");
    let socket = format!("--socket={}", dir.join("socket").display());
    let init = dir.join("init.sql");
    fs::write(&init, "CREATE USER shop@'%' IDENTIFIED BY '';\n")?;
    let init = format!("--init-file={}", init.display());
    server.args(["--no-defaults", &data, &socket, &init, "--bind-address=0.0.0.0"]);
    server.args(["--skip-name-resolve", "--port=3306"]).current_dir(&dir);
    let mut mariadb = Process::start(&mut server, &dir.join("log"))?;
    mariadb.wait_until_it_listens(3306)?;
    let ask = |host: &str| -> Result<String, Failure> {
        let mut command = scene.cart().command("mariadb");
        command.args(["--no-defaults", "-h", host, "-P", "3306", "-u", "shop", "-N", "-B"]);
        Ok(Answer::of(command.args(["-e", "select user()"]))?.done()?.stdout)
    };
    let from = asked_from(&sidecar, 3306, ask)?;
    assert_eq!(from, ["shop@192.168.7.2\n"; 2]);
    Ok(())
}

/// Prometheus at a place, which scrapes this target each second; it listens on `port`.
fn prometheus(place: &Place, dir: &Path, port: u16, target: &str) -> Result<Process, Failure> {
    fs::create_dir(dir)?;
    let jobs = format!("[{{job_name: cart, static_configs: [{{targets: ['{target}']}}]}}]");
    let configuration = dir.join("prometheus.yml");
    fs::write(&configuration, format!("{{global: {{scrape_interval: 1s}}, scrape_configs: {jobs}}}\n"))?;
    let mut command = place.command("prometheus");
    command.arg(format!("--config.file={}", configuration.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
    command.arg(format!("--web.listen-address=0.0.0.0:{port}"));
    let mut process = Process::start(&mut command, &dir.join("log"))?;
    process.wait_until_it_listens(port)?;
    Ok(process)
}

/// What became of its scrapes.
fn scraped(place: &Place, port: u16) -> Result<Value, Failure> {
    let mut target = Value::Null;
    let found = until(PATIENCE, || {
        let mut curl = place.command("curl");
        curl.args(["-sS", "-m", "5", &format!("http://127.0.0.1:{port}/api/v1/targets")]);
        let answer = Answer::of(&mut curl).and_then(|answer| answer.json());
        target = answer.map(|answer| answer["data"]["activeTargets"][0].clone()).unwrap_or_default();
        target["health"] == "up" || target["health"] == "down"
    });
    if found { Ok(target) } else { Err(format!("it has not scraped: {target}").into()) }
}

#[test(long)]
fn prometheus_scrapes_the_application_and_whoever_else_asks_there_gets_the_sidecar() -> Tested {
    let pod = Pod::new(WAY)?;
    let dir = pod.ground().dir().to_owned();
    let file = pod.ground().write("prometheus.mesh", recipe("Prometheus", 0, "label app = cart")?)?;
    Answer::of(pod.meshc().args(["apply", "--allow-leaving"]).arg(file))?.done()?;
    pod.attach()?;
    let town = pod.town();
    let monitoring = Netns::new()?;
    veth((&monitoring, "eth0", &["10.42.7.3/28"]), (&town.host, "monitoring", &["10.42.7.1/28"]))?;
    monitoring.ip("route add default via 10.42.7.1")?;
    // What an application has to show: Prometheus tells of itself.
    let _application = prometheus(&pod.place(), &dir.join("application"), 9090, "127.0.0.1:9090")?;
    let sidecar = Nginx::start(&pod.place(), "sidecar", &addresses(&["127.0.0.1:15003"])?)?;
    let inside = Place::here().netns(&monitoring);
    let _scraper = prometheus(&inside, &dir.join("monitoring"), 9091, "10.42.0.2:9090")?;
    let target = scraped(&inside, 9091)?;
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
    assert_eq!(sidecar.requests()?, Vec::<String>::new());
    let outside = Place::here().netns(&town.other);
    let _scraper = prometheus(&outside, &dir.join("other"), 9092, "10.42.0.2:9090")?;
    let target = scraped(&outside, 9092)?;
    assert_eq!(target["health"], "down", "{target}");
    let requests = sidecar.requests()?;
    assert!(requests.iter().any(|request| request.starts_with("10.42.1.2 ")), "{requests:?}");
    pod.detach()?;
    Ok(())
}

/// libcurl with HTTP/3, which Debian's has not; what it is told of versions is curl's `--http3-only` and `--http3`.
const QUIC: &str = "
import sys
from io import BytesIO
from curl_cffi import Curl, CurlHttpVersion, CurlOpt
curl, body = Curl(), BytesIO()
curl.setopt(CurlOpt.URL, b'https://shop.test/')
curl.setopt(CurlOpt.RESOLVE, [b'shop.test:443:10.0.3.9'])
curl.setopt(CurlOpt.SSL_VERIFYPEER, 0)
curl.setopt(CurlOpt.SSL_VERIFYHOST, 0)
curl.setopt(CurlOpt.TIMEOUT, 20)
curl.setopt(CurlOpt.WRITEDATA, body)
curl.setopt(CurlOpt.HTTP_VERSION, getattr(CurlHttpVersion, sys.argv[1]))
curl.perform()
print(body.getvalue().decode())
";

/// A server of HTTP/3 and of what came before, with a certificate of its own.
fn caddy(place: &Place, dir: &Path) -> Result<Process, Failure> {
    fs::create_dir(dir)?;
    let configuration = dir.join("Caddyfile");
    let text = format!(
        "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n storage file_system {}\n}}\n\
         https://shop.test {{\n bind {host}\n tls internal\n respond \"{{http.request.proto}} {{http.request.remote.host}}\"\n}}\n",
        dir.join("store").display(),
        host = OURS
    );
    fs::write(&configuration, text)?;
    let mut command = place.command("caddy");
    command.env("HOME", dir).env("XDG_DATA_HOME", dir).env("XDG_CONFIG_HOME", dir);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&configuration);
    let mut process = Process::start(&mut command, &dir.join("log"))?;
    process.wait_until_it_listens(443)?;
    process.wait_until_it_says("certificate obtained successfully")?;
    Ok(process)
}

#[test(long)]
fn a_client_of_http_3_falls_back_to_tcp_at_once_and_reaches_the_sidecar() -> Tested {
    let scene = Scene::new()?;
    let sidecar = HaProxy::start(&scene.beside().uid(SIDECAR_UID), &[address("127.0.0.1:15001")?])?;
    let server = Place::here().netns(&scene.pair().server);
    let _server = caddy(&server, &scene.ground().dir().join("caddy"))?;
    let ask = |version: &str| {
        let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/curl");
        let mut python = scene.cart().command("python3");
        Answer::of(python.env("PYTHONPATH", library).args(["-c", QUIC, version]))
    };
    scene.ruled("redirect outbound -> 15001")?;
    // As it would be without the advice: past the sidecar.
    for version in ["V3ONLY", "V3"] {
        assert_eq!(ask(version)?.done()?.stdout, "HTTP/3.0 192.168.7.2\n");
    }
    assert_eq!(sidecar.destinations()?, []);
    scene.apply(&recipe("QUIC", 0, &scene.selector()?)?)?;
    let only = ask("V3ONLY")?;
    assert!(only.code != 0 && only.stdout.is_empty(), "{only:?}");
    let begin = Instant::now();
    assert_eq!(ask("V3")?.done()?.stdout, "HTTP/2.0 192.168.7.2\n");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    let carried = [address("10.0.3.9:443")?];
    until(PATIENCE, || sidecar.destinations().is_ok_and(|destinations| destinations == carried));
    assert_eq!(sidecar.destinations()?, carried);
    Ok(())
}
