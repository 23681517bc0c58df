//! Envoy as a sidecar.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::ground::Directory;
use crate::{Place, Process};

/// A running Envoy that sends every connection on to its original destination.
///
/// It asks for `SO_ORIGINAL_DST` and for `IP6T_SO_ORIGINAL_DST`, with room for 128 bytes.
#[derive(Debug)]
pub struct Envoy {
    // The process before the directory: it writes there.
    process: Process,
    _dir: Directory,
}

impl Envoy {
    /// The binary: `envoy` of the environment variable `MESHC_ENVOY`, or what `scripts/setup.sh --long` installed.
    pub fn installed() -> Option<PathBuf> {
        let named = env::var_os("MESHC_ENVOY").map(PathBuf::from);
        let built =
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/envoy/envoy/_bin/envoy"));
        named.into_iter().chain([built]).find(|path| path.exists())
    }

    /// Starts it at a place, listening on all of `listen`.
    ///
    /// # Errors
    /// If it is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, listen: &[SocketAddr]) -> io::Result<Self> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, "no Envoy: scripts/setup.sh --long installs it");
        let dir = Directory::new()?;
        let configuration = dir.path().join("envoy.json");
        fs::write(&configuration, configured(listen))?;
        let mut command = place.command(Self::installed().ok_or_else(missing)?);
        // The shared memory of a hot restart would be that of every Envoy of the machine.
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        command.args(["--file-flush-interval-msec", "100", "-c"]);
        command.arg(&configuration);
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens_at(listen)?;
        Ok(Self { process, _dir: dir })
    }

    /// The destinations of the connections that have ended so far, in the order of their ends.
    ///
    /// # Errors
    /// If its log is gone.
    pub fn destinations(&self) -> io::Result<Vec<SocketAddr>> {
        let log = self.process.output()?;
        Ok(log.lines().filter_map(|line| line.strip_prefix("destination=")?.trim().parse().ok()).collect())
    }

    /// The process, for its log and to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configured(listen: &[SocketAddr]) -> String {
    let listeners: Vec<_> = listen
        .iter()
        .map(|address| {
            serde_json::json!({
                "name": address.to_string(),
                "address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } },
                "listener_filters": [{
                    "name": "envoy.filters.listener.original_dst",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
                    },
                }],
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.tcp_proxy",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "sidecar",
                        "cluster": "original",
                        "access_log": [{
                            "name": "envoy.access_loggers.stdout",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                                "log_format": { "text_format_source": {
                                    "inline_string": "destination=%DOWNSTREAM_LOCAL_ADDRESS%\n"
                                } },
                            },
                        }],
                    },
                }] }],
            })
        })
        .collect();
    serde_json::json!({ "static_resources": {
        "listeners": listeners,
        "clusters": [{
            "name": "original",
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "5s",
        }],
    } })
    .to_string()
}
