//! What members open: connections and datagrams, decided as the policy says.

use crate::fixtures::town::WAY;

mod address_forms;
mod address_selection;
mod bound_device;
mod bystander;
mod connection_state;
mod datagram;
mod datagram_servers;
mod denied;
mod excluded;
mod exemptions;
mod handover;
mod identities;
mod known_faults;
mod link_scope;
mod model;
mod mptcp;
mod passed_sockets;
mod policy_swaps;
mod reconnected;
mod redirected;
mod resolvers;
mod services;
mod simultaneous_open;
mod source_address;
mod source_route;
