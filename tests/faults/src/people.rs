//! The people's accounts, and whom they have as contacts from the beginning.

use std::time::Duration;

use futures::{StreamExt, stream};
use tandem_chassis::grpc::Channel;
use tandem_checker::What;
use tandem_proto::accounts::{
    ConnectRequest, UpsertRequest, provisioning_client::ProvisioningClient,
};

use crate::{Result, cast::Cast, record::Recorder};

/// Calls that are under way at once.
const AT_ONCE: usize = 8;

/// Creates everybody and connects the contacts; what fails is tried again for `patience`.
pub async fn provide(
    cast: &Cast,
    channel: &Channel,
    recorder: &Recorder,
    patience: Duration,
) -> Result<()> {
    let client = || ProvisioningClient::new(channel.clone());
    let upsert = |user: &str| {
        let request = UpsertRequest {
            user: user.to_owned(),
            ..UpsertRequest::default()
        };
        let mut client = client();
        async move { client.upsert(request).await.map(drop) }
    };
    let connect = |(a, b): (usize, usize)| {
        let address = |i: usize| cast.people[i].address.clone();
        let request = ConnectRequest {
            a: address(a),
            b: address(b),
        };
        let mut client = client();
        async move { client.connect(request).await.map(drop) }
    };
    let people = cast.people.iter();
    let people = people.map(|p| patiently(patience, move || upsert(&p.address)));
    all(people).await?;
    let since = recorder.now();
    let contacts = cast.contacts();
    all(contacts.map(|pair| patiently(patience, move || connect(pair)))).await?;
    for (a, b) in cast.contacts() {
        recorder.fact(What::Contacts {
            a: cast.people[a].address.clone(),
            b: cast.people[b].address.clone(),
            are: true,
            since,
        });
    }
    Ok(())
}

async fn all<F: Future<Output = Result<()>>>(calls: impl Iterator<Item = F>) -> Result<()> {
    let mut calls = stream::iter(calls).buffer_unordered(AT_ONCE);
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(())
}

async fn patiently<F>(patience: Duration, call: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = std::result::Result<(), tonic::Status>>,
{
    let mut last = String::new();
    let tried = async {
        while let Err(status) = call().await {
            status.message().clone_into(&mut last);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let tried = tokio::time::timeout(patience, tried).await;
    tried.map_err(|_| format!("accounts: {last}").into())
}
