//! Real proxies as sidecars and applications, each with a configuration of its own in a directory of its own.

mod dnsmasq;
mod envoy;
mod haproxy;
mod nginx;
mod redsocks;
mod squid;

pub use dnsmasq::Dnsmasq;
pub use envoy::Envoy;
pub use haproxy::HaProxy;
pub use nginx::{Nginx, NginxSidecar};
pub use redsocks::RedSocks;
pub use squid::Squid;
