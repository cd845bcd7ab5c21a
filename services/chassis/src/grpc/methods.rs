//! What calls may be treated how: which methods are safe to send twice, and which carry streams.

/// Calling them twice is the same as calling them once: reads, and writes that set what they are given.
/// They carry no streams.
const IDEMPOTENT: [&str; 14] = [
    "/tandem.accounts.v1.Accounts/Find",
    "/tandem.accounts.v1.Accounts/PushTargets",
    "/tandem.accounts.v1.Accounts/Relations",
    "/tandem.accounts.v1.Provisioning/Close",
    "/tandem.accounts.v1.Provisioning/Connect",
    "/tandem.accounts.v1.Provisioning/Get",
    "/tandem.accounts.v1.Provisioning/Upsert",
    "/tandem.history.v1.History/Heads",
    "/tandem.history.v1.History/Lookup",
    "/tandem.history.v1.History/Page",
    "/tandem.presence.v1.Presence/Snapshot",
    "/tandem.push.v1.Push/ListDead",
    "/tandem.push.v1.Push/VapidKey",
    "/tandem.routing.v1.Routing/Members",
];

/// They carry streams, which last as long as they are of use.
const STREAMING: [&str; 5] = [
    "/tandem.accounts.v1.Provisioning/Import",
    "/tandem.client.v1.Messenger/Connect",
    "/tandem.edge.v1.Edge/Deliver",
    "/tandem.history.v1.History/Sync",
    "/tandem.routing.v1.Routing/Submit",
];

/// Whether a call of the method may be sent again though its first copy may have arrived.
pub(super) fn is_idempotent(path: &str) -> bool {
    IDEMPOTENT.contains(&path)
}

/// Whether the method's call, or its answer, is a stream.
pub(super) fn is_streaming(path: &str) -> bool {
    STREAMING.contains(&path)
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn the_methods_named_here_are_those_of_the_protocol() {
        let pool = DescriptorPool::decode(tandem_proto::DESCRIPTORS).unwrap();
        let mut idempotent = 0;
        for method in pool
            .services()
            .flat_map(|s| s.methods().collect::<Vec<_>>())
        {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let streams = method.is_client_streaming() || method.is_server_streaming();
            assert_eq!(is_streaming(&path), streams, "{path}");
            assert!(!(is_idempotent(&path) && streams), "{path}");
            idempotent += usize::from(is_idempotent(&path));
        }
        assert_eq!(idempotent, IDEMPOTENT.len(), "one is of no method");
    }
}
