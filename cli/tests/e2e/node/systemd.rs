//! The units in `packaging/systemd`, under a systemd that boots: in the machine of QEMU, since it wants to be the
//! first process.

use std::fs;
use std::path::Path;

use mesh_testbed::Tested;
use mesh_testbed::kernel_test as test;
use mesh_testbed::vm::Vm;

use crate::fixtures::command::digest;

const POLICY: &str = r#"exempt uid 1500
mesh shop {
    redirect outbound -> 15001
    workload cart { cgroup "/system.slice/cart.service" }
}
"#;

/// Connects as soon as it is started, in a cgroup that is new each time.
const CART: &str = "[Unit]
After=sidecar.service meshc-agent.service meshc-restore.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo \"the unit reaches: $(nc -w 5 10.9.9.9 80)\" >>/run/reached'
[Install]
WantedBy=multi-user.target
";

const SIDECAR: &str = "[Service]
ExecStart=/bin/nc -ll -p 15001 -e /bin/echo sidecar
ExecStartPost=/bin/sh -c 'until netstat -ltn | grep -q :15001; do sleep 0.1; done'
[Install]
WantedBy=multi-user.target
";

/// An emulated machine is slow, but nobody wants to wait a minute for its watchdog.
const FASTER: &str = "[Service]
WatchdogSec=20
StandardError=append:/run/agent.log
";

const COMMON: &str = "
trap '[ $? = 0 ] || { cat /run/agent.log; systemctl status --no-pager meshc-agent meshc-restore; }' EXIT
say() { systemctl show --value -p $1 meshc-agent; }
wait_for() { n=0; until [ \"$(say $1)\" = \"$2\" ]; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.2; done; }
again() { systemctl start cart; tail -n 1 /run/reached; }
cat /run/reached
";

/// The agent is ready before what is ordered after it, looked after, and not needed.
const SUPERVISED: &str = "
echo \"agent: $(say ActiveState), $(say StatusText)\"
first=$(say MainPID)
kill -STOP $first
wait_for NRestarts 1
wait_for ActiveState active
[ ! -e /proc/$first ] && echo 'hung: restarted'
again
kill -KILL $(say MainPID)
wait_for NRestarts 2
wait_for ActiveState active
echo 'killed: restarted'
again
systemctl stop meshc-agent
echo \"agent: $(say ActiveState), $(say Result)\"
again
meshc status --format json
";

const RESTORED: &str = "
echo \"restore: $(systemctl show --value -p Result meshc-restore)\"
again
meshc status --format json
";

#[test(long)]
fn systemd_starts_watches_and_restarts_the_agent_and_restores_after_a_reboot() -> Tested {
    let machine = Vm::new(None)?;
    machine.systemd()?;
    machine.program("/usr/bin/meshc", Path::new(env!("CARGO_BIN_EXE_meshc")))?;
    let ours = ["meshc-agent.service", "meshc-restore.service"];
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    for unit in ours {
        machine.file(&format!("/etc/systemd/system/{unit}"), &fs::read_to_string(packaged.join(unit))?)?;
    }
    for (unit, text) in [("cart.service", CART), ("sidecar.service", SIDECAR)] {
        machine.file(&format!("/etc/systemd/system/{unit}"), text)?;
        machine.systemctl("enable", unit)?;
    }
    machine.file("/etc/systemd/system/meshc-agent.service.d/faster.conf", FASTER)?;
    machine.file("/etc/meshc/policies/shop.mesh", POLICY)?;

    machine.systemctl("enable", ours[0])?;
    let first = machine.boot(&format!("{COMMON}{SUPERVISED}"))?;
    for line in ["agent: active, in step", "hung: restarted", "killed: restarted", "agent: inactive, success"]
    {
        assert!(first.lines().any(|said| said == line), "{line}: {first}");
    }
    assert_eq!(first.matches("the unit reaches: sidecar\n").count(), 4, "{first}");
    assert_eq!(first.matches("the unit reaches").count(), 4, "{first}");

    machine.systemctl("disable", ours[0])?;
    machine.systemctl("enable", ours[1])?;
    let second = machine.boot(&format!("{COMMON}{RESTORED}"))?;
    assert!(second.contains("restore: success\n"), "{second}");
    assert_eq!(second.matches("the unit reaches: sidecar\n").count(), 2, "{second}");
    assert_eq!(digest(&first)?, digest(&second)?);
    Ok(())
}
