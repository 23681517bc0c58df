//! A pod's own addresses, where they follow its interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use crate::attach::pod;
use crate::drift::Drift;
use crate::error::Result;
use crate::member::{Key, Member};
use crate::system::{Sources, SysError, SysResult, System};

/// This many addresses of a pod's interfaces count as its own: whoever may give itself addresses must not fill what
/// all pods' are kept in.
const FOLLOWED: usize = 1024;

/// The addresses of the interfaces in a network namespace, as far as they count.
pub(crate) fn followed(system: &impl System, netns: &Path) -> SysResult<Vec<IpAddr>> {
    let mut found = system.netns_addresses(netns)?;
    found.truncate(FOLLOWED);
    Ok(found)
}

/// A pod as it is, where its addresses are followed, and they or where its connections come from are not what is known
/// of it. One whose namespace has ended is for whoever sweeps.
pub(crate) fn moved(system: &impl System, member: &Member) -> Result<Option<Member>> {
    let (Key::Netns(cookie), Some(known)) = (member.key, &member.followed) else { return Ok(None) };
    let Some(netns) = pod::find(system, member, cookie)? else { return Ok(None) };
    let look = || Ok::<_, SysError>((followed(system, &netns)?, system.netns_sources(&netns)?));
    match look() {
        Ok((found, chosen)) => {
            let sources = Some(Sources::of(chosen, &found));
            let moved = found != *known || sources != member.sources;
            Ok(moved.then(|| Member { followed: Some(found), sources, ..member.clone() }))
        }
        // It ended just now.
        Err(cause) if cause.errno() == Some(libc::ENOENT) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// In what a pod's addresses are not those that are known of it. Addresses of one link come and go with it, and nobody
/// routes to them.
pub(crate) fn moves(system: &impl System, member: &Member) -> Result<Vec<Drift>> {
    let pod = || member.name.clone();
    let mut drift = Vec::new();
    if member.followed.as_ref().is_some_and(|known| known.len() >= FOLLOWED) {
        drift.push(Drift::PodAddressesMany { pod: pod(), own: FOLLOWED });
    }
    let Some(now) = moved(system, member)? else { return Ok(drift) };
    let of_a_link = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let set = |all: &[IpAddr]| all.iter().filter(|one| !of_a_link(one)).copied().collect::<BTreeSet<_>>();
    let (found, known) = (set(now.own()), set(member.own()));
    if found == known && now.sources != member.sources {
        drift.push(Drift::PodSourceChanged(pod()));
    }
    drift.extend(found.difference(&known).map(|&address| Drift::PodAddressAdded(pod(), address)));
    drift.extend(known.difference(&found).map(|&address| Drift::PodAddressLost(pod(), address)));
    Ok(drift)
}
