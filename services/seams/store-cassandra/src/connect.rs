//! The session with the cluster.

use std::time::Duration;

use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    errors::NewSessionError,
    policies::load_balancing::DefaultPolicy,
    statement::{Consistency, SerialConsistency},
};
use tandem_chassis::Lifecycle;
use tandem_store::StoreError;

use crate::{Config, tls};

/// Between two attempts to connect, at first; twice as long each time, up to [`LONGEST`].
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(8);

/// How requests are carried out.
pub(crate) struct Profiles {
    /// Any replica may be asked.
    pub any: ExecutionProfileHandle,
    /// Of a partition's replicas the same is asked first each time: its clock orders changes that have no
    /// version, and conditional changes do not get in each other's way.
    pub steady: ExecutionProfileHandle,
}

impl Profiles {
    fn new(config: &Config) -> Self {
        let profile = |shuffle| {
            let mut policy = DefaultPolicy::builder()
                .token_aware(true)
                .permit_dc_failover(false)
                .enable_shuffling_replicas(shuffle);
            if !config.local_datacenter.is_empty() {
                policy = policy.prefer_datacenter(config.local_datacenter.clone());
            }
            // no speculative requests, and the driver's own timestamps are off unless asked for
            ExecutionProfile::builder()
                .consistency(Consistency::LocalQuorum)
                .serial_consistency(Some(SerialConsistency::LocalSerial))
                .request_timeout(Some(config.request_timeout()))
                .load_balancing_policy(policy.build())
                .build()
                .into_handle()
        };
        Self {
            any: profile(true),
            steady: profile(false),
        }
    }
}

/// Connects, however often it takes until the lifecycle stops.
pub(crate) async fn connect(
    config: &Config,
    lifecycle: &Lifecycle,
) -> Result<(Session, Profiles), StoreError> {
    let profiles = Profiles::new(config);
    let node_timeout = Duration::from_millis(config.node_timeout_ms);
    let mut builder = SessionBuilder::new()
        .known_nodes(config.contact_points())
        .default_execution_profile_handle(profiles.any.clone())
        .keyspaces_to_fetch([&config.keyspace])
        .connection_timeout(Duration::from_millis(config.connect_timeout_ms))
        .keepalive_interval(node_timeout)
        .keepalive_timeout(node_timeout)
        .tcp_nodelay(true);
    if !config.username.is_empty() {
        builder = builder.user(&config.username, &config.password);
    }
    if config.tls {
        let tls = tls::client(config).map_err(StoreError::Unavailable)?;
        builder = builder.tls_context(Some(tls));
    }
    let mut pause = PAUSE;
    let session = loop {
        let attempt = tokio::select! {
            attempt = builder.build() => attempt,
            () = lifecycle.stopped() => return Err(StoreError::Closed),
        };
        match attempt {
            Ok(session) => break session,
            Err(
                error @ (NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_)),
            ) => {
                return Err(StoreError::Unavailable(error.to_string()));
            }
            Err(error) => {
                tracing::warn!(
                    contact_points = config.contact_points,
                    %error,
                    again_in_ms = pause.as_millis() as u64,
                    "the store's cluster cannot be reached"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = lifecycle.stopped() => return Err(StoreError::Closed),
        }
        pause = LONGEST.min(pause * 2);
    };
    check_datacenter(config, &session)?;
    Ok((session, profiles))
}

/// A name that no node has would leave nobody to ask.
fn check_datacenter(config: &Config, session: &Session) -> Result<(), StoreError> {
    let state = session.get_cluster_state();
    let mut names: Vec<&str> = state
        .get_nodes_info()
        .iter()
        .filter_map(|node| node.datacenter.as_deref())
        .collect();
    names.sort_unstable();
    names.dedup();
    let local = config.local_datacenter.as_str();
    if !local.is_empty() && !names.contains(&local) {
        return Err(StoreError::Unavailable(format!(
            "cassandra.local_datacenter is {local:?}, but the cluster has {names:?}: set it to one of them"
        )));
    }
    if local.is_empty() && names.len() > 1 {
        tracing::warn!(
            ?names,
            "set cassandra.local_datacenter: requests go to all of these"
        );
    }
    Ok(())
}
