//! The pod, from what its container runtime says.

use std::collections::BTreeMap;

use mesh_runtime::{Attachment, Pod};

use super::config::Config;
use super::{Environment, Failure};

/// An annotation with labels, for callers that hand over annotations and no labels: `app=cart,tier=web`.
const LABELS: &str = "meshc/labels";
/// An annotation with the service account.
const SERVICE_ACCOUNT: &str = "meshc/service-account";

/// The pod of an ADD. One that has no name is named for its container.
pub(super) fn of(environment: &Environment, config: &Config<'_>) -> Result<Pod, Failure> {
    let container = environment.container()?;
    let netns = environment.netns().ok_or_else(|| Failure::environment("CNI_NETNS is empty".into()))?;
    let argument = |key| environment.argument(key).map(str::to_owned);
    let mut labels = config.labels.clone();
    if let Some(given) = config.annotations.get(LABELS) {
        labels.extend(pairs(given)?);
    }
    Ok(Pod {
        netns,
        name: argument("K8S_POD_NAME").unwrap_or_else(|| container.to_owned()),
        namespace: argument("K8S_POD_NAMESPACE"),
        labels,
        // What the node was told of the namespace. Annotations are the words of whoever writes the pod, and a
        // namespace's labels are not theirs.
        namespace_labels: None,
        service_account: config.annotations.get(SERVICE_ACCOUNT).cloned(),
        annotations: config.annotations.clone(),
        addresses: config.addresses()?,
        attachment: Some(Attachment {
            container: container.to_owned(),
            uid: argument("K8S_POD_UID"),
            network: config.network.clone(),
            interface: environment.interface()?.to_owned(),
        }),
        // What is registered for the namespace is replaced where nobody lives in it any more, and never by force.
        force: false,
    })
}

fn pairs(given: &str) -> Result<BTreeMap<String, String>, Failure> {
    let given = given.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    given
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Failure::config(format!("the annotation `{LABELS}` has `{pair}`, which is not KEY=VALUE"))
            })?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_an_annotation_are_pairs() {
        assert_eq!(
            pairs("app=cart, tier=web,").unwrap(),
            [("app".into(), "cart".into()), ("tier".into(), "web".into())].into()
        );
        assert!(pairs("app").is_err());
    }

    #[test]
    fn a_pod_is_named_by_kubernetes_or_else_for_its_container() {
        let environment = |arguments: &str| {
            Environment::read(|name| {
                Some(match name {
                    "CNI_CONTAINERID" => "c1".to_owned(),
                    "CNI_NETNS" => "/run/netns/c1".to_owned(),
                    "CNI_IFNAME" => "eth0".to_owned(),
                    _ => arguments.to_owned(),
                })
            })
        };
        let config = Config::read(br#"{"cniVersion":"1.0.0","name":"n"}"#).unwrap();
        let kubernetes = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_UID=u";
        let pod = of(&environment(kubernetes), &config).unwrap();
        assert_eq!((pod.name.as_str(), pod.namespace.as_deref()), ("cart-1", Some("shop")));
        assert_eq!(pod.attachment.unwrap().uid.as_deref(), Some("u"));
        let pod = of(&environment(""), &config).unwrap();
        assert_eq!((pod.name.as_str(), pod.namespace), ("c1", None));
    }
}
