//! meshc on the real kernel: policies applied by the command itself, real connections, one behaviour a file.
//!
//! These tests know the command line and what a network sees, and nothing else of meshc, but for `model`, which
//! compares what the kernel does with what the compiled tables say. As root they run everywhere; where the kernel was promised (`MESHC_TEST_KERNEL=1`) they fail, not skip, without it.
#![cfg(target_os = "linux")]
#![expect(
    clippy::duplicate_mod,
    reason = "tests of inbound connections run once for each way to decide them"
)]

mod chain;
mod command;
mod random;
mod seen;
mod stage;
mod town;

mod accelerate;
mod addressed;
mod advice;
mod again;
mod agent;
mod answers;
mod bad_input;
mod boot;
mod bystander;
mod churn;
mod claimed;
mod cni;
mod crash;
mod cri;
mod crossed;
mod datagram;
mod denied;
mod detached;
mod device;
mod doctored;
mod excluded;
mod explained;
mod failures;
mod forms;
mod handover;
mod hostile;
mod hosts;
mod inbound;
mod installed;
mod jvm;
mod kept;
mod lasting;
mod leak;
mod links;
mod listeners;
mod model;
mod multipath;
mod nested;
mod observed;
mod offers;
mod own_source;
mod passed;
mod paused;
mod private;
mod proxies;
mod redirected;
mod refused;
mod reset;
mod resolvers;
mod route;
mod runtimes;
mod saturated;
mod selection;
mod sidecar;
mod sidecars;
mod source;
mod storm;
mod swap;
mod systemd;
mod unchanged;
mod unheard;
mod unmounted;

/// How the modules above have inbound connections decided; [`tc`] has the same tests the other way.
const WAY: &str = "sk_lookup";

mod tc;
