//! On the smallest kernel that is promised, and over a reboot: a machine emulated by QEMU.

use std::path::Path;

use mesh_testbed::kernel_test as test;
use mesh_testbed::vm::Vm;
use mesh_testbed::{Failure, Tested};

use crate::fixtures::command::digest;

const POLICY: &str = r#"exempt uid 1500
mesh shop {
    redirect outbound -> 15001
    deny outbound tcp 25
    workload cart { cgroup "/cart" }
    workload shop { label app = shop }
    redirect inbound -> 15003
    deny inbound udp 9090
}
"#;

/// What AES-GCM and TLS need of the kernel, each after what it needs itself.
const TLS_MODULES: [&str; 5] =
    ["crypto/crypto_null", "lib/crypto/gf128mul", "crypto/ghash-generic", "crypto/gcm", "net/tls/tls"];

/// A host workload with its sidecar, and a pod with another: what a member reaches, and what reaches the pod.
const TRAFFIC: &str = "
nc -ll -p 15001 -e echo sidecar &
mkdir -p /sys/fs/cgroup/cart
unshare -n sleep 1000 &
pod=/proc/$!/ns/net
sleep 1
netip link add one type veth peer name two netns $!
netip addr add 10.1.0.1/24 dev one && netip link set one up
nsenter --net=$pod sh -c 'netip addr add 10.1.0.2/24 dev two && netip link set two up && netip link set lo up'
nsenter --net=$pod nc -ll -p 15003 -e echo inbound sidecar &
sleep 1
meshc attach --netns $pod --name shop-1 --label app=shop
echo \"out: $(meshc run --as cart -- nc -w 5 10.9.9.9 80)\"
echo \"in: $(nc -w 5 10.1.0.2 8080)\"
meshc run --as cart -- nc -w 5 10.9.9.9 25 && echo open || echo denied
meshc status --format json
";

#[test(long)]
fn the_smallest_kernel_carries_a_policy_and_after_a_reboot_it_is_restored() -> Tested {
    let machine = Vm::new(None)?;
    machine.program("/bin/meshc", Path::new(env!("CARGO_BIN_EXE_meshc")))?;
    // The shell's own `ip` knows no pairs of interfaces.
    machine.program("/bin/netip", Path::new("/bin/ip"))?;
    machine.file("/shop.mesh", POLICY)?;
    let state = "export MESHC_STATE=/disk/meshc";
    machine.file("/fast.mesh", &POLICY.replace("mesh shop {", "mesh shop {\n    accelerate local"))?;
    let first = machine.boot(&format!(
        "{state}\nuname -r\nmeshc apply --yes /shop.mesh\n\
         said=$(meshc --format json apply /fast.mesh 2>&1) && echo accepted || echo \"refused: $? $said\"\n{TRAFFIC}"
    ))?;
    assert!(first.starts_with("6.1."), "the smallest kernel that is promised: {first}");
    // It does not charge bytes past the stack to their reader: refused before anything is written, as `spoken` sees.
    let told = ["cannot-accelerate", "sock_recv_length", "refused: 4"];
    assert!(told.iter().all(|word| first.contains(word)), "{first}");
    // Programs that not every policy needs are left out where the kernel refuses them: it does not.
    assert!(first.contains("mesh_ingress") && !first.contains("is not attached"), "{first}");
    let before = spoken(&first)?;
    // The kernel forgot everything, the disk did not.
    let second = machine.boot(&format!("{state}\nmeshc status\nmeshc restore\n{TRAFFIC}"))?;
    assert!(second.contains("no policy is live"), "{second}");
    assert_eq!(spoken(&second)?, before);
    Ok(())
}

#[test(long)]
fn where_bpf_is_a_security_module_a_splice_that_would_wait_in_vain_is_refused() -> Tested {
    let machine = Vm::newest("6.12")?;
    let meshc = env!("CARGO_BIN_EXE_meshc");
    machine.program(meshc, Path::new(meshc))?;
    machine.program("/e2e", &std::env::current_exe()?)?;
    machine.program("/usr/local/bin/ip", Path::new("/bin/ip"))?;
    // This machine's own kernel may have no TLS.
    machine.modules(&TLS_MODULES)?;
    let said = machine.boot(&format!(
        "export PATH=/usr/local/bin:$PATH MESHC_TEST_KERNEL=1 MESHC_TEST_TLS=1\n\
         {meshc} doctor\n\
         /e2e --test-threads 1 turns_to_splice splices_from_the_first accelerate::tls urgent_data_is"
    ))?;
    assert!(said.contains("ok       the security module bpf"), "{said}");
    assert!(said.contains("test result: ok. 4 passed"), "{said}");
    Ok(())
}

#[test(long)]
fn where_a_kernel_miscounts_and_is_not_locked_down_what_fionread_told_is_repaired() -> Tested {
    for version in MISCOUNTING {
        let said = readers(&Vm::backport(version)?)?;
        assert!(said.contains("ok       repairing FIONREAD"), "{said}");
    }
    Ok(())
}

#[test(long)]
fn where_a_kernel_miscounts_and_is_locked_down_readers_that_ask_are_helped() -> Tested {
    for version in MISCOUNTING {
        let said = readers(&Vm::backport(version)?.locked_down())?;
        assert!(said.contains("missing  repairing FIONREAD"), "{said}");
        assert!(said.contains("ok       noticing FIONREAD"), "{said}");
    }
    Ok(())
}

/// The first counts what came through the stack, the second what came past it, each nothing else.
const MISCOUNTING: [&str; 2] = ["6.12.74+deb12", "6.12.86+deb12"];

/// Runs the tests of readers on a machine, and returns what was printed.
fn readers(machine: &Vm) -> Result<String, Failure> {
    let meshc = env!("CARGO_BIN_EXE_meshc");
    machine.program(meshc, Path::new(meshc))?;
    machine.program("/e2e", &std::env::current_exe()?)?;
    machine.program("/usr/local/bin/ip", Path::new("/bin/ip"))?;
    machine.program("/usr/local/bin/nginx", Path::new("/usr/sbin/nginx"))?;
    machine.file("/etc/passwd", "root:x:0:0::/:/bin/sh\n")?;
    machine.file("/etc/group", "root:x:0:\n")?;
    let said = machine.boot(&format!(
        "export PATH=/usr/local/bin:$PATH MESHC_TEST_KERNEL=1\n\
         {meshc} doctor\n\
         /e2e --test-threads 1 readers::"
    ))?;
    assert!(said.contains("missing  FIONREAD counts accelerated sockets"), "{said}");
    assert!(said.contains("test result: ok. 9 passed"), "{said}");
    Ok(said)
}

/// The digest that is live, where traffic went as the policy says.
fn spoken(printed: &str) -> Result<String, Failure> {
    assert!(
        ["out: sidecar\n", "in: inbound sidecar\n", "denied\n"].iter().all(|line| printed.contains(line)),
        "{printed}"
    );
    digest(printed)
}
