//! Objects of a cluster of random choices, most of which are nearly right.

use std::fmt::Write;

use crate::choice::Choices;

const KINDS: [&str; 8] =
    ["Deployment", "Pod", "Namespace", "ConfigMap", "MeshConfig", "Service", "StatefulSet", "CronJob"];

const NAMES: [&str; 8] = ["cart", "shop", "istio", "mesh", "a.b", "7up", "ü", "kube-dns"];

const KEYS: [&str; 40] = [
    "app",
    "app.kubernetes.io/name",
    "tier",
    "pod-template-hash",
    "sidecar.istio.io/inject",
    "istio-injection",
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "proxy.istio.io/config",
    "status.sidecar.istio.io/port",
    "kuma.io/sidecar-injection",
    "kuma.io/sidecar-uid",
    "kuma.io/builtin-dns",
    "kuma.io/transparent-proxying-ip-family-mode",
    "traffic.kuma.io/exclude-inbound-ports",
    "traffic.kuma.io/exclude-outbound-ports",
    "traffic.kuma.io/exclude-inbound-ips",
    "traffic.kuma.io/exclude-outbound-ips",
    "traffic.kuma.io/exclude-outbound-ports-for-uids",
    "openservicemesh.io/sidecar-injection",
    "openservicemesh.io/monitored-by",
    "openservicemesh.io/outbound-port-exclusion-list",
    "openservicemesh.io/inbound-port-exclusion-list",
    "openservicemesh.io/outbound-ip-range-exclusion-list",
    "openservicemesh.io/outbound-ip-range-inclusion-list",
    "linkerd.io/inject",
    "config.linkerd.io/skip-outbound-ports",
    "config.linkerd.io/skip-inbound-ports",
    "config.linkerd.io/skip-subnets",
    "config.linkerd.io/proxy-uid",
    "consul.hashicorp.com/connect-inject",
    "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports",
    "consul.hashicorp.com/transparent-proxy-exclude-outbound-cidrs",
    "consul.hashicorp.com/transparent-proxy-exclude-uids",
];

const VALUES: [&str; 32] = [
    "80",
    "80,443",
    "3306, 6379,",
    "53",
    "8000-8999",
    "9000-8000,70000,0,-1",
    "15001,15003,15006,15053,15021",
    "*",
    "",
    "10.0.0.0/8",
    "10.1.2.3/16,10.0.0.0/8,fd00::/8",
    "0.0.0.0/0,::/0",
    "127.0.0.0/8,224.0.0.0/3,fe80::/10",
    "10.0.0.1",
    "::ffff:10.0.0.0/104",
    "true",
    "false",
    "enabled",
    "disabled",
    "ipv4",
    "TPROXY",
    "NONE",
    "0",
    "1337",
    "4294967295,4294967296",
    "tcp:22,80-90:1000-2000;udp:53:5",
    "*:*:7;1000;any:80:1",
    "proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}",
    "{broken",
    "cart",
    "# meshc: allow(leak)",
    "a\u{202e}b\u{7}c",
];

/// A file of some objects.
#[must_use]
pub fn cluster(choices: &mut Choices<'_>) -> String {
    let mut out = String::new();
    while choices.more() && out.len() < 1 << 16 {
        let kind = pick(&KINDS, choices);
        let (name, namespace) = (pick(&NAMES, choices), pick(&NAMES, choices));
        let _ = write!(out, "---\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n");
        let metadata = |out: &mut String, indent: &str, choices: &mut Choices<'_>| {
            for part in ["labels", "annotations"] {
                let _ = writeln!(out, "{indent}{part}:\n{indent}  x: y");
                for _ in 0..choices.byte() % 5 {
                    let (key, value) = (pick(&KEYS, choices), pick(&VALUES, choices));
                    let _ = writeln!(out, "{indent}  {key}: '{}'", value.replace('\'', "''"));
                }
            }
        };
        metadata(&mut out, "  ", choices);
        match kind {
            "Deployment" | "StatefulSet" => {
                out.push_str("spec:\n  template:\n    metadata:\n");
                metadata(&mut out, "      ", choices);
                out.push_str("    spec:\n      containers: [{name: app}]\n");
            }
            "CronJob" => {
                out.push_str("spec:\n  jobTemplate:\n    spec:\n      template:\n        metadata:\n");
                metadata(&mut out, "          ", choices);
                out.push_str("        spec:\n          containers: [{name: app}]\n");
            }
            "ConfigMap" => {
                let _ = writeln!(out, "data:\n  mesh: '{}'", pick(&VALUES, choices).replace('\'', "''"));
                let _ = writeln!(
                    out,
                    "  values: '{{global: {{proxy: {{excludeIPRanges: \"{}\"}}}}}}'",
                    pick(&VALUES, choices).replace('\'', "''")
                );
            }
            "MeshConfig" => {
                let _ = writeln!(
                    out,
                    "spec:\n  traffic:\n    outboundPortExclusionList: [{}]",
                    pick(&["80", "80, 443", "x", "[1]"], choices)
                );
            }
            "Service" => {
                let _ = writeln!(
                    out,
                    "spec: {{clusterIP: {}}}",
                    pick(&["10.96.0.10", "None", "fd00::a"], choices)
                );
            }
            _ => {}
        }
    }
    out
}

fn pick<'s>(from: &[&'s str], choices: &mut Choices<'_>) -> &'s str {
    from.iter().cycle().nth(usize::from(choices.byte()) % from.len().max(1)).copied().unwrap_or_default()
}
