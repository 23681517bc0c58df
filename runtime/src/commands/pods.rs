//! Pods come and go by the cookie of their network namespace.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mesh_bpf::image::Workload;
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::text::{is_obeyed, one_line};

use crate::attach::{hooks, pod};
use crate::commands::failed;
use crate::drift::PodFault;
use crate::error::{Error, Result};
use crate::maps::live::{self, membership};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot::{self, PerSlot};
use crate::member::{Interface, Key, Member, Origin, Sandbox};
use crate::members::pod::{Attachment, Pod, PodAttached, PodSelector};
use crate::members::registry::Registry;
use crate::members::{addresses, files, namespaces, node_addresses};
use crate::runtime::Runtime;
use crate::state::lock::lock;
use crate::state::record;
use crate::system::linux::{Changes, Kernel};
use crate::system::{HOST_NETNS, Netns as _, Sources, System};

/// A deadline that does not come.
pub const NEVER: u64 = u64::MAX;

impl<S: System> Runtime<S> {
    /// Registers a pod, or registers it again with other labels or addresses. Where no policy is live, the
    /// next one finds it.
    ///
    /// # Errors
    /// Where the network namespace is gone, or two workloads select the pod and neither is narrower; unless it is
    /// forced, where the namespace is the node's own or another pod's. Then all is as it was before.
    pub fn attach(&self, pod: &Pod) -> Result<PodAttached> {
        self.attach_before(pod, NEVER)
    }

    /// The same, unless it is later than `deadline` by [`Runtime::clock`] once nobody else works on the registry:
    /// whoever asked for it has given up then, and may have done it or undone it without us.
    ///
    /// # Errors
    /// As [`Runtime::attach`], and where it is too late.
    pub fn attach_before(&self, pod: &Pod, deadline: u64) -> Result<PodAttached> {
        let node = self.node();
        let cookie = self.cookie(&pod.netns)?;
        let key = Key::Netns(cookie);
        if !pod.force && node.system.is_own_netns(cookie)? {
            return Err(Error::HostNetwork(pod.name.clone()));
        }
        if self.is_by_rulesets() {
            return self.attach_rulesets(pod, key, deadline);
        }
        loop {
            let held = lock(node, &node.instance.maps(), self.options.lock_timeout)?;
            self.in_time(deadline)?;
            record::create_dirs(node)?;
            files::create_dir(node)?;
            if held.is_some()
                && let Some(maps) = PinnedMaps::open(node)?
            {
                let registry = Registry::new(node, &maps);
                let attached = self.attach_live(&registry, pod, key)?;
                failed::attached(node, pod)?;
                return Ok(attached);
            }
            record::write(
                node.system,
                &node.instance.members().join(key.to_string()),
                &self.member(pod, key)?,
                false,
            )?;
            // A first apply may have read the members before this one was there.
            if node.system.inode(&node.instance.maps())?.is_none() {
                failed::attached(node, pod)?;
                return Ok(PodAttached { key, workload: None });
            }
        }
    }

    /// Milliseconds since boot, sleep included: the same for every process.
    pub fn clock(&self) -> u64 {
        self.system.clock()
    }

    /// Milliseconds since 1970 at a moment that [`Runtime::clock`] tells of.
    pub fn wall_clock_of(&self, since_boot: u64) -> u64 {
        let ago = self.system.clock().saturating_sub(since_boot);
        self.system.wall_clock().saturating_sub(ago)
    }

    pub(super) fn in_time(&self, deadline: u64) -> Result<()> {
        if self.system.clock() > deadline { Err(Error::TooLate) } else { Ok(()) }
    }

    fn attach_live(&self, registry: &Registry<'_, S>, pod: &Pod, key: Key) -> Result<PodAttached> {
        registry.recover()?;
        let member = self.member(pod, key)?;
        // It is a member as it is to be, or what it was before.
        let workload = self.put(registry, &member).inspect_err(|_| drop(registry.recover()))?;
        Ok(PodAttached { key, workload })
    }

    /// Registers a member as the live policy wants it, and returns its workload. The registry's lock is held.
    fn put(&self, registry: &Registry<'_, S>, member: &Member) -> Result<Option<String>> {
        let live = live::live(registry.node.system, registry.maps)?;
        let policy =
            live.as_ref().map(|live| membership(registry.node.system, registry.maps, live)).transpose()?;
        let workload = policy.as_ref().map_or(Ok(None), |policy| member.workload(policy))?;
        let workload = workload.map(|workload| workload.name.clone());
        let slot = live.as_ref().map_or(0, live::Live::slot);
        // A node's first pod may have given it the address that it is probed from.
        if let Some(live) = &live
            && node_addresses::are_asked_live(registry.node.system, registry.maps, live)?
        {
            registry.node_addresses()?;
        }
        registry.join(member, PerSlot::of(slot, policy.as_ref(), None::<&Membership>))?;
        Ok(workload)
    }

    /// Removes a pod; one that is not there is no error, since a runtime deletes twice. Whether it was there.
    ///
    /// # Errors
    /// What the kernel says; the next command tries again.
    pub fn detach(&self, which: &PodSelector) -> Result<bool> {
        self.detach_before(which, NEVER)
    }

    /// The same, unless it is too late as for [`Runtime::attach_before`].
    ///
    /// # Errors
    /// As [`Runtime::detach`], and where it is too late.
    pub fn detach_before(&self, which: &PodSelector, deadline: u64) -> Result<bool> {
        if self.is_by_rulesets() {
            return self.detach_pod_rulesets(which, deadline);
        }
        let node = self.node();
        let held = lock(node, &node.instance.maps(), self.options.lock_timeout)?;
        self.in_time(deadline)?;
        let maps = if held.is_some() { PinnedMaps::open(node)? } else { None };
        let registry = maps.as_ref().map(|maps| Registry::new(node, maps));
        if let Some(registry) = &registry {
            registry.recover()?;
        }
        if let PodSelector::Container { container, .. } = which {
            failed::gone(node, container)?;
        }
        let Some(member) = self.find(which)? else { return Ok(false) };
        let file = node.instance.members().join(member.key.to_string());
        match (rest(which, &member), registry) {
            // As with an attach: without that interface, or as it was.
            (Some(rest), Some(registry)) => {
                drop(self.put(&registry, &rest).inspect_err(|_| drop(registry.recover()))?);
            }
            (Some(rest), None) => record::write(node.system, &file, &rest, false)?,
            (None, Some(registry)) => registry.leave(member.key)?,
            (None, None) => node.system.remove(&file)?,
        }
        Ok(true)
    }

    /// In what a pod is not as it should be; nothing where all is well.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn check(&self, which: &PodSelector) -> Result<Vec<PodFault>> {
        let node = self.node();
        let Some(member) = self.find(which)? else { return Ok(vec![PodFault::NotRegistered]) };
        let mut wrong = Vec::new();
        if let PodSelector::Container { interface: Some(interface), .. } = which
            && member.sandbox.as_ref().is_some_and(|sandbox| !sandbox.interfaces.contains_key(interface))
        {
            wrong.push(PodFault::InterfaceNotRegistered(interface.clone()));
        }
        if self.is_by_rulesets() {
            wrong.extend(self.check_rulesets(&member)?);
            return Ok(wrong);
        }
        let Some(maps) = PinnedMaps::open(node)? else { return Ok(wrong) };
        let Some(live) = live::live(node.system, &maps)? else { return Ok(wrong) };
        let policy = membership(node.system, &maps, &live)?;
        let registry = Registry::new(node, &maps);
        wrong.extend(registry.drift_of(&member, live.slot(), &policy)?.map(PodFault::from));
        let profiles = slot::read_table(node.system, &maps, live.slot(), &live.manifest, Table::Profiles)?;
        let missing = hooks::missing_for(node, &profiles)?;
        wrong.extend(missing.into_iter().map(hooks::drift).map(PodFault::from));
        Ok(wrong)
    }

    /// Brings what is known of a pod's own addresses, and of the interfaces that the live policy exempts, in line with its
    /// interfaces and routes; whether it was not.
    ///
    /// # Errors
    /// What the kernel says; then it is as it was before.
    pub fn follow(&self, key: Key) -> Result<bool> {
        if self.is_by_rulesets() {
            return self.follow_rulesets(key);
        }
        let node = self.node();
        let held = lock(node, &node.instance.maps(), self.options.lock_timeout)?;
        let maps = if held.is_some() { PinnedMaps::open(node)? } else { None };
        let registry = maps.as_ref().map(|maps| Registry::new(node, maps));
        if let Some(registry) = &registry {
            registry.recover()?;
        }
        let Some(member) = self.find(&PodSelector::Key(key))? else { return Ok(false) };
        let Some(member) = addresses::moved(node.system, &member)? else {
            return registry.map_or(Ok(false), |registry| self.follow_interfaces(&registry, &member));
        };
        match registry {
            Some(registry) => drop(self.put(&registry, &member).inspect_err(|_| drop(registry.recover()))?),
            None => {
                record::write(node.system, &node.instance.members().join(key.to_string()), &member, false)?
            }
        }
        Ok(true)
    }

    /// The same of exempt interfaces alone. The registry's lock is held.
    fn follow_interfaces(&self, registry: &Registry<'_, S>, member: &Member) -> Result<bool> {
        let Some(live) = live::live(registry.node.system, registry.maps)? else { return Ok(false) };
        let policy = membership(registry.node.system, registry.maps, &live)?;
        let policies = PerSlot::of(live.slot(), Some(&policy), None);
        Ok(registry.exempt_interfaces(member, policies)? > 0)
    }

    /// Whether the live policy exempts interfaces of the host: for processes that are members by their cgroup.
    ///
    /// # Errors
    /// As [`Runtime::live`].
    pub fn exempts_host_interfaces(&self) -> Result<bool> {
        // A ruleset names interfaces, and sees by which a packet goes.
        if self.is_by_rulesets() {
            return Ok(false);
        }
        let node = self.node();
        let Some(maps) = PinnedMaps::open(node)? else { return Ok(false) };
        let Some(live) = live::live(node.system, &maps)? else { return Ok(false) };
        let policy = membership(node.system, &maps, &live)?;
        if policy.exempt_interfaces.is_empty() {
            return Ok(false);
        }
        let exempts = |workload: &Workload| policy.exempt_interfaces.contains_key(&workload.profile);
        let by_cgroup = |workload: &Workload| !workload.selector.cgroups.is_empty();
        // Any workload may have the processes of a command.
        let members = files::members(node)?;
        let has_members = members.iter().any(|member| {
            matches!(member.key, Key::Cgroup(_))
                && member.workload(&policy).ok().flatten().is_some_and(exempts)
        });
        Ok(has_members || policy.workloads.iter().any(|workload| by_cgroup(workload) && exempts(workload)))
    }

    /// Brings what is known of the host's exempt interfaces in line with its interfaces and routes; whether it was not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn follow_host(&self) -> Result<bool> {
        if self.is_by_rulesets() {
            return Ok(false);
        }
        let node = self.node();
        let held = lock(node, &node.instance.maps(), self.options.lock_timeout)?;
        let maps = if held.is_some() { PinnedMaps::open(node)? } else { None };
        let Some(maps) = maps else { return Ok(false) };
        let registry = Registry::new(node, &maps);
        registry.recover()?;
        let Some(live) = live::live(node.system, &maps)? else { return Ok(false) };
        let policy = membership(node.system, &maps, &live)?;
        let policies = PerSlot::of(live.slot(), Some(&policy), None);
        Ok(registry.exempt_host_interfaces(policies)? > 0)
    }

    /// Brings what is known of the node's own addresses in line with its interfaces: whether it was not, or `None`
    /// where the live policy does not ask for them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn follow_node(&self) -> Result<Option<bool>> {
        if self.is_by_rulesets() {
            return self.follow_node_rulesets();
        }
        let node = self.node();
        let held = lock(node, &node.instance.maps(), self.options.lock_timeout)?;
        let maps = if held.is_some() { PinnedMaps::open(node)? } else { None };
        let Some(maps) = maps else { return Ok(None) };
        let Some(live) = live::live(node.system, &maps)? else { return Ok(None) };
        if !node_addresses::are_asked_live(node.system, &maps, &live)? {
            return Ok(None);
        }
        Ok(Some(Registry::new(node, &maps).node_addresses()? > 0))
    }

    /// The addresses that rules about `node` take for the node's.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn node_addresses(&self) -> Result<BTreeSet<IpAddr>> {
        let node = self.node();
        if self.is_by_rulesets() {
            return node_addresses::found(node.system);
        }
        let Some(maps) = PinnedMaps::open(node)? else { return Ok(BTreeSet::new()) };
        node_addresses::known(node.system, &maps)
    }

    /// The addresses that the node has.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn own_addresses(&self) -> Result<BTreeSet<IpAddr>> {
        node_addresses::found(&self.system)
    }

    /// The pod with this key.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn pod(&self, key: Key) -> Result<Option<Member>> {
        Ok(self.find(&PodSelector::Key(key))?.filter(|member| member.origin == Origin::Attached))
    }

    /// Everybody who is registered in this boot: pods, and cgroups that a policy names or a command runs in.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn members(&self) -> Result<Vec<Member>> {
        files::members(self.node())
    }

    /// Every pod that is registered in this boot.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn pods(&self) -> Result<Vec<Member>> {
        let mut members = files::members(self.node())?;
        members.retain(|member| member.origin == Origin::Attached);
        Ok(members)
    }

    /// Removes the pods whose network namespaces have ended, and returns their names. What failed to be
    /// attached is forgotten likewise.
    ///
    /// # Errors
    /// What the kernel says; the next sweep goes on.
    pub fn sweep(&self) -> Result<Vec<String>> {
        let cookie = |netns: &PathBuf| self.system.netns_cookie(netns).ok().map(Key::Netns);
        let mut gone = self.pods()?;
        gone.retain(|member| member.netns.as_ref().and_then(cookie) != Some(member.key));
        failed::sweep(self.node())?;
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        // Its file is gone or stands for another; a process may live in it all the same.
        let living = self.system.namespaces()?;
        gone.retain(|member| matches!(member.key, Key::Netns(cookie) if !living.contains(&cookie)));
        for member in &gone {
            self.detach(&PodSelector::Key(member.key))?;
        }
        Ok(gone.into_iter().map(|member| member.name).collect())
    }

    /// The cookie of the network namespace that somebody named.
    fn cookie(&self, netns: &Path) -> Result<u64> {
        self.system.netns_cookie(netns).map_err(|cause| match cause.errno() {
            // It is not there, or of another kind.
            Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL) => {
                Error::NotANetns { netns: netns.into(), cause: cause.source }
            }
            _ => cause.into(),
        })
    }

    /// Why there is no pod of this name in this Kubernetes namespace.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn not_attached(&self, namespace: Option<String>, name: String) -> Result<Error> {
        let namesakes = self.pods()?.into_iter().filter(|member| member.name == name);
        Ok(Error::NotAttached {
            elsewhere: namesakes.map(|member| member.namespace).collect(),
            namespace,
            name,
        })
    }

    pub(super) fn find(&self, which: &PodSelector) -> Result<Option<Member>> {
        let at = |key: Key| record::read(&self.system, &self.instance.members().join(key.to_string()));
        let is_it: &dyn Fn(&Member) -> bool = match which {
            PodSelector::Key(key) => return at(*key),
            PodSelector::Netns(netns) => return at(Key::Netns(self.cookie(netns)?)),
            PodSelector::Name(namespace, name) => &move |member| {
                member.origin == Origin::Attached && member.namespace == *namespace && member.name == *name
            },
            PodSelector::Container { container, netns, .. } => {
                let is_its = move |member: &Member| {
                    member.sandbox.as_ref().is_some_and(|sandbox| sandbox.container == *container)
                };
                let cookie = netns.as_ref().and_then(|netns| self.system.netns_cookie(netns).ok());
                if let Some(cookie) = cookie
                    && let Some(member) = at(Key::Netns(cookie))?.filter(is_its)
                {
                    return Ok(Some(member));
                }
                &move |member| is_its(member)
            }
        };
        Ok(files::members(self.node())?.into_iter().find(is_it))
    }

    /// Whether a pod may have the network namespace of one that is registered: it is the same by name, or a container
    /// runtime says that the namespace is another container's by now, and no process of the first one is left.
    ///
    /// A runtime makes the namespace, asks for the pod to be attached, and starts its first process then. By hand, a
    /// namespace without a process is no sign of anything: `ip netns` makes such.
    fn is_free_for(&self, pod: &Pod, known: &Member) -> Result<bool> {
        if (&known.namespace, &known.name) == (&pod.namespace, &pod.name) {
            return Ok(true);
        }
        let other = match (&pod.attachment, &known.sandbox) {
            (Some(attachment), Some(sandbox)) => attachment.container != sandbox.container,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let Key::Netns(cookie) = known.key else { return Ok(false) };
        Ok(other && !self.system.is_lived_in(cookie)?)
    }

    /// A pod that is attached again keeps its number, and the other interfaces of the same container.
    pub(super) fn member(&self, pod: &Pod, key: Key) -> Result<Member> {
        if pod.name.is_empty() {
            return Err(Error::NoName);
        }
        // What is said of a pod is shown on terminals and in logs, a line each.
        let labels = pod.labels.iter().chain(pod.namespace_labels.iter().flatten());
        let labels = labels.flat_map(|(key, value)| [key, value]);
        let words = [&pod.name].into_iter().chain(&pod.namespace).chain(&pod.service_account).chain(labels);
        if let Some(word) = words.into_iter().find(|word| word.contains(is_obeyed)) {
            return Err(Error::BadWord(one_line(word).into_owned()));
        }
        let node = self.node();
        let known = record::read::<Member>(node.system, &node.instance.members().join(key.to_string()))?;
        if let Some(known) = &known
            && !pod.force
            && !self.is_free_for(pod, known)?
        {
            let name = |namespace: &Option<String>, name: &String| {
                namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
            };
            return Err(Error::OtherPod {
                netns: pod.netns.clone(),
                known: name(&known.namespace, &known.name),
                name: name(&pod.namespace, &pod.name),
            });
        }
        let id = known.as_ref().map_or_else(|| files::new_id(node), |member| Ok(member.id))?;
        let mut addresses: Vec<IpAddr> = pod.addresses.iter().map(IpAddr::to_canonical).collect();
        let are_given = pod.attachment.is_none() && !addresses.is_empty();
        let followed = if are_given { None } else { Some(addresses::followed(node.system, &pod.netns)?) };
        if addresses.is_empty() {
            addresses = followed.clone().unwrap_or_default();
        }
        let sources = node.system.netns_sources(&pod.netns)?;
        let sandbox = pod.attachment.as_ref().map(|attachment| {
            sandbox(attachment, &addresses, known.as_ref().and_then(|member| member.sandbox.as_ref()))
        });
        let addresses = sandbox.as_ref().map_or(addresses, Sandbox::addresses);
        let sources = Sources::of(sources, followed.as_ref().unwrap_or(&addresses));
        Ok(Member {
            id,
            key,
            origin: Origin::Attached,
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            namespace_labels: namespaces::of(node, pod)?,
            service_account: pod.service_account.clone(),
            annotations: pod.annotations.clone(),
            addresses,
            sources: Some(sources),
            netns: Some(pod.netns.clone()),
            followed,
            sandbox,
            cgroup: None,
        })
    }
}

impl Runtime<Kernel> {
    /// What tells when a pod's interfaces, their addresses or its routes change; `None` where its network namespace cannot
    /// be found. It keeps that namespace alive.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn changes(&self, pod: &Member) -> Result<Option<Changes>> {
        let Key::Netns(cookie) = pod.key else { return Ok(None) };
        let Some(netns) = pod::find(&self.system, pod, cookie)? else { return Ok(None) };
        Ok(Some(self.system.changes(&netns, cookie)?))
    }

    /// The same of the host.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn host_changes(&self) -> Result<Changes> {
        let netns = Path::new(HOST_NETNS);
        Ok(self.system.changes(netns, self.system.netns_cookie(netns)?)?)
    }
}

/// An attachment, beside the others of the same container.
fn sandbox(attachment: &Attachment, addresses: &[IpAddr], known: Option<&Sandbox>) -> Sandbox {
    let interface = Interface { network: attachment.network.clone(), addresses: addresses.to_vec() };
    let same = known.filter(|known| known.container == attachment.container);
    let mut interfaces = same.map(|known| known.interfaces.clone()).unwrap_or_default();
    interfaces.insert(attachment.interface.clone(), interface);
    Sandbox { container: attachment.container.clone(), uid: attachment.uid.clone(), interfaces }
}

/// The pod without the interface that is to go, where it has another.
pub(super) fn rest(which: &PodSelector, member: &Member) -> Option<Member> {
    let PodSelector::Container { interface: Some(interface), .. } = which else { return None };
    let mut sandbox = member.sandbox.clone()?;
    sandbox.interfaces.remove(interface);
    let addresses = sandbox.addresses();
    (!sandbox.interfaces.is_empty()).then(|| Member { addresses, sandbox: Some(sandbox), ..member.clone() })
}
