//! What comes to pods and to services of the host, decided as the policy says.

use crate::fixtures::town::WAY;

mod decisions;
mod host_services;
mod lifetimes;
mod listeners;
mod model;
mod multicast;
mod nested_containers;
mod node;
mod tc;
mod transparent_sidecar;
