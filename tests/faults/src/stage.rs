//! Sets the stage: accounts, devices, groups, blocks and subscriptions, until everybody is ready to talk.

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, grpc::Channel, rng::Rng};
use tandem_client::TokenSource;

use crate::{
    Result,
    cast::Cast,
    device::{Device, Way},
    gateway::Gateway,
    people,
    record::Recorder,
    talk::Talk,
};

/// How long a step of the setting may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Gives a person's tokens.
pub type TokensOf = Box<dyn Fn(&str) -> Arc<dyn TokenSource> + Send + Sync>;

/// Where the suite is, for those who talk.
pub struct Ground {
    /// Clock, randomness and network of the machine.
    pub doors: Doors,
    /// The edges, `host:port`.
    pub edges: Vec<String>,
    /// Leads to accounts' provisioning.
    pub accounts: Channel,
    /// The people's tokens.
    pub tokens: TokensOf,
    /// Who takes notifications, and where push reaches them (`http://host:port`).
    pub gateway: Option<(Arc<Gateway>, String)>,
}

/// Brings everybody on.
pub async fn set(
    ground: &Ground,
    cast: Arc<Cast>,
    recorder: &Arc<Recorder>,
    rng: &Rng,
    lifecycle: &Lifecycle,
) -> Result<Arc<Talk>> {
    people::provide(&cast, &ground.accounts, recorder, PATIENCE).await?;
    let mut devices = Vec::new();
    for (p, person) in cast.people.iter().enumerate() {
        for (d, gadget) in person.gadgets.iter().enumerate() {
            let way = Way {
                doors: ground.doors.clone(),
                edges: ground.edges.clone(),
                tokens: (ground.tokens)(&person.address),
            };
            let whose = (person, gadget);
            devices.push(Device::connect(
                (p, d),
                whose,
                way,
                recorder,
                rng,
                lifecycle,
            )?);
        }
    }
    let talk = Talk::new(cast, devices, recorder.clone());
    talk.prepare(PATIENCE).await?;
    if let Some((gateway, origin)) = &ground.gateway {
        for device in talk.devices.iter().filter(|d| d.gadget.notified) {
            let token = gateway.subscribe(origin, device.who().clone(), rng)?;
            device.subscribe(token).await?;
        }
    }
    Ok(talk)
}
