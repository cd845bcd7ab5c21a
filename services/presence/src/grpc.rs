//! The gRPC service `Presence`.

use std::sync::Arc;

use tandem_chassis::grpc::status;
use tandem_proto::presence::{
    ChangedRequest, ChangedResponse, SnapshotRequest, SnapshotResponse, presence_server::Presence,
};
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    usecase::{Service, address},
};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Grpc(pub(crate) Arc<Service>);

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("presence.Grpc")
    }
}

fn failed(e: &Error) -> Status {
    match e {
        Error::Refused(code, text) => status(*code, text.clone()),
        // what is wrong inside is for the logs
        inside => {
            tracing::warn!(error = %inside, "a call failed");
            status(inside.code(), "presence cannot do this now")
        }
    }
}

#[tonic::async_trait]
impl Presence for Grpc {
    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        let SnapshotRequest { viewer, users } = request.get_ref();
        let presences = self
            .0
            .snapshot(viewer, users)
            .await
            .map_err(|e| failed(&e))?;
        Ok(Response::new(SnapshotResponse { presences }))
    }

    async fn changed(
        &self,
        request: Request<ChangedRequest>,
    ) -> Result<Response<ChangedResponse>, Status> {
        let users = request.get_ref().users.iter().map(|u| address(u));
        let users = users
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| failed(&e))?;
        self.0.note(users);
        Ok(Response::new(ChangedResponse {}))
    }
}
