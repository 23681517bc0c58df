//! What is mounted, as a file `mountinfo` of `/proc` says. `procfs-core` 0.18 leaves `\040` in paths, and refuses all
//! mounts where the name of one is no UTF-8.

use std::path::PathBuf;

/// A mount: a line of that file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// The device of its file system.
    pub(crate) device: &'a str,
    /// The part of the file system that is mounted.
    pub(crate) root: &'a str,
    /// Where.
    pub(crate) place: PathBuf,
    /// The type of the file system.
    pub(crate) kind: &'a str,
}

/// Every mount, in the file's order.
pub(crate) fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let (device, root, place) = (fields.next()?, fields.next()?, fields.next()?);
        let kind = system.split(' ').next()?;
        Some(Mount { device, root, place: unescape(place).into(), kind })
    })
}

/// Mount points have spaces as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mount() {
        let text = "39 25 0:34 /part /a\\040b rw,relatime shared:3 - cgroup2 cgroup2 rw\nno mount\n";
        let mount = Mount { device: "0:34", root: "/part", place: "/a b".into(), kind: "cgroup2" };
        assert_eq!(mounts(text).collect::<Vec<_>>(), [mount]);
    }
}
