//! A network's configuration, as it comes on standard input.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use mesh_bpf::text::one_line;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Failure;

/// Versions of the specification that are spoken.
pub(super) const SUPPORTED: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest of them.
pub(super) const LATEST: &str = "1.1.0";

/// Which instance of meshc; what is not named is as on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Site {
    /// `--instance`
    #[serde(default)]
    pub instance: Option<String>,
    /// `--bpffs`
    #[serde(default)]
    pub bpffs: Option<PathBuf>,
    /// `--cgroup`
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// `--state`
    #[serde(default)]
    pub state: Option<PathBuf>,
}

/// What is ours and the specification's in it. Other keys are other people's.
#[derive(Debug, Deserialize)]
struct Wire<'a> {
    #[serde(default, deserialize_with = "or_null", rename = "cniVersion")]
    version: String,
    #[serde(default, deserialize_with = "or_null")]
    name: String,
    #[serde(borrow, default, rename = "prevResult")]
    previous: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "or_null", rename = "runtimeConfig")]
    by_runtime: RuntimeConfig,
    #[serde(default, deserialize_with = "or_null")]
    args: Args,
    #[serde(default, deserialize_with = "or_null")]
    labels: BTreeMap<String, String>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Valid>>,
}

/// What a container runtime adds for a capability that the plugin's entry declares.
#[derive(Debug, Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default, deserialize_with = "or_null", rename = "io.kubernetes.cri.pod-annotations")]
    annotations: BTreeMap<String, String>,
}

/// `args.cni.labels`, by the conventions of CNI.
#[derive(Debug, Default, Deserialize)]
struct Args {
    #[serde(default, deserialize_with = "or_null")]
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
struct CniArgs {
    #[serde(default, deserialize_with = "or_null")]
    labels: Vec<Label>,
}

#[derive(Debug, Deserialize)]
struct Label {
    key: String,
    value: String,
}

/// An attachment that a container runtime knows, at GC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Valid {
    #[serde(rename = "containerID")]
    pub(super) container: String,
    #[serde(rename = "ifname")]
    pub(super) interface: String,
}

/// The result of the plugins before, as far as the specification says what is in it: it is passed on, so that it is
/// looked at whole.
#[derive(Debug, Default, Deserialize)]
struct Previous {
    #[serde(default, deserialize_with = "or_null", rename = "cniVersion")]
    _version: String,
    #[serde(default, deserialize_with = "or_null")]
    interfaces: Vec<Object<PreviousInterface>>,
    #[serde(default, deserialize_with = "or_null")]
    ips: Vec<Object<PreviousAddress>>,
    #[serde(default, deserialize_with = "or_null", rename = "routes")]
    _routes: Vec<Object<PreviousRoute>>,
    #[serde(default, rename = "dns")]
    _dns: Option<Object<PreviousDns>>,
}

#[derive(Debug, Deserialize)]
struct PreviousInterface {
    #[serde(default, deserialize_with = "or_null", rename = "name")]
    _name: String,
    #[serde(default, deserialize_with = "or_null", rename = "mac")]
    _mac: String,
    #[serde(default, deserialize_with = "or_null")]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct PreviousAddress {
    address: Cidr,
    #[serde(default, rename = "gateway")]
    _gateway: Option<IpAddr>,
    interface: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct PreviousRoute {
    #[serde(rename = "dst")]
    _destination: Cidr,
    #[serde(default, rename = "gw")]
    _gateway: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
struct PreviousDns {
    #[serde(default, deserialize_with = "or_null", rename = "nameservers")]
    _servers: Vec<String>,
    #[serde(default, deserialize_with = "or_null", rename = "domain")]
    _domain: String,
    #[serde(default, deserialize_with = "or_null", rename = "search")]
    _search: Vec<String>,
    #[serde(default, deserialize_with = "or_null", rename = "options")]
    _options: Vec<String>,
}

/// A structure that is written as an object: serde takes a list for one, too.
#[derive(Debug)]
struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let object = Value::Object(Map::deserialize(from)?);
        serde_json::from_value(object).map(Self).map_err(D::Error::custom)
    }
}

/// An address with the length of its network's prefix.
#[derive(Debug)]
struct Cidr(IpAddr);

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let address = || {
            let (address, length) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 =
                length.parse().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()))?;
            (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(address)
        };
        let wrong =
            || D::Error::custom(format!("`{}` is no address with the length of a prefix", one_line(&text)));
        address().map(Self).ok_or_else(wrong)
    }
}

/// Programs in Go write an empty list or map as `null`.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A configuration that was understood.
#[derive(Debug)]
pub(super) struct Config<'a> {
    pub(super) version: String,
    pub(super) network: String,
    pub(super) site: Site,
    /// Labels that hold for every pod of the network, and those that the caller gave for this one.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) valid: Option<Vec<Valid>>,
    previous: Option<&'a RawValue>,
}

impl<'a> Config<'a> {
    pub(super) fn read(input: &'a [u8]) -> Result<Self, Failure> {
        let damaged =
            |error: serde_json::Error| Failure::decode(format!("the network's configuration: {error}"));
        let wire: Wire<'_> = serde_json::from_slice(input).map_err(damaged)?;
        // A borrowed value cannot stand beside flattened ones, so the bytes are read twice.
        let site: Site = serde_json::from_slice(input).map_err(damaged)?;
        if !SUPPORTED.contains(&wire.version.as_str()) {
            let message = format!("version `{}` is not one of {}", wire.version, SUPPORTED.join(", "));
            return Err(Failure::version(message));
        }
        if wire.name.is_empty() {
            return Err(Failure::config("the network has no name".into()));
        }
        let previous = wire.previous.filter(|previous| previous.get() != "null");
        let mut labels = wire.labels;
        labels.extend(wire.args.cni.labels.into_iter().map(|label| (label.key, label.value)));
        Ok(Self {
            version: wire.version,
            network: wire.name,
            site,
            labels,
            annotations: wire.by_runtime.annotations,
            valid: wire.valid,
            previous,
        })
    }

    /// The pod's addresses, as the plugins before say. Only an ADD asks: a DEL succeeds whatever they said.
    pub(super) fn addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        Ok(self.previous.map(addresses).transpose()?.unwrap_or_default())
    }

    /// The result of an ADD: that of the plugins before, byte for byte.
    pub(super) fn result(&self) -> String {
        let alone = || json!({ "cniVersion": self.version, "interfaces": [], "ips": [] }).to_string();
        self.previous.map_or_else(alone, |previous| previous.get().to_owned())
    }

    /// Whether the configuration is of a version before `major.minor`.
    pub(super) fn is_before(&self, version: (u32, u32)) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) < version
    }
}

/// The version that a configuration asks for, whatever else is wrong with it.
pub(super) fn version(input: &[u8]) -> Option<String> {
    let wire: serde_json::Value = serde_json::from_slice(input).ok()?;
    wire.get("cniVersion")?.as_str().map(str::to_owned)
}

/// The addresses that are inside the pod, those of the host's interfaces left out.
fn addresses(previous: &RawValue) -> Result<Vec<IpAddr>, Failure> {
    let damaged = |why: String| Failure::decode(format!("prevResult: {why}"));
    let Object(previous): Object<Previous> =
        serde_json::from_str(previous.get()).map_err(|error| damaged(error.to_string()))?;
    let is_inside = |Object(ip): &&Object<PreviousAddress>| {
        let interface = ip.interface.and_then(|index| previous.interfaces.get(index));
        interface.is_none_or(|Object(interface)| !interface.sandbox.is_empty())
    };
    Ok(previous.ips.iter().filter(is_inside).map(|Object(ip)| ip.address.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config<'_>, Failure> {
        Config::read(text.as_bytes())
    }

    #[test]
    fn what_the_plugins_before_said_is_passed_on_byte_for_byte() {
        let previous = "{ \"ips\":[ ],\"z\" : 1e2, \"cniVersion\":\"1.0.0\",\"a\":\"\\u00e9\" }";
        let text = format!("{{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"prevResult\":  {previous} }}");
        assert_eq!(read(&text).unwrap().result(), previous);
    }

    #[test]
    fn only_addresses_inside_the_pod_are_its_own() {
        let text = r#"{"cniVersion":"0.4.0","name":"n","prevResult":{"interfaces":[
            {"name":"cni0"},{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[
            {"version":"4","interface":0,"address":"10.0.0.1/16"},
            {"version":"4","interface":1,"address":"10.0.0.2/16"},
            {"version":"6","address":"fd00::2/64"}]}}"#;
        assert_eq!(
            read(text).unwrap().addresses().unwrap(),
            ["10.0.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]
        );
    }

    #[test]
    fn what_is_null_is_empty() {
        // So containerd says that a pod has no annotations.
        let text = r#"{"cniVersion":"1.0.0","name":"n","labels":null,"args":{"cni":{"labels":null}},
            "runtimeConfig":{"io.kubernetes.cri.pod-annotations":null},"cni.dev/valid-attachments":null,
            "prevResult":{"interfaces":null,"ips":null}}"#;
        let config = read(text).unwrap();
        assert!(config.labels.is_empty() && config.annotations.is_empty());
        assert_eq!(config.addresses(), Ok(vec![]));
        for key in ["args", "runtimeConfig", "prevResult"] {
            assert!(read(&format!(r#"{{"cniVersion":"1.0.0","name":"n","{key}":null}}"#)).is_ok(), "{key}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_understood_is_refused_with_the_code_for_it() {
        let code = |text| {
            read(text)
                .and_then(|config| config.addresses())
                .map(drop)
                .map_err(|failure| failure.object("1.0.0"))
        };
        for (text, expected) in [
            ("{", "\"code\":6"),
            (r#"{"name":"n"}"#, "\"code\":1"),
            (r#"{"cniVersion":"0.2.0","name":"n"}"#, "\"code\":1"),
            (r#"{"cniVersion":"1.0.0"}"#, "\"code\":7"),
            (r#"{"cniVersion":"1.0.0","name":"n","prevResult":{"ips":[{"address":"x"}]}}"#, "\"code\":6"),
        ] {
            assert!(code(text).is_err_and(|object| object.contains(expected)), "{text}");
        }
    }

    #[test]
    fn a_result_before_that_is_not_of_the_specifications_form_is_not_passed_on() {
        let read = |previous: &str| {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"n","prevResult":{previous}}}"#);
            let addresses = self::read(&text).and_then(|config| config.addresses());
            addresses.map(drop).map_err(|failure| failure.object("1.0.0"))
        };
        let of_address = |address: &str| format!(r#"{{"ips":[{{"address":"{address}"}}]}}"#);
        for good in ["10.0.0.1/0", "10.0.0.1/32", "fd00::1/128", "::ffff:10.0.0.1/120", "fe80::1/64"] {
            assert_eq!(read(&of_address(good)), Ok(()), "{good}");
        }
        let addresses = [
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "10.0.0.1/-1",
            "10.0.0.1/8/8",
            "10.0.0.1/ 8",
            "/8",
            "010.0.0.1/8",
            "10.0.0/8",
            "fd00::1/129",
            "fe80::1%eth0/64",
            "fd00::1/256",
            " 10.0.0.1/8",
            "\\u001b[2J/8",
        ]
        .map(of_address);
        let others = [
            "[]",
            "\"x\"",
            "1",
            "true",
            "[[],[]]",
            r#"{"ips":{}}"#,
            r#"{"ips":"10.0.0.1/8"}"#,
            r#"{"ips":[["10.0.0.1/8"]]}"#,
            r#"{"ips":[{"interface":0}]}"#,
            r#"{"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#,
            r#"{"ips":[{"address":"10.0.0.1/8","gateway":"10.0.0.2/8"}]}"#,
            r#"{"interfaces":[[]]}"#,
            r#"{"interfaces":[{"sandbox":1}]}"#,
            r#"{"routes":[{"dst":"0.0.0.0"}]}"#,
            r#"{"routes":[{}]}"#,
            r#"{"routes":[{"dst":"0.0.0.0/0","gw":"x"}]}"#,
            r#"{"dns":[]}"#,
            r#"{"cniVersion":1}"#,
        ]
        .map(str::to_owned);
        for bad in addresses.iter().chain(&others) {
            let said = read(bad);
            assert!(said.as_ref().is_err_and(|object| object.contains("\"code\":6")), "{bad}: {said:?}");
            assert!(!said.is_err_and(|object| object.contains('\u{1b}')), "{bad}");
        }
    }

    #[test]
    fn labels_and_instance_come_from_the_configuration() {
        let text = r#"{"cniVersion":"1.1.0","name":"n","instance":"blue","labels":{"zone":"a","app":"x"},
            "args":{"cni":{"labels":[{"key":"app","value":"cart"}]}},
            "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a/b":"c"},"portMappings":[]}}"#;
        let config = read(text).unwrap();
        assert_eq!(config.site.instance.as_deref(), Some("blue"));
        assert_eq!(config.labels, [("app".into(), "cart".into()), ("zone".into(), "a".into())].into());
        assert_eq!(config.annotations, [("a/b".into(), "c".into())].into());
        assert!(config.is_before((1, 2)) && !config.is_before((1, 1)) && !config.is_before((0, 4)));
    }
}
