//! nginx as an application, and as a sidecar that only looks at its own address.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::ground::Directory;
use crate::{Place, Process};

/// A running nginx that answers every request with one line: its name and the client's address.
#[derive(Debug)]
pub struct Nginx {
    // The process before the directory: it writes there.
    process: Process,
    dir: Directory,
}

impl Nginx {
    /// Starts it at a place, listening on all of `listen`; `who` is what its answers say.
    ///
    /// # Errors
    /// If it is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, who: &str, listen: &[SocketAddr]) -> io::Result<Self> {
        Self::configured(place, listen, |dir| Ok(configured(who, listen, dir)))
    }

    fn configured(
        place: &Place,
        listen: &[SocketAddr],
        text: impl FnOnce(&Path) -> io::Result<String>,
    ) -> io::Result<Self> {
        let dir = Directory::new()?;
        let configuration = dir.path().join("nginx.conf");
        fs::write(&configuration, text(dir.path())?)?;
        let mut command = place.command("nginx");
        // Told as an option too: before it reads its configuration it opens the log that was compiled in.
        command.arg("-e").arg(dir.path().join("error.log")).arg("-c").arg(&configuration);
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens_at(listen)?;
        Ok(Self { process, dir })
    }

    /// Starts one that keeps what is sent to it by `PUT` as a file; see [`Nginx::kept`].
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn keeping(place: &Place, listen: SocketAddr) -> io::Result<Self> {
        Self::configured(place, &[listen], |dir| {
            fs::create_dir(dir.join("kept"))?;
            let answers = "return 200 'nginx answers $remote_addr\\n';";
            let keeps = format!(
                "client_max_body_size 0;
        location = / {{ {answers} }}
        location /kept/ {{ root {}; dav_methods PUT; }}",
                dir.display()
            );
            Ok(configured("nginx", &[listen], dir).replace(answers, &keeps))
        })
    }

    /// What was sent to `/kept/NAME`.
    ///
    /// # Errors
    /// If nothing was.
    pub fn kept(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.dir.path().join("kept").join(name))
    }

    /// The requests answered so far, one a line: the client's address, the server's, and the request.
    ///
    /// # Errors
    /// If its log is gone.
    pub fn requests(&self) -> io::Result<Vec<String>> {
        Ok(fs::read_to_string(self.dir.path().join("access.log"))?.lines().map(str::to_owned).collect())
    }

    /// The process, to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A running nginx that sends every connection on to the address and port that it was accepted on.
///
/// It never asks for an original destination: it serves redirects that are `transparent` only, as it serves TPROXY.
#[derive(Debug)]
pub struct NginxSidecar {
    // The process before the directory: it writes there.
    process: Process,
    dir: Directory,
}

impl NginxSidecar {
    /// Starts it at a place, listening on `port` of all addresses of both families: of a listener with an
    /// address of its own it would not ask which one a connection came to.
    ///
    /// # Errors
    /// If it is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, port: u16) -> io::Result<Self> {
        Self::listening(place, port, false)
    }

    /// The same, where each worker has listeners of its own that share the port.
    ///
    /// # Errors
    /// As [`NginxSidecar::start`].
    pub fn sharing(place: &Place, port: u16) -> io::Result<Self> {
        Self::listening(place, port, true)
    }

    /// How many connections each worker has carried to their end.
    ///
    /// # Errors
    /// If its log is gone.
    pub fn shares(&self) -> io::Result<BTreeMap<String, usize>> {
        let mut shares = BTreeMap::new();
        for worker in fs::read_to_string(self.dir.path().join("connections.log"))?.lines() {
            *shares.entry(worker.to_owned()).or_default() += 1;
        }
        Ok(shares)
    }

    fn listening(place: &Place, port: u16, shared: bool) -> io::Result<Self> {
        let dir = Directory::new()?;
        // It may run as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let configuration = dir.path().join("nginx.conf");
        fs::write(&configuration, configured_as_sidecar(port, shared, dir.path()))?;
        let mut command = place.command("nginx");
        command.arg("-e").arg(dir.path().join("error.log")).arg("-c").arg(&configuration);
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens(port)?;
        Ok(Self { process, dir })
    }

    /// The process, for its log and to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configured_as_sidecar(port: u16, shared: bool, dir: &Path) -> String {
    let shared = if shared { " reuseport" } else { "" };
    let dir = dir.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 2;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 1024; }}
stream {{
    proxy_half_close on;
    log_format worker '$pid';
    access_log {dir}/connections.log worker;
    server {{
        listen 0.0.0.0:{port}{shared};
        proxy_pass $server_addr:$server_port;
    }}
    server {{
        listen [::]:{port} ipv6only=on{shared};
        proxy_pass [$server_addr]:$server_port;
    }}
}}
"
    )
}

fn configured(who: &str, listen: &[SocketAddr], dir: &Path) -> String {
    let listens: String = listen.iter().map(|address| format!("        listen {address};\n")).collect();
    let dir = dir.display();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 12000; }}
http {{
    log_format seen '$remote_addr $server_addr:$server_port $request';
    access_log {dir}/access.log seen;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
{listens}        default_type text/plain;
        return 200 '{who} answers $remote_addr\\n';
    }}
}}
"
    )
}
