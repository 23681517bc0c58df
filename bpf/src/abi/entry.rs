//! From the program of a network namespace to the one that decides: as long as one packet is looked at.

constants! {
    /// Packets that may be on their way from a pod's program to the one that decides, on one CPU.
    TAIL_CALL_SLOTS: usize = 4;
    /// Stands in the program of a network namespace where whoever loads it writes the namespace's cookie.
    ENTRY_NETNS: u64 = u64::from_le_bytes(*b"netns\0\0\x7f");
}

layouts! {
    /// What the program of a pod leaves for the one that decides and to which it goes on, one a CPU. Both are called
    /// with the same context, so whoever interrupts between the two takes nothing that is not its own.
    struct TailCallSlots as "mesh_tail_call_slots" {
        /// Addresses of contexts; 0: free.
        context: [u64; TAIL_CALL_SLOTS],
        /// The cookies of the network namespaces that they are in.
        pod: [u64; TAIL_CALL_SLOTS],
    }
}
