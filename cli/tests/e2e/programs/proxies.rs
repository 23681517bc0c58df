//! Real programs in all parts: curl as the client, HAProxy as the sidecar, nginx as the application.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{HaProxy, Nginx};
use mesh_testbed::{Cgroup, Failure, Ground, Pair, Place, Tested, until};

use crate::fixtures::command::{Answer, meshc};
use crate::fixtures::stage::{SIDECAR_UID, address};

const POLICY: &str = "exempt uid 1500
mesh shop {
    redirect outbound -> 15001
    exclude outbound tcp 9090
    workload cart { label app = cart }
}
";

#[test]
fn curl_reaches_nginx_through_haproxy_which_knows_where_it_was_going() -> Tested {
    let scene = Scene::new()?;
    assert_eq!(scene.curl("http://192.168.7.1:8080/")?, (0, "nginx answers 192.168.7.2\n".to_owned()));
    let saw = |count| until(Duration::from_secs(20), || scene.destinations() == count);
    assert!(saw(1), "HAProxy saw {} connections", scene.destinations());
    assert_eq!(scene.sidecar.destinations()?, [address("192.168.7.1:8080")?]);

    assert_eq!(scene.curl("http://192.168.7.1:9090/")?.0, 0);
    assert_eq!(scene.destinations(), 1, "an excluded connection reached the sidecar");
    assert!(until(Duration::from_secs(20), || scene.application.requests().is_ok_and(|all| all.len() == 2)));
    Ok(())
}

#[test]
fn run_gives_back_the_exit_code_of_its_command_and_leaves_no_cgroup() -> Tested {
    let scene = Scene::new()?;
    // 7 is curl's word for a connection that was refused.
    assert_eq!(scene.curl("http://192.168.7.1:81/")?.0, 52, "HAProxy accepts, and cannot send on");
    let cgroups = || -> Result<usize, Failure> {
        let entries = std::fs::read_dir(scene.ground.cgroup().path())?.flatten();
        Ok(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count())
    };
    assert_eq!(cgroups()?, 1, "only the sidecar's is left");
    Ok(())
}

struct Scene {
    sidecar: HaProxy,
    application: Nginx,
    pair: Pair,
    _beside: Cgroup,
    ground: Ground,
}

impl Scene {
    fn new() -> Result<Self, Failure> {
        let (ground, pair) = (Ground::new()?, Pair::new()?);
        let beside = ground.cgroup().child("beside")?;
        let place = Place::here().netns(&pair.client).cgroup(&beside).uid(SIDECAR_UID);
        let sidecar = HaProxy::start(&place, &[address("127.0.0.1:15001")?])?;
        let listen: Vec<SocketAddr> = vec![address("192.168.7.1:8080")?, address("192.168.7.1:9090")?];
        let application = Nginx::start(&Place::here().netns(&pair.server), "nginx", &listen)?;
        let scene = Self { sidecar, application, pair, _beside: beside, ground };
        let policy = scene.ground.write("policy.mesh", POLICY)?;
        let mut command = meshc();
        Answer::of(scene.instance(command.args(["apply", "--allow-leaving"]).arg(policy)))?.done()?;
        Ok(scene)
    }

    fn instance<'a>(&self, command: &'a mut std::process::Command) -> &'a mut std::process::Command {
        command
            .env("MESHC_BPFFS", self.ground.bpffs().join("mesh"))
            .env("MESHC_STATE", self.ground.state())
            .env("MESHC_CGROUP", self.ground.cgroup().path())
    }

    /// curl as a member, by `meshc run`.
    fn curl(&self, url: &str) -> Result<(i32, String), Failure> {
        let place = Place::here().netns(&self.pair.client);
        let mut command = place.command(env!("CARGO_BIN_EXE_meshc"));
        command.args(["run", "--as", "cart", "--", "curl", "-sS", "-m", "5", url]);
        let answer = Answer::of(self.instance(&mut command))?;
        Ok((answer.code, answer.stdout))
    }

    fn destinations(&self) -> usize {
        self.sidecar.destinations().map_or(0, |all| all.len())
    }
}
