//! Real proxies as sidecars and applications, each with a configuration of its own in a folder of its own.

mod dnsmasq;
mod haproxy;
mod nginx;

pub use dnsmasq::Dnsmasq;
pub use haproxy::HaProxy;
pub use nginx::Nginx;
